// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"korat/api"
	"korat/test/bench/guest"
	"korat/test/lab"
)

const (
	scaleNodes, scalePodsPerNode = 10_000, 10
	// scaleChanges are made one by one. The agent has scaleRest after it is done with one, so that each is
	// a pass of its own.
	scaleChanges = 100
	scaleRest    = 20 * time.Millisecond
	scaleSettle  = 1500 * time.Millisecond
)

// scaleAddress is the node's; the simulated nodes have others of its subnet.
var scaleAddress = netip.MustParsePrefix("172.20.255.1/16")

// scale measures an agent whose cluster is large, while next to nothing of it concerns its own node.
func scale(ctx context.Context, s *Suite) (rows []Row, err error) {
	h, err := s.lone(ctx, "scale", scaleAddress)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	var url string
	if err := h.guest.Call(ctx, "Etcd.Serve", "/var/lib/korat/etcd", &url); err != nil {
		return nil, err
	}
	s.say("scale: filling etcd with %d nodes, blocks and affinities and %d endpoints", scaleNodes, scaleNodes*scalePodsPerNode)
	if err := h.guest.Call(ctx, "Etcd.Fill", guest.Crowd{Nodes: scaleNodes, PodsPerNode: scalePodsPerNode}, nil); err != nil {
		return nil, err
	}
	s.say("scale: starting the agent")
	agent, err := h.StartAgent("--datastore=etcd", "--etcd-endpoints="+url, "--no-default-pool")
	if err != nil {
		return nil, err
	}
	if err := agent.WaitReady(ctx); err != nil {
		return nil, err
	}
	rows = append(rows, Below("from start to ready in a large cluster", "s", time.Since(agent.Started).Seconds(), 10))
	// It reads on: what it mirrors, and which blocks are free.
	if err := quiet(ctx, scaleSettle, agent.PID); err != nil {
		return rows, err
	}
	more, err := memory(agent.PID)
	if err != nil {
		return rows, err
	}
	rows = append(rows, more...)
	for _, kind := range []api.Kind{api.KindWorkloadEndpoint, api.KindIPAMBlock} {
		s.say("scale: %d changes of a %s", scaleChanges, kind)
		row, err := s.changes(ctx, h.guest, agent, kind)
		if err != nil {
			return rows, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func memory(pid int) ([]Row, error) {
	rss, err := Memory("VmRSS", pid)
	if err != nil {
		return nil, err
	}
	peak, err := Memory("VmHWM", pid)
	return []Row{
		Below("RSS of the agent then", "MB", rss, 300),
		Below("  its peak until then", "MB", peak, 0),
	}, err
}

// changes measures what one change that is none of this node's business costs its agent, which makes a pass for each
// of them.
func (s *Suite) changes(ctx context.Context, g *guest.Guest, agent *lab.Agent, kind api.Kind) (Row, error) {
	passes, err := metric(ctx, agent.Host, "korat_passes_total")
	if err != nil {
		return Row{}, err
	}
	if err := quiet(ctx, scaleRest, agent.PID); err != nil {
		return Row{}, err
	}
	before, err := guest.CPU(agent.PID)
	if err != nil {
		return Row{}, err
	}
	for i := range scaleChanges {
		if err := g.Call(ctx, "Etcd.Change", guest.Change{Kind: kind, Node: i}, nil); err != nil {
			return Row{}, err
		}
		if err := quiet(ctx, scaleRest, agent.PID); err != nil {
			return Row{}, err
		}
	}
	after, err := guest.CPU(agent.PID)
	if err != nil {
		return Row{}, err
	}
	now, err := metric(ctx, agent.Host, "korat_passes_total")
	if err != nil {
		return Row{}, err
	}
	made := now - passes
	s.say("scale: %.1f passes of the agent for each", made/scaleChanges)
	if made < scaleChanges*9.0/10 {
		return Row{}, fmt.Errorf("%d changes of a %s made only %v passes: too close together to tell what one costs", scaleChanges, kind, made)
	}
	name := fmt.Sprintf("CPU of the agent for one change of a %s elsewhere", kind)
	return Below(name, "ms", Milliseconds(after-before)/scaleChanges, 1), nil
}
