// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy"
)

// SetTable is the kernel's IP sets.
type SetTable interface {
	// Read gives the sets that are ours, with their members.
	Read(ctx context.Context) (map[policy.SetKey]kernel.Members, error)
	// Write makes the changes. Its error is a *reconcile.WriteError[policy.SetKey] if it knows which sets failed
	// and that all others were done.
	Write(ctx context.Context, changes []kernel.SetChange) error
}

// sets keeps the kernel's sets, in two steps: what rules may need is there before them, and what they may not need any
// more goes after them. Between the two a set may have more members than before and after; no rule that is new
// sees it lack one, and no rule that was there sees one go that it still needs.
type sets struct {
	table SetTable
	// stale says that the kernel's are to be read: they never were, somebody may have changed them, or a write
	// failed.
	stale bool
	// late is for the second step.
	late []kernel.SetChange
}

func newSets(table SetTable) *sets {
	return &sets{table: table, stale: true}
}

// prepare is the first step: it adds sets and members.
func (s *sets) prepare(ctx context.Context, f dataplane.Filter) (reconcile.Result, error) {
	var r reconcile.Result
	early, err := s.compare(ctx, f, &r)
	if err != nil {
		return r, fmt.Errorf("read sets: %w", err)
	}
	err = s.write(ctx, early, &r)
	return r, err
}

// sweep is the second: it removes members and sets.
func (s *sets) sweep(ctx context.Context) (reconcile.Result, error) {
	var r reconcile.Result
	late := s.late
	s.late = nil
	err := s.write(ctx, late, &r)
	return r, err
}

// due says that a step has something to do without anything new being wanted.
func (s *sets) due() bool { return s.stale || len(s.late) > 0 }

// invalidate puts everything in doubt.
func (s *sets) invalidate() { s.stale = true }

// compare gives what is to be added, and notes what is to be removed.
func (s *sets) compare(ctx context.Context, f dataplane.Filter, r *reconcile.Result) ([]kernel.SetChange, error) {
	if s.stale {
		r.Read = true
		return s.compareAll(ctx, f)
	}
	var early []kernel.SetChange
	for key, c := range f.ChangedSets {
		switch {
		case c.Gone:
			s.late = append(s.late, kernel.SetChange{Key: key, Destroy: true})
		case c.New:
			early = append(early, kernel.SetChange{Key: key, Add: c.Added, Replace: true})
		default:
			early = append(early, kernel.SetChange{Key: key, Add: c.Added})
			s.late = append(s.late, kernel.SetChange{Key: key, Remove: c.Removed})
		}
	}
	return early, nil
}

// compareAll compares with what the kernel has.
func (s *sets) compareAll(ctx context.Context, f dataplane.Filter) ([]kernel.SetChange, error) {
	have, err := s.table.Read(ctx)
	if err != nil {
		return nil, err
	}
	s.stale, s.late = false, nil
	var early []kernel.SetChange
	for key := range f.Sets.Sets() {
		held, exists := have[key]
		if !exists {
			early = append(early, kernel.SetChange{Key: key, Add: slices.Collect(f.Sets.Members(key)), Replace: true})
			continue
		}
		add, remove := kernel.SetChange{Key: key}, kernel.SetChange{Key: key}
		for m := range f.Sets.Members(key) {
			if _, ok := held[m]; ok {
				delete(held, m)
			} else {
				add.Add = append(add.Add, m)
			}
		}
		for m := range held {
			remove.Remove = append(remove.Remove, m)
		}
		early, s.late = append(early, add), append(s.late, remove)
		delete(have, key)
	}
	for key := range have {
		s.late = append(s.late, kernel.SetChange{Key: key, Destroy: true})
	}
	return early, nil
}

// tidy drops changes that change nothing.
func tidy(changes []kernel.SetChange) []kernel.SetChange {
	return slices.DeleteFunc(changes, func(c kernel.SetChange) bool {
		return !c.Replace && !c.Destroy && len(c.Add) == 0 && len(c.Remove) == 0
	})
}

// write makes the changes. After a failure the next pass reads what the kernel has.
func (s *sets) write(ctx context.Context, changes []kernel.SetChange, r *reconcile.Result) error {
	if changes = tidy(changes); len(changes) == 0 {
		return nil
	}
	for _, c := range changes {
		if c.Destroy {
			r.Deleted++
		} else {
			r.Set++
		}
	}
	err := s.table.Write(ctx, changes)
	if err == nil {
		return nil
	}
	s.stale = true
	var failed *reconcile.WriteError[policy.SetKey]
	if r.Failed = len(changes); errors.As(err, &failed) {
		r.Failed = len(failed.Failed)
	}
	return fmt.Errorf("write sets: %w", err)
}

// owes is for tables of which a part can be wanted.
func (s *sets) owes() {}

// setsStep is one of the two as a step of the pass.
type setsStep struct {
	*sets
	name string
	last bool
}

func (t setsStep) Name() string { return t.name }

func (t setsStep) apply(ctx context.Context, s dataplane.State) (reconcile.Result, error) {
	if t.last {
		return t.sweep(ctx)
	}
	return t.prepare(ctx, s.Filter)
}

// invalidate ignores notices: the kernel sends none of sets.
func (t setsStep) invalidate(n kernel.Notice) {
	if n.Lost {
		t.sets.invalidate()
	}
}
