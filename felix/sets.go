// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"iter"
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

// sets keeps the kernel's sets, in two steps, before the chains are written and after: each SetChange says what is when.
// Of those that are to change with the chains, at once, the first step makes copies, into which chains look until the
// sets themselves have been changed. Sets as a whole go some time later.
type sets struct {
	table SetTable
	// stale says that the kernel's are to be read: they never were, somebody may have changed them, or a write
	// failed.
	stale bool
	// copied are to change while chains look into their copies, and late is for the second step.
	copied, late []kernel.SetChange
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

// prepare is the first step.
func (s *sets) prepare(ctx context.Context, f dataplane.Filter) (reconcile.Result, error) {
	var r reconcile.Result
	early, err := s.compare(ctx, f, &r)
	if err != nil {
		return r, fmt.Errorf("read sets: %w", err)
	}
	s.lacking, err = s.write(ctx, early, &r)
	return r, err
}

// sweep is the second. It destroys sets.
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
	s.copied, s.late = nil, nil // what could not be made of them is found out anew
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
			early = append(early, s.plan(f, c.Order, kernel.SetChange{Key: key, Add: c.Added, Remove: c.Removed}))
		}
	}
	return early, nil
}

// plan parts the change of a set, and gives what is to be done first.
func (s *sets) plan(f dataplane.Filter, order policy.SetOrder, c kernel.SetChange) kernel.SetChange {
	added, removed := kernel.SetChange{Key: c.Key, Add: c.Add}, kernel.SetChange{Key: c.Key, Remove: c.Remove}
	switch order {
	case policy.AtOnce:
		s.copied = append(s.copied, c)
		delete(s.doomed, c.Key.Copy())
		return kernel.SetChange{Key: c.Key.Copy(), Add: slices.Collect(f.Sets.Members(c.Key)), Replace: true}
	case policy.RemovedFirst:
		s.late = append(s.late, added)
		return removed
	case policy.AddedFirst:
	}
	s.late = append(s.late, removed)
	return added
}

// copies gives the names of the copies that chains are to look into for now, by the names of the sets.
func (s *sets) copies() map[string]string {
	names := make(map[string]string, len(s.copied))
	for _, c := range s.copied {
		names[c.Key.Name] = c.Key.Copy().Name
	}
	return names
}

// follow changes the sets of which there are copies. No chain looks into these sets now, and none into the copies soon.
func (s *sets) follow(ctx context.Context) error {
	copied := s.copied
	s.copied = nil
	for _, c := range copied {
		s.condemn(c.Key.Copy())
	}
	var r reconcile.Result
	failed, err := s.write(ctx, copied, &r)
	if s.lacking == nil {
		s.lacking = failed
	} else {
		maps.Copy(s.lacking, failed)
	}
	return err
}

// compareAll compares with what the kernel has.
func (s *sets) compareAll(ctx context.Context, f dataplane.Filter) ([]kernel.SetChange, error) {
	have, err := s.table.Read(ctx)
	if err != nil {
		return nil, err
	}
	s.stale = false
	var early []kernel.SetChange
	var changed []kernel.SetChange
	members := 0
	for key := range f.Sets.Sets() {
		held, exists := have[key]
		if !exists {
			early = append(early, kernel.SetChange{Key: key, Add: slices.Collect(f.Sets.Members(key)), Replace: true})
			continue
		}
		size := len(held)
		if c := difference(key, held, f.Sets.Members(key)); len(c.Add)+len(c.Remove) > 0 {
			changed = append(changed, c)
			members += size + len(c.Add) - len(c.Remove)
		}
		delete(have, key)
	}
	unlike := s.unlike()
	for _, c := range changed {
		order := policy.AtOnce // nobody knows what chains look into it now, and why it is not as it must be
		if members > policy.MaxCopied || unlike[c.Key.Name] != nil {
			order = policy.AddedFirst
		}
		early = append(early, s.plan(f, order, c))
	}
	maps.DeleteFunc(s.doomed, func(key policy.SetKey, _ doom) bool { _, exists := have[key]; return !exists })
	for key := range have {
		s.condemn(key)
	}
	return early, nil
}

// difference gives the change that makes what is held what is wanted. It takes what is from held.
func difference(key policy.SetKey, held kernel.Members, want iter.Seq[policy.Member]) kernel.SetChange {
	c := kernel.SetChange{Key: key}
	for m := range want {
		if _, ok := held[m]; ok {
			delete(held, m)
		} else {
			c.Add = append(c.Add, m)
		}
	}
	c.Remove = slices.Collect(maps.Keys(held))
	return c
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
