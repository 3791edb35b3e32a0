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
// lacks may be what a rule forbids.
type filterStep struct {
	*tableStep[chain.Key, *chain.Chain]
	sets  *sets
	table reconcile.Table[chain.Key, *chain.Chain]
	// distrusting says that some are closed.
	distrusting bool
}

func (t *filterStep) due() bool {
	return t.tableStep.due() || t.distrusting || t.sets.unlike() != nil || len(t.sets.copied) > 0
}

func (t *filterStep) apply(ctx context.Context, s dataplane.State) (reconcile.Result, error) {
	t.distrust(s)
	if copies := t.sets.copies(); len(copies) > 0 {
		return t.goOver(ctx, s, copies)
	}
	return t.tableStep.apply(ctx, s)
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

// goOver writes chains that look into copies of sets, so that all change at one moment, then the sets themselves, and then
// the chains as they are wanted. If that fails half-way, the next pass finds copies that nothing wants.
func (t *filterStep) goOver(ctx context.Context, s dataplane.State, copies map[string]string) (reconcile.Result, error) {
	meanwhile := maps.Clone(s.Filter.Chains)
	for key, c := range s.Filter.Chains {
		if elsewhere := c.Elsewhere(copies); elsewhere != nil {
			meanwhile[key] = elsewhere
		}
	}
	result, err := t.Step.Apply(ctx, meanwhile, nil)
	if t.doubt = err != nil; err != nil && !ofEntries(err) {
		t.sets.invalidate()
		return result, err
	}
	errs := []error{err, t.sets.follow(ctx)}
	t.distrust(s)
	last, err := t.tableStep.apply(ctx, s)
	result.Set, result.Deleted, result.Failed = result.Set+last.Set, result.Deleted+last.Deleted, last.Failed
	t.doubt = t.doubt || errs[0] != nil
	return result, errors.Join(append(errs, err)...)
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
