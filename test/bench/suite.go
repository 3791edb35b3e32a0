// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"korat/test/bench/guest"
	"korat/test/lab"
)

// Suite is what every benchmark works with.
type Suite struct {
	// BinDir has the programs, Dir gets logs.
	BinDir, Dir string
	// Out gets lines that say how far things are.
	Out io.Writer
	// Run picks benchmarks by name; nil means all.
	Run *regexp.Regexp
}

// benchmark is one of the suite's.
type benchmark struct {
	name string
	// limit bounds it; it is only there to end one that hangs.
	limit time.Duration
	run   func(context.Context, *Suite) ([]Row, error)
}

func benchmarks() []benchmark {
	return []benchmark{
		{"cni", 3 * time.Minute, cni},
		{"routes", time.Minute, routes},
		{"propagation", 3 * time.Minute, propagation},
		{"footprint", 4 * time.Minute, footprint},
		{"scale", 4 * time.Minute, scale},
		{"rules", 4 * time.Minute, rules},
		{"policies", 6 * time.Minute, policies},
		{"members", 2 * time.Minute, members},
		{"packets", 3 * time.Minute, packets},
	}
}

// Rows runs the picked benchmarks, one after the other. Those that fail don't keep the others from
// running.
func (s *Suite) Rows(ctx context.Context) ([]Row, error) {
	if err := findBird(); err != nil {
		return nil, err
	}
	var rows []Row
	var errs []error
	var names []string
	for _, b := range benchmarks() {
		names = append(names, b.name)
		if s.Run != nil && !s.Run.MatchString(b.name) {
			continue
		}
		began := time.Now()
		s.say("%s", b.name)
		limited, cancel := context.WithTimeout(ctx, b.limit)
		more, err := b.run(limited, s)
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", b.name, err))
		}
		rows = append(rows, more...)
		s.say("%s: done after %.0f s", b.name, time.Since(began).Seconds())
	}
	if len(rows) == 0 && len(errs) == 0 {
		return nil, fmt.Errorf("no benchmark matches %q: there are %s", s.Run, strings.Join(names, ", "))
	}
	return rows, errors.Join(errs...)
}

func (s *Suite) say(format string, args ...any) {
	fmt.Fprintf(s.Out, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// config is for a lab of a benchmark's own.
func (s *Suite) config(name string) lab.Config {
	return lab.Config{BinDir: s.BinDir, Dir: filepath.Join(s.Dir, name)}
}

// cluster makes hosts with agents that are ready.
func (s *Suite) cluster(ctx context.Context, name string, hosts int) (*lab.Cluster, error) {
	c, err := lab.NewCluster(ctx, lab.ClusterConfig{Config: s.config(name), Hosts: hosts})
	if err != nil {
		return nil, err
	}
	if err = c.StartAgents(); err == nil {
		err = c.WaitReady(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// guest starts a guest whose complaints become lines of the output.
func (s *Suite) guest(ctx context.Context, h *lab.Host) (*guest.Guest, error) {
	return guest.Start(ctx, h, s.Out)
}

// guests starts one on each host.
func (s *Suite) guests(ctx context.Context, hosts ...*lab.Host) ([]*guest.Guest, error) {
	var all []*guest.Guest
	for _, h := range hosts {
		g, err := s.guest(ctx, h)
		if err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, nil
}

// lone is a host in a lab of its own, with a guest.
type lone struct {
	*lab.Host
	lab   *lab.Lab
	guest *guest.Guest
}

// lone makes one. The caller closes it.
func (s *Suite) lone(ctx context.Context, name string, address netip.Prefix) (_ *lone, err error) {
	l, err := lab.New(ctx, s.config(name))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	lan, err := l.Switch(ctx, "lan")
	if err != nil {
		return nil, err
	}
	h, err := l.Host(ctx, lab.HostConfig{Name: "one", Interfaces: []lab.Interface{{Switch: lan, Address: address}}})
	if err != nil {
		return nil, err
	}
	g, err := s.guest(ctx, h)
	return &lone{h, l, g}, err
}

func (l *lone) close() error { return l.lab.Close() }

// speaker is the process of a host's speaker.
func speaker(h *lab.Host) (int, error) {
	pids := h.Pids("korat-node", "speaker")
	if len(pids) != 1 {
		return 0, fmt.Errorf("host %s: speakers %v, want one", h.Name, pids)
	}
	return pids[0], nil
}
