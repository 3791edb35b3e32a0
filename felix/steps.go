// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
)

// Tables are the kernel's tables that we write.
type Tables struct {
	Links      reconcile.Table[string, dataplane.Link]
	Sysctls    reconcile.Table[string, dataplane.SysctlValue]
	Neighbours reconcile.Table[dataplane.NeighbourKey, dataplane.Neighbour]
	Routes     reconcile.Table[dataplane.RouteKey, dataplane.Route]
}

// newSteps lists the kernel's tables in the order in which they are written: what a pod needs to be
// handled rightly comes before what makes it reachable.
func newSteps(t Tables) []step {
	return []step{
		&tableStep[string, dataplane.Link]{
			Step: reconcile.NewStep("links", t.Links),
			want: func(s dataplane.State) map[string]dataplane.Link { return s.Links },
			keep: func(dataplane.State) func(string, dataplane.Link) bool { return keepLink },
			any:  kernel.Notice.TouchesLinks,
			one:  kernel.Notice.TouchesLink,
		},
		&tableStep[string, dataplane.SysctlValue]{
			Step: reconcile.NewStep("sysctls", t.Sysctls),
			want: func(s dataplane.State) map[string]dataplane.SysctlValue { return s.Sysctls },
			any:  kernel.Notice.TouchesSysctls,
			one:  kernel.Notice.TouchesSysctl,
		},
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

// routesStep is where the routes are in newSteps' list; what comes before hangs on interfaces.
const routesStep = 3

// step is one kernel table of any type.
type step interface {
	Name() string
	apply(ctx context.Context, s dataplane.State) (reconcile.Result, error)
	invalidate(n kernel.Notice)
	// due says that the table may differ from what was wanted of it last.
	due() bool
}

type tableStep[K comparable, V reconcile.Value[V]] struct {
	*reconcile.Step[K, V]
	want func(dataplane.State) map[K]V
	// keep gives what must stay although it is not wanted; nil keeps nothing.
	keep func(dataplane.State) func(K, V) bool
	// any says whether a notice concerns the table at all, and one whether it concerns an entry.
	any func(kernel.Notice) bool
	one func(kernel.Notice, K, V) bool
	// more says whether there may be entries of ours that are not remembered; nil if only losses mean that.
	more func(kernel.Notice) bool
	// doubt is set by what may have changed the table, and by a failure.
	doubt bool
}

func (t *tableStep[K, V]) apply(ctx context.Context, s dataplane.State) (reconcile.Result, error) {
	var keep func(K, V) bool
	if t.keep != nil {
		keep = t.keep(s)
	}
	result, err := t.Step.Apply(ctx, t.want(s), keep)
	t.doubt = err != nil
	return result, err
}

func (t *tableStep[K, V]) due() bool { return t.doubt }

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

// applyAll writes every table, or those that are in doubt if the state is the one of the last pass. A
// failing table does not keep the next from being written.
func applyAll(ctx context.Context, steps []step, state dataplane.State, fresh bool, r *report) error {
	var errs []error
	for _, s := range steps {
		if !fresh && !s.due() {
			continue
		}
		result, err := s.apply(ctx, state)
		r.applied(s.Name(), result, err)
		if err != nil {
			errs = append(errs, fmt.Errorf("step %s: %w", s.Name(), err))
		}
	}
	return errors.Join(errs...)
}
