// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

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
// sees it lack one, and no rule that was there sees one go that it still needs. Sets as a whole go some time later.
type sets struct {
	table SetTable
	// stale says that the kernel's are to be read: they never were, somebody may have changed them, or a write
	// failed.
	stale bool
	// late is for the second step.
	late []kernel.SetChange
	// doomed are sets that nothing needs.
	doomed map[policy.SetKey]doom
	// lacking are sets that lack members, and surplus those that have some too many: why they could not be made so.
	lacking, surplus map[policy.SetKey]error
}

// doom says when a set is to be destroyed.
type doom struct {
	since, due time.Time
	pause      time.Duration
	// err is why it could not be, if it has been tried for long.
	err error
}

const (
	// lastBreath is how long a set is left alone after its last rule: the kernel takes some 10 to 40 ms to let go of it
	// with the nftables backend, and a pod's ADD or DEL does not wait for that.
	lastBreath = 100 * time.Millisecond
	// slowDoom is the longest pause between two tries, and overdue how long it may take before somebody is told.
	slowDoom, overdue = 5 * time.Second, 10 * time.Second
	// maxDooms bounds how many are destroyed in one pass.
	maxDooms = 256
)

func newSets(table SetTable) *sets {
	return &sets{table: table, stale: true, doomed: map[policy.SetKey]doom{}}
}

// prepare is the first step: it adds sets and members.
func (s *sets) prepare(ctx context.Context, f dataplane.Filter) (reconcile.Result, error) {
	var r reconcile.Result
	early, err := s.compare(ctx, f, &r)
	if err != nil {
		return r, fmt.Errorf("read sets: %w", err)
	}
	s.lacking, err = s.write(ctx, early, &r)
	return r, err
}

// sweep is the second: it removes members, and sets.
func (s *sets) sweep(ctx context.Context) (reconcile.Result, error) {
	var r reconcile.Result
	late := s.late
	s.late = nil
	var err error
	s.surplus, err = s.write(ctx, late, &r)
	if err != nil && !ofEntries(err) {
		return r, err
	}
	return r, errors.Join(err, s.destroy(ctx, &r))
}

// due says that a step has something to do without anything new being wanted.
func (s *sets) due() bool {
	if s.stale || len(s.late) > 0 {
		return true
	}
	now := time.Now()
	for _, d := range s.doomed {
		if d.err != nil || !d.due.After(now) {
			return true
		}
	}
	return false
}

// ripe is when there is a set to destroy; nil if there is none. What can't be done now is not tried all the time.
func (s *sets) ripe() <-chan time.Time {
	if len(s.doomed) == 0 {
		return nil
	}
	var first time.Time
	for _, d := range s.doomed {
		if first.IsZero() || d.due.Before(first) {
			first = d.due
		}
	}
	return time.After(max(lastBreath, time.Until(first)))
}

// unlike gives the names of the sets that are not as they must be, with the reasons.
func (s *sets) unlike() map[string]error {
	if len(s.lacking)+len(s.surplus) == 0 {
		return nil
	}
	all := make(map[string]error, len(s.lacking)+len(s.surplus))
	for _, failed := range []map[policy.SetKey]error{s.surplus, s.lacking} {
		for key, err := range failed {
			all[key.Name] = err
		}
	}
	return all
}

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
			s.condemn(key)
		case c.New:
			delete(s.doomed, key)
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
	maps.DeleteFunc(s.doomed, func(key policy.SetKey, _ doom) bool { _, exists := have[key]; return !exists })
	for key := range have {
		s.condemn(key)
	}
	return early, nil
}

// condemn has a set destroyed.
func (s *sets) condemn(key policy.SetKey) {
	if _, already := s.doomed[key]; !already {
		now := time.Now()
		s.doomed[key] = doom{since: now, due: now.Add(lastBreath), pause: lastBreath}
	}
}

// destroy destroys the doomed sets of which the time has come. One that is still in use is tried again for as long as
// it takes, and is told of once that has taken long: rules that are not ours refer to it.
func (s *sets) destroy(ctx context.Context, r *reconcile.Result) error {
	now := time.Now()
	var changes []kernel.SetChange
	for key, d := range s.doomed {
		if !d.due.After(now) && len(changes) < maxDooms {
			changes = append(changes, kernel.SetChange{Key: key, Destroy: true})
		}
	}
	failed, err := s.ask(ctx, changes)
	if err != nil {
		return err
	}
	for _, c := range changes {
		cause := failed[c.Key]
		if cause == nil {
			delete(s.doomed, c.Key)
			r.Deleted++
			continue
		}
		d := s.doomed[c.Key]
		d.pause = min(2*d.pause, slowDoom)
		d.due, d.err = now.Add(d.pause), nil
		if !errors.Is(cause, kernel.ErrSetInUse) || now.Sub(d.since) > overdue {
			d.err = cause
		}
		s.doomed[c.Key] = d
	}
	var lasting reconcile.WriteError[policy.SetKey]
	for key, d := range s.doomed {
		if d.err != nil {
			lasting.Fail(key, d.err)
			r.Failed++
		}
	}
	if err := lasting.Err(); err != nil {
		return fmt.Errorf("write sets: %w", err)
	}
	return nil
}

// tidy drops changes that change nothing.
func tidy(changes []kernel.SetChange) []kernel.SetChange {
	return slices.DeleteFunc(changes, func(c kernel.SetChange) bool {
		return !c.Replace && len(c.Add) == 0 && len(c.Remove) == 0
	})
}

// write makes the changes, and gives those that could not be made. After a failure the next pass reads what the
// kernel has.
func (s *sets) write(ctx context.Context, changes []kernel.SetChange, r *reconcile.Result) (map[policy.SetKey]error, error) {
	changes = tidy(changes)
	failed, err := s.ask(ctx, changes)
	if err != nil {
		r.Failed += len(changes)
		s.stale = true
		return failed, err
	}
	r.Set += len(changes) - len(failed)
	if r.Failed += len(failed); len(failed) == 0 {
		return nil, nil
	}
	s.stale = true
	return failed, fmt.Errorf("write sets: %w", &reconcile.WriteError[policy.SetKey]{Failed: failed})
}

// ask has the table make changes. An error is that none is known to be made.
func (s *sets) ask(ctx context.Context, changes []kernel.SetChange) (failed map[policy.SetKey]error, err error) {
	if len(changes) == 0 {
		return nil, nil
	}
	err = s.table.Write(ctx, changes)
	failed, some := reconcile.Failures[policy.SetKey](err)
	if err != nil && !some {
		return nil, fmt.Errorf("write sets: %w", err)
	}
	return failed, nil
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
