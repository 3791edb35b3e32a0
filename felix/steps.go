// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy"
	"korat/policy/chain"
)

// Tables are the kernel's tables that we write.
type Tables struct {
	Links      reconcile.Table[string, dataplane.Link]
	Sysctls    reconcile.Table[string, dataplane.SysctlValue]
	Sets       SetTable
	Chains     reconcile.Table[chain.Key, *chain.Chain]
	Neighbours reconcile.Table[dataplane.NeighbourKey, dataplane.Neighbour]
	Routes     reconcile.Table[dataplane.RouteKey, dataplane.Route]
}

// newSteps lists the kernel's tables in the order in which they are written: what a pod needs to be
// handled rightly comes before what makes it reachable. A set is there before the rules that name it, and loses
// members and goes after they do. So is an interface's group what rules lead from, and written after them.
func newSteps(t Tables) []step {
	sets := newSets(t.Sets)
	return []step{
		&tableStep[string, dataplane.SysctlValue]{
			Step: reconcile.NewStep("sysctls", t.Sysctls),
			want: func(s dataplane.State) map[string]dataplane.SysctlValue { return s.Sysctls },
			any:  kernel.Notice.TouchesSysctls,
			one:  kernel.Notice.TouchesSysctl,
		},
		setsStep{sets: sets, name: "sets"},
		&filterStep{sets: sets, table: t.Chains, failed: map[chain.Key]error{}, tableStep: &tableStep[chain.Key, *chain.Chain]{
			Step:    reconcile.NewStep("chains", t.Chains),
			want:    func(s dataplane.State) map[chain.Key]*chain.Chain { return s.Filter.Chains },
			changed: func(s dataplane.State) []chain.Key { return s.Filter.ChangedChains },
			any:     kernel.Notice.TouchesChains,
			more:    kernel.Notice.TouchesChains,
		}},
		setsStep{sets: sets, name: "sets, what is not needed any more", last: true},
		&linksStep{tableStep: &tableStep[string, dataplane.Link]{
			Step: reconcile.NewStep("links", t.Links),
			want: func(s dataplane.State) map[string]dataplane.Link { return s.Links },
			keep: func(dataplane.State) func(string, dataplane.Link) bool { return keepLink },
			any:  kernel.Notice.TouchesLinks,
			one:  kernel.Notice.TouchesLink,
		}},
		&tableStep[dataplane.NeighbourKey, dataplane.Neighbour]{
			Step: reconcile.NewStep("neighbours", t.Neighbours),
			want: func(s dataplane.State) map[dataplane.NeighbourKey]dataplane.Neighbour { return s.Neighbours },
			any:  kernel.Notice.TouchesNeighbours,
			one:  kernel.Notice.TouchesNeighbour,
		},
		&tableStep[dataplane.RouteKey, dataplane.Route]{
			Step: reconcile.NewStep("routes", t.Routes),
			want: func(s dataplane.State) map[dataplane.RouteKey]dataplane.Route { return s.Routes },
			keep: func(s dataplane.State) func(dataplane.RouteKey, dataplane.Route) bool { return s.Keep },
			any:  kernel.Notice.TouchesRoutes,
			one:  kernel.Notice.TouchesRoute,
			more: kernel.Notice.UnknownRoutes,
		},
	}
}

// Where parts of newSteps' list begin: what hangs on interfaces, the packet filter, interfaces, neighbours and routes.
const (
	setsBefore = 1
	chainsStep = 2
	linksAt    = 4
	routesStep = 6
)

// ofFilter says whether a step is one of the packet filter's.
func ofFilter(i int) bool { return setsBefore <= i && i < linksAt }

// step is one kernel table of any type.
type step interface {
	Name() string
	apply(ctx context.Context, s dataplane.State) (reconcile.Result, error)
	invalidate(n kernel.Notice)
	// due says that the table may differ from what was wanted of it last.
	due() bool
	// owes makes it due: it was wanted less of than there is to want.
	owes()
}

type tableStep[K comparable, V reconcile.Value[V]] struct {
	*reconcile.Step[K, V]
	want func(dataplane.State) map[K]V
	// keep gives what must stay although it is not wanted; nil keeps nothing.
	keep func(dataplane.State) func(K, V) bool
	// changed gives the keys of what is not as it was in the last State, of a want that is one map for ever; nil
	// if each State has a map of its own.
	changed func(dataplane.State) []K
	// any says whether a notice concerns the table at all, and one whether it concerns an entry.
	any func(kernel.Notice) bool
	one func(kernel.Notice, K, V) bool
	// more says whether there may be entries of ours that are not remembered; nil if only losses mean that.
	more func(kernel.Notice) bool
	// doubt is set by what may have changed the table, and by a failure.
	doubt bool
}

func (t *tableStep[K, V]) apply(ctx context.Context, s dataplane.State) (reconcile.Result, error) {
	result, err := t.write(ctx, s)
	t.doubt = err != nil
	return result, err
}

func (t *tableStep[K, V]) write(ctx context.Context, s dataplane.State) (reconcile.Result, error) {
	if t.changed != nil {
		return t.Step.ApplyChanged(ctx, t.want(s), t.changed(s))
	}
	var keep func(K, V) bool
	if t.keep != nil {
		keep = t.keep(s)
	}
	return t.Step.Apply(ctx, t.want(s), keep)
}

func (t *tableStep[K, V]) due() bool { return t.doubt }

func (t *tableStep[K, V]) owes() { t.doubt = true }

func (t *tableStep[K, V]) invalidate(n kernel.Notice) {
	t.doubt = t.doubt || n.Lost || t.any(n)
	switch {
	case n.Lost || t.more != nil && t.more(n):
		t.Step.Invalidate()
	case t.any(n):
		t.Step.Touch(func(k K, v V) bool { return t.one(n, k, v) })
	}
}

// keepLink keeps every link: the plugin removes them.
func keepLink(string, dataplane.Link) bool { return true }

func invalidate(steps []step, n kernel.Notice) {
	for _, s := range steps {
		s.invalidate(n)
	}
}

// sets gives the table of sets, which two of the steps are.
func (a *Agent) sets() *sets { return a.steps[setsBefore].(setsStep).sets }

// applyAll writes every table, or those that are in doubt if the state is the one of the last pass. A
// failing table does not keep the next from being written. But while the packet filter as a whole can't be written,
// no pod becomes reachable of which the policy has never been in the kernel, and what is there of the filter stays as it
// is: chains were made for the sets that are there, and sets that change would change what the chains mean.
func (a *Agent) applyAll(ctx context.Context, state dataplane.State, fresh bool) error {
	if state.Filter.Changed() {
		a.Revoker.Supersede()
	}
	closed, less := false, false
	errs := []error{a.enroll(ctx, state)}
	for i, s := range a.steps {
		if closed && a.waits(ctx, i) {
			s.invalidate(kernel.Everything())
			continue
		}
		if i == linksAt {
			state, less = a.reachable(state, closed)
		}
		if !fresh && !less && !s.due() {
			continue
		}
		err := a.applyStep(ctx, i, state)
		errs = append(errs, err)
		closed = closed || closes(i, err)
		if less {
			s.owes()
		}
	}
	a.memos.written = !closed
	a.memos.complete = a.memos.complete || !closed
	return errors.Join(errs...)
}

// reachable gives the state with no pod of which the policy has never been in the kernel, and says whether it left some out.
// Interfaces then keep the groups that they have: the rules may be those for these.
func (a *Agent) reachable(state dataplane.State, closed bool) (dataplane.State, bool) {
	if !closed {
		a.at.police()
		return state, false
	}
	state, less := a.at.policed(state)
	links := a.links().regroup(state.Links, func(string) bool { return false })
	if !maps.Equal(links, state.Links) {
		state.Links, less = links, true
	}
	return state, less
}

func (a *Agent) applyStep(ctx context.Context, i int, state dataplane.State) error {
	s := a.steps[i]
	a.report.begin(s.Name())
	result, err := s.apply(ctx, state)
	a.report.begin("")
	a.report.applied(s.Name(), result, err)
	if ofFilter(i) && result.Read && result.Set+result.Deleted > 0 {
		a.memos.owed.Affected.All = true // somebody else's changes may have let flows begin
	}
	if err != nil {
		return fmt.Errorf("step %s: %w", s.Name(), err)
	}
	return nil
}

// closes says whether a step's error is one of the packet filter as a whole.
func closes(i int, err error) bool { return err != nil && ofFilter(i) && !ofEntries(err) }

// waits says whether a step is left out because one of the packet filter's before it could not be done. On a host that has
// never had all of the filter, or that somebody has taken all chains from, chains do not wait for sets: those that need
// none are better than none.
func (a *Agent) waits(ctx context.Context, i int) bool {
	if i != chainsStep {
		return ofFilter(i)
	}
	if a.memos.complete {
		have, err := a.Tables.Chains.Read(ctx)
		a.memos.complete = err != nil || slices.ContainsFunc(slices.Collect(maps.Keys(have)), func(k chain.Key) bool { return !k.Own() })
	}
	return a.memos.complete
}

// ofEntries says that an error is of single chains or sets: all others were written, and what a pod lacks drops its
// packets.
func ofEntries(err error) bool {
	_, sets := reconcile.Failures[policy.SetKey](err)
	return sets || kernel.Closed(err)
}
