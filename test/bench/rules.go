// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"

	"korat/felix/kernel"
	"korat/test/bench/guest"
	"korat/test/lab"
)

// rulesChanges are made of each kind. Both sides have rulesRest after each.
const rulesChanges = 25

func inputs() []guest.Input {
	return []guest.Input{
		{Endpoints: 100, Policies: 100, Groups: 10},
		{Endpoints: 500, Policies: 500, Groups: 50},
		{Endpoints: 1000, Policies: 5000, Groups: 100},
	}
}

// rules compares what a change of an endpoint or of a policy costs on its way into the packet filter with what
// iptables-restore costs that is started to write the same chains.
func rules(ctx context.Context, s *Suite) (rows []Row, err error) {
	all := inputs()
	for _, b := range []struct {
		kernel.Backend
		inputs []guest.Input
	}{
		{kernel.NFT, all},
		{kernel.Legacy, all[:2]}, // which takes a second for each change of a table of 40,000 rules
	} {
		for i, in := range b.inputs {
			cfg := guest.FilterConfig{Input: in, Backend: b.Backend}
			more, err := s.rulesOf(ctx, fmt.Sprintf("rules%s%d", b.Backend, i), cfg)
			rows = append(rows, more...)
			if err != nil {
				return rows, fmt.Errorf("%s, %s: %w", b.Backend, in, err)
			}
		}
	}
	return rows, nil
}

// rulesOf does it for one input. Each side has a host of its own.
func (s *Suite) rulesOf(ctx context.Context, name string, cfg guest.FilterConfig) (rows []Row, err error) {
	l, err := lab.New(ctx, s.config(name))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var sides [2]*guest.Guest
	for i := range sides {
		h, err := l.Host(ctx, lab.HostConfig{Name: fmt.Sprintf("side%d", i)})
		if err != nil {
			return nil, err
		}
		if sides[i], err = s.guest(ctx, h); err != nil {
			return nil, err
		}
		if err := sides[i].Call(ctx, "Filter.Begin", cfg, nil); err != nil {
			return nil, err
		}
	}
	if err := sides[1].Call(ctx, "Filter.End", guest.Nothing{}, nil); err != nil {
		return nil, err
	}
	s.say("rules: %s: %d changes of each kind with %s there", cfg.Backend, rulesChanges, cfg.Input)
	for _, kind := range []struct{ method, name string }{
		{"Filter.Endpoint", "an endpoint added"}, {"Filter.Policy", "a policy changed"},
	} {
		ours, fork, err := changesOf(ctx, sides, cfg.Backend, kind.method)
		if err != nil {
			return rows, err
		}
		rows = append(rows,
			Medians(fmt.Sprintf("CPU of %s, %s there, %s, to iptables-restore started for it", kind.name, cfg.Input, cfg.Backend), ours.cpu, fork.cpu, 0.3),
			Medians("  time to kernel", ours.wall, fork.wall, 0))
		if cfg.Input == inputs()[0] {
			rows = append(rows, Below("  the CPU by itself", "ms", ours.cpu.Quantile(0.5), 5))
		}
	}
	return rows, nil
}

// changesOf gives what changes of one kind cost us, and a fork that writes the same.
func changesOf(ctx context.Context, sides [2]*guest.Guest, b kernel.Backend, method string) (ours, fork costs, err error) {
	for i := range rulesChanges + 1 {
		var changed guest.Changed
		if err := sides[0].Call(ctx, method, guest.Nothing{}, &changed); err != nil {
			return ours, fork, err
		}
		var cost guest.Cost
		if err := sides[1].Call(ctx, "Fork.Restore", guest.ForkConfig{Backend: b, Text: changed.Text}, &cost); err != nil {
			return ours, fork, err
		}
		if i > 0 { // the first one of each kind makes acquaintances
			ours.add(changed.Cost)
			fork.add(cost)
		}
	}
	return ours, fork, nil
}
