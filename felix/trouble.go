// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"errors"
	"fmt"

	"korat/felix/dataplane"
	"korat/felix/reconcile"
)

// trouble is a pass's error by whom it concerns.
type trouble struct {
	// serious makes the node unready.
	serious error
	// learned is of learned routes alone: one that the kernel refuses must not make this node unready, nor every
	// node that learns it.
	learned error
	// filter is of single chains and sets: the pods that need them are closed, and no others.
	filter error
}

// divide sorts a pass's error.
func divide(err error, want map[dataplane.RouteKey]dataplane.Route) trouble {
	var t trouble
	if err == nil {
		return t
	}
	var rest []error
	for _, step := range unjoin(err) {
		routes, ofRoutes := reconcile.Failures[dataplane.RouteKey](step)
		switch {
		case ofEntries(step):
			t.filter = errors.Join(t.filter, step)
			continue
		case !ofRoutes:
			rest = append(rest, step)
			continue
		}
		var own, theirs reconcile.WriteError[dataplane.RouteKey]
		for key, cause := range routes {
			if want[key].Learned() {
				theirs.Fail(key, cause)
			} else {
				own.Fail(key, cause)
			}
		}
		t.learned = theirs.Err()
		if err := own.Err(); err != nil {
			rest = append(rest, fmt.Errorf("write routes: %w", err))
		}
	}
	t.serious = errors.Join(rest...)
	return t
}
