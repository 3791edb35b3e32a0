// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"maps"

	"korat/api"
	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy/chain"
	"korat/policy/compile"
)

// packetFilter gives what policies ask of the packet filter. A pod's part of it is there from its ADD on, before its
// interface is made.
func (a *Agent) packetFilter(ctx context.Context) dataplane.Filter {
	families := []api.Family{api.IPv4}
	if a.world.host.HasIPv6() {
		families = api.Families()
	}
	f := a.memos.filter
	f.Families(families)
	a.chooseTables(ctx, families)
	f.Host(a.world.host, a.memos.host.number)
	if a.at.changed {
		objects, gone := a.memos.pods.update(a.Node, a.at.endpoints)
		f.Own(a.world.snap, objects)
		a.memos.leave(gone)
	}
	return a.memos.update()
}

// chooser is a table of chains that can go over to another backend.
type chooser interface {
	// Want says whether that is another backend than before, of which nothing is known yet.
	Want(backend string) (changed bool, err error)
}

// limited is a table of sets that can have more or fewer members.
type limited interface {
	// Limit says whether that is another limit than before, for which sets have to be made anew. 0 is the default.
	Limit(maxMembers int) (changed bool)
}

// grouping is a table of chains whose rules may be able to match link groups, in all of the families.
type grouping interface {
	Groups(ctx context.Context, families []api.Family) (able bool, err error)
}

// chooseTables takes over FelixConfiguration's iptablesBackend and maxIpsetSize.
func (a *Agent) chooseTables(ctx context.Context, families []api.Family) {
	var spec api.FelixConfigurationSpec
	if cfg, ok := a.world.snap.FelixConfigurations.Get(api.DefaultName); ok {
		spec = cfg.Spec
	}
	if table, ok := a.Tables.Sets.(limited); ok && table.Limit(spec.MaxIpsetSize) {
		a.steps[setsBefore].invalidate(kernel.Everything())
	}
	if table, ok := a.Tables.Chains.(chooser); ok {
		changed, err := table.Want(spec.IptablesBackend)
		if changed {
			a.steps[chainsStep].invalidate(kernel.Everything())
		}
		if err != nil {
			a.Log.Warn("packet filter", "error", err)
		}
	}
	if table, ok := a.Tables.Chains.(grouping); ok {
		a.report.begin("chains")
		able, err := table.Groups(ctx, families)
		a.report.begin("")
		if err != nil {
			a.Log.Warn("packet filter: ask whether rules can match link groups", "error", err)
			a.again()
			return
		}
		a.links().enable(able)
		a.memos.filter.Groups(able)
	}
}

// distrustful is a table of chains that can close those which look into sets that are not as they must be.
type distrustful interface {
	Distrust(sets map[string]error)
}

// filterStep are the chains. Those that look into a set which is not as it must be are closed until it is: what it
// lacks may be what a rule forbids. Where several of the kernel's tables change they do so in compile.Transition's order.
type filterStep struct {
	*tableStep[chain.Key, *chain.Chain]
	sets  *sets
	table reconcile.Table[chain.Key, *chain.Chain]
	// distrusting says that some are closed.
	distrusting bool
	// was are the chains that were wanted last, nil if they could not be written. missed says that more may differ from what is
	// wanted now than a State tells.
	was    map[chain.Key]*chain.Chain
	missed bool
	// failed are chains that could not be written: closed ones stand for them, whether anything still wants them or not.
	failed map[chain.Key]error
}

func (t *filterStep) due() bool {
	return t.tableStep.due() || t.distrusting || t.sets.unlike() != nil || len(t.sets.copied) > 0
}

func (t *filterStep) invalidate(n kernel.Notice) {
	t.missed = t.missed || n.Lost
	t.tableStep.invalidate(n)
}

func (t *filterStep) apply(ctx context.Context, s dataplane.State) (reconcile.Result, error) {
	var r reconcile.Result
	t.distrust(s)
	if err := t.approach(ctx, s, &r); err != nil {
		t.was, t.doubt = nil, true
		t.sets.invalidate()
		return r, err
	}
	var errs []error
	if len(t.sets.copied) > 0 {
		errs = append(errs, t.sets.follow(ctx))
		t.distrust(s)
	}
	if t.unwanted(s.Filter) {
		t.Step.Invalidate()
	}
	err := t.write(ctx, s, &r)
	if r.Read && t.distrusting && (err == nil || ofEntries(err)) {
		t.distrust(s) // what was read is in doubt no more
		err = t.write(ctx, s, &r)
	}
	t.wrote(s.Filter, err)
	return r, errors.Join(append(errs, err)...)
}

// write writes the chains as they are wanted.
func (t *filterStep) write(ctx context.Context, s dataplane.State, r *reconcile.Result) error {
	result, err := t.tableStep.apply(ctx, s)
	r.Add(result)
	clear(t.failed)
	t.fail(err)
	return err
}

// fail notes the chains that an error names.
func (t *filterStep) fail(err error) {
	failed, _ := reconcile.Failures[chain.Key](err)
	maps.Copy(t.failed, failed)
}

// unwanted says whether nothing wants some of the chains that could not be written.
func (t *filterStep) unwanted(f dataplane.Filter) bool {
	for k := range t.failed {
		if f.Chains[k] == nil {
			return true
		}
	}
	return false
}

// distrust closes what looks into sets that are not as they must be.
func (t *filterStep) distrust(s dataplane.State) {
	unlike := t.sets.unlike()
	if table, ok := t.table.(distrustful); ok && (unlike != nil || t.distrusting) {
		t.distrusting = unlike != nil
		table.Distrust(unlike)
		t.Touch(func(k chain.Key, _ *chain.Chain) bool { return looksInto(s.Filter.Chains[k], unlike) })
	}
}

// approach writes the chains that are needed on the way to those that are wanted. If that fails as a whole, the next pass goes
// there directly, and finds copies of sets that nothing wants. What fails of single chains is tried again with those that are wanted.
func (t *filterStep) approach(ctx context.Context, s dataplane.State, r *reconcile.Result) error {
	for _, chains := range t.way(s.Filter) {
		result, err := t.Step.Apply(ctx, chains, nil)
		r.Add(result)
		if err != nil && !ofEntries(err) {
			return err
		}
		t.fail(err)
	}
	return nil
}

// way gives the chains that are needed in between where several tables change, and where sets change with the chains: then they
// look into copies of the sets at last, so that all change at one moment.
func (t *filterStep) way(f dataplane.Filter) []map[chain.Key]*chain.Chain {
	want, changed, copies := f.Chains, f.ChangedChains, t.sets.copies()
	if len(copies) > 0 {
		want = maps.Clone(want)
		for key, c := range f.Chains {
			if elsewhere := c.Elsewhere(copies); elsewhere != nil {
				want[key] = elsewhere
			}
		}
	}
	var states []map[chain.Key]*chain.Chain
	if t.was != nil {
		if len(copies) > 0 || t.missed {
			changed = reconcile.Compare(want, t.was, nil).Keys()
		}
		states = compile.Transition(t.was, want, changed)
	}
	if len(copies) > 0 {
		states = append(states, want)
	}
	return states
}

// wrote notes that the chains were written, unless err says otherwise.
func (t *filterStep) wrote(f dataplane.Filter, err error) {
	switch {
	case err != nil && !ofEntries(err):
		t.was = nil
	case t.was == nil || t.missed:
		t.was, t.missed = maps.Clone(f.Chains), false
	default:
		for _, k := range f.ChangedChains {
			if c := f.Chains[k]; c != nil {
				t.was[k] = c
			} else {
				delete(t.was, k)
			}
		}
	}
}

// looksInto says whether a chain, if there is one, has a rule with one of the sets.
func looksInto(c *chain.Chain, sets map[string]error) bool {
	if c == nil {
		return false
	}
	for name := range c.Sets {
		if sets[name] != nil {
			return true
		}
	}
	return false
}
