// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"hash/fnv"
	"testing"

	"korat/felix/reconcile"
)

// digestTable is a table whose digest is that of its text; decoded counts what it was read for.
type digestTable struct {
	table
	decoded int
}

func (t *digestTable) ReadChanged(ctx context.Context, since uint64) (map[string]text, uint64, error) {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(t.Dump()))
	if t.ReadErr == nil && sum.Sum64() == since {
		return nil, since, nil
	}
	t.decoded++
	have, err := t.Read(ctx)
	return have, sum.Sum64(), err
}

func TestDigest(t *testing.T) {
	tab := &digestTable{table: table{Have: entries{"stale": "1"}}}
	step := reconcile.NewStep("things", tab)
	want := entries{"a": "1", "b": "1"}
	resync := func(what string, result reconcile.Result, decoded int) {
		t.Helper()
		tab.decoded = 0
		step.Invalidate()
		result.Read = true
		equal(t, what, result, apply(t, step, want, nil))
		equal(t, what+": decoded", decoded, tab.decoded)
		equal(t, what+": holds", "a "+string(want["a"])+"\nb 1\n", tab.Dump())
	}
	resync("first", reconcile.Result{Set: 2, Deleted: 1}, 1)
	resync("after our own writes", reconcile.Result{}, 1)
	resync("unchanged", reconcile.Result{}, 0)
	resync("unchanged again", reconcile.Result{}, 0)
	tab.Have["a"] = "2"
	resync("changed unheard of", reconcile.Result{Set: 1}, 1)
	resync("after that repair", reconcile.Result{}, 1)
	want = entries{"a": "3", "b": "1"}
	resync("another wish with an unchanged table", reconcile.Result{Set: 1}, 0)

	// What was heard of before the read is settled by it; what comes after is not.
	resync("settled", reconcile.Result{}, 1)
	step.Invalidate()
	step.Touch(func(k string, _ text) bool { return k == "a" })
	equal(t, "touched before the read", reconcile.Result{Read: true}, apply(t, step, want, nil))
	step.Touch(func(k string, _ text) bool { return k == "a" })
	equal(t, "touched after it", reconcile.Result{Set: 1}, apply(t, step, want, nil))

	tab.ReadErr = errors.New("broken")
	step.Invalidate()
	if _, err := step.Apply(t.Context(), want, nil); !errors.Is(err, tab.ReadErr) {
		t.Errorf("have error %v, want %v", err, tab.ReadErr)
	}
	tab.ReadErr = nil
	delete(tab.Have, "b")
	equal(t, "read after a failed one", reconcile.Result{Read: true, Set: 1}, apply(t, step, want, nil))
}

// A wish that is the very map of the last Apply is not compared again, unless something may have changed.
func TestMetWishIsRemembered(t *testing.T) {
	tab := &table{Have: entries{"held": "1"}}
	step := reconcile.NewStep("things", tab)
	want := entries{"a": "1"}
	hold := func(string, text) bool { return true }
	apply(t, step, want, hold)
	equal(t, "held no longer", reconcile.Result{Deleted: 1}, apply(t, step, want, nil))
	equal(t, "met", reconcile.Result{}, apply(t, step, want, nil))
	equal(t, "another wish", reconcile.Result{Deleted: 1}, apply(t, step, entries{}, nil))
	equal(t, "the first again", reconcile.Result{Set: 1}, apply(t, step, want, nil))
	tab.Bad = map[string]error{"b": errors.New("bad")}
	both := entries{"a": "1", "b": "1"}
	for range 2 {
		if r, err := step.Apply(t.Context(), both, nil); err == nil || r.Failed != 1 {
			t.Errorf("have %+v, %v, want one failure each time", r, err)
		}
	}
	tab.Bad = nil
	equal(t, "the failed is tried again", reconcile.Result{Set: 1}, apply(t, step, both, nil))
}
