// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"korat/test/lab"
)

// limit bounds everything that is waited for.
const limit = 90 * time.Second

// Config says what to bring up.
type Config struct {
	lab.ClusterConfig
	// Pods per host.
	Pods int
	// Out is where everything is printed.
	Out io.Writer
}

// Up makes a cluster and attaches its pods, each host's as soon as its agent is ready, and waits until
// all sessions are up and pods of neighbouring hosts reach each other. It prints a line for each step.
// The cluster is nil if there is an error.
func Up(ctx context.Context, config Config) (*lab.Cluster, error) {
	c, _, err := up(ctx, config)
	if err != nil && c != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, err
}

// Run is Up, and then shows everything, and policies at work. An error that comes with a cluster says that a ping failed,
// or that a connection was not as the policies say.
func Run(ctx context.Context, config Config) (*lab.Cluster, error) {
	c, watch, err := up(ctx, config)
	if c == nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// What did not come up in time shows best as what it is: a hole in the matrix.
	return c, errors.Join(err, show(ctx, config.Out, c, watch), play(ctx, config.Out, c))
}

// up returns a cluster whenever all of its pods could be attached.
func up(ctx context.Context, config Config) (*lab.Cluster, *stopwatch, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := hosts(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	watch, err := newStopwatch(ctx, c)
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	defer watch.stop()
	began := time.Now()
	if err := start(ctx, config, c, watch.ready); err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	fmt.Fprintf(config.Out, "%d agents ready, with %d pods each (%.1f s)\n", len(c.Agents), config.Pods, time.Since(began).Seconds())
	began = time.Now()
	if err := watch.measure(ctx); err != nil {
		return c, watch, err
	}
	fmt.Fprintf(config.Out, "all BGP sessions up, first pings answered (%.1f s)\n", time.Since(began).Seconds())
	return c, watch, nil
}

// hosts makes the hosts.
func hosts(ctx context.Context, config Config) (*lab.Cluster, error) {
	began := time.Now()
	c, err := lab.NewCluster(ctx, config.ClusterConfig)
	if err != nil {
		return nil, err
	}
	n := len(c.Hosts())
	fmt.Fprintf(config.Out, "%d hosts on a switch (%.1f s)\n", n, time.Since(began).Seconds())
	return c, nil
}

// start starts the agents and attaches the pods. ready is called when a host's agent is.
func start(ctx context.Context, config Config, c *lab.Cluster, ready func(*lab.Host)) error {
	if err := c.StartAgents(); err != nil {
		return err
	}
	errs := make([]error, len(c.Agents))
	var all sync.WaitGroup
	for i, agent := range c.Agents {
		all.Go(func() {
			if errs[i] = agent.WaitReady(ctx); errs[i] != nil {
				return
			}
			ready(agent.Host)
			errs[i] = attach(ctx, agent.Host, config.Pods, len(c.Agents) > 1 && i == len(c.Agents)-1)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// attach adds pods a1, a2… to host a.
func attach(ctx context.Context, h *lab.Host, pods int, last bool) error {
	for i := range pods {
		if _, err := h.AddPod(ctx, lab.PodConfig{Name: fmt.Sprintf("%s%d", h.Name, i+1), Labels: labels(i, last)}); err != nil {
			return err
		}
	}
	return nil
}
