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

// rulesChanges are made of each kind.
const rulesChanges = 25

func inputs() []guest.Input {
	return []guest.Input{
		{Endpoints: 100, Policies: 100, Groups: 10},
		{Endpoints: 500, Policies: 500, Groups: 50},
		{Endpoints: 1000, Policies: 5000, Groups: 100},
	}
}

// rules compares what a change of an endpoint or of a policy costs on its way into the packet filter with what
// iptables-restore costs that is started for it: to write the same chains, and to write Felix's among Felix's.
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

// rivals are who writes the same changes, each on a host of its own.
type rivals struct {
	guest.FilterConfig
	ours, same, felix *guest.Guest
	// rules is how many Felix makes.
	rules int
}

// rulesOf does it for one input.
func (s *Suite) rulesOf(ctx context.Context, name string, cfg guest.FilterConfig) (rows []Row, err error) {
	l, err := lab.New(ctx, s.config(name))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	r := rivals{FilterConfig: cfg}
	for name, g := range map[string]**guest.Guest{"ours": &r.ours, "same": &r.same, "felix": &r.felix} {
		h, err := l.Host(ctx, lab.HostConfig{Name: name})
		if err != nil {
			return nil, err
		}
		if *g, err = s.guest(ctx, h); err != nil {
			return nil, err
		}
	}
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	s.say("rules: %s: %d changes of each kind with %s there, of which Felix makes %d rules", cfg.Backend, rulesChanges, cfg.Input, r.rules)
	for _, kind := range []struct{ method, name string }{{"Endpoint", "an endpoint added"}, {"Policy", "a policy changed"}} {
		more, err := r.compare(ctx, kind.method, fmt.Sprintf("CPU of %s, %s there, %s", kind.name, cfg.Input, cfg.Backend))
		rows = append(rows, more...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// begin writes what there is before the changes.
func (r *rivals) begin(ctx context.Context) error {
	return errors.Join(
		r.ours.Call(ctx, "Filter.Begin", r.FilterConfig, nil),
		r.same.Call(ctx, "Filter.Begin", r.FilterConfig, nil),
		r.same.Call(ctx, "Filter.End", guest.Nothing{}, nil),
		r.felix.Call(ctx, "Calico.Begin", r.FilterConfig, &r.rules),
	)
}

// compare gives the rows of one kind of change.
func (r *rivals) compare(ctx context.Context, kind, name string) ([]Row, error) {
	cost, err := r.changes(ctx, kind)
	if err != nil {
		return nil, err
	}
	ours, same, felix := cost.ours, cost.same, cost.felix
	var rows []Row
	if len(same.cpu) > 0 {
		rows = append(rows,
			Medians(name+", to iptables-restore started for the same text", ours.cpu, same.cpu, 0.3),
			Medians("  time to kernel", ours.wall, same.wall, 0))
	}
	rows = append(rows,
		Medians(fmt.Sprintf("%s, to iptables-restore started for Felix's text among Felix's %d rules", name, r.rules), ours.cpu, felix.cpu, 0.3),
		Medians("  time to kernel", ours.wall, felix.wall, 0))
	if r.Input == inputs()[0] {
		rows = append(rows, Below("  the CPU by itself", "ms", ours.cpu.Quantile(0.5), 5))
	}
	return rows, nil
}

// rivalCosts are what the same changes cost us and both baselines.
type rivalCosts struct{ ours, same, felix costs }

// changes gives what changes of one kind cost us, a fork that writes the same, and one that writes what Felix does. Where
// our chains stay as they are, nobody writes the same.
func (r *rivals) changes(ctx context.Context, kind string) (all rivalCosts, err error) {
	for i := range rulesChanges + 1 {
		var changed guest.Changed
		var fork, theirs guest.Cost
		err := r.ours.Call(ctx, "Filter."+kind, guest.Nothing{}, &changed)
		if err == nil && changed.Text != "" {
			err = r.same.Call(ctx, "Fork.Restore", guest.ForkConfig{Backend: r.Backend, Text: changed.Text}, &fork)
		}
		if err == nil {
			err = r.felix.Call(ctx, "Calico."+kind, guest.Nothing{}, &theirs)
		}
		if err != nil {
			return rivalCosts{}, err
		}
		if i > 0 { // the first one of each kind makes acquaintances
			all.ours.add(changed.Cost)
			if changed.Text != "" {
				all.same.add(fork)
			}
			all.felix.add(theirs)
		}
	}
	return all, nil
}
