// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"

	"korat/api"
	"korat/api/wake"
)

// burst limits how many changes go into one new Snapshot, so that a stream of changes without a
// pause cannot put it off for ever.
const burst = 4096

// Follower keeps a Snapshot equal to a datastore. Disconnects, compaction and slow readers only
// delay it: it lists again, and changes only what differs.
type Follower struct {
	// Track says of which kinds Take tells what changed. It is set before Run.
	Track func(api.Kind) bool

	store Source
	kinds []api.Kind

	snapshot atomic.Pointer[api.Snapshot]
	// mu guards changed, and keeps it in step with snapshot.
	mu      sync.Mutex
	changed map[api.Key]struct{}

	wake    wake.Signal
	changes chan change
	status  *tracker
}

// NewFollower gives a Follower of the kinds; Run makes it work.
func NewFollower(st Source, kinds []api.Kind, log *slog.Logger) *Follower {
	f := &Follower{
		store: st, kinds: kinds, changed: map[api.Key]struct{}{},
		wake: wake.New(), changes: make(chan change, 64), status: newTracker(kinds, log),
	}
	f.snapshot.Store(&api.Snapshot{})
	return f
}

// Snapshot gives the latest picture. It is InSync once every kind has been listed, and stays so:
// after a disconnect it is merely old, as Status tells.
func (f *Follower) Snapshot() api.Snapshot { return *f.snapshot.Load() }

// Take is Snapshot for the one who keeps something up to date with it: it gives as well which objects of the
// tracked kinds are not as they were in the Snapshot that Take gave before.
func (f *Follower) Take() (api.Snapshot, map[api.Key]struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.changed) == 0 {
		return f.Snapshot(), nil
	}
	changed := f.changed
	f.changed = map[api.Key]struct{}{}
	return f.Snapshot(), changed
}

// Wake is poked after each new Snapshot. Several pokes become one.
func (f *Follower) Wake() <-chan struct{} { return f.wake }

// Status says whether the datastore is reachable.
func (f *Follower) Status() Status { return f.status.get() }

// Run follows until ctx is done. It runs once.
func (f *Follower) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, kind := range f.kinds {
		wg.Go(func() { f.follow(ctx, kind) })
	}
	listed := map[api.Kind]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-f.changes:
			f.apply(f.gather(c), listed)
		}
	}
}

// change is what a kind's goroutine found: a whole list, or one event.
type change struct {
	kind  api.Kind
	list  []api.Object
	event *Event
}

// gather gives a change and those that wait behind it.
func (f *Follower) gather(first change) []change {
	batch := []change{first}
	for len(batch) < burst {
		select {
		case c := <-f.changes:
			batch = append(batch, c)
		default:
			return batch
		}
	}
	return batch
}

// apply puts changes into a new Snapshot, if they make a difference.
func (f *Follower) apply(batch []change, listed map[api.Kind]bool) {
	have := f.Snapshot()
	snap := have
	var changed []api.Key
	for _, c := range batch {
		if c.event != nil {
			snap, changed = withEvent(snap, *c.event, changed)
		} else {
			var differ []api.Key
			snap, differ = snap.WithAll(c.kind, c.list, join)
			changed = append(changed, differ...)
			listed[c.kind] = true
		}
	}
	snap.InSync = len(listed) == len(f.kinds)
	if len(changed) == 0 && snap.InSync == have.InSync {
		return
	}
	f.publish(snap, changed)
	f.wake.Poke()
}

// publish makes the Snapshot the latest.
func (f *Follower) publish(snap api.Snapshot, changed []api.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshot.Store(&snap)
	for _, key := range changed {
		if f.Track != nil && f.Track(key.Kind) {
			f.changed[key] = struct{}{}
		}
	}
}

// withEvent gives the Snapshot after an event, and adds to changed what differs. Of what nobody can read any more that stays
// which was read last, where api.Hold says so.
func withEvent(snap api.Snapshot, ev Event, changed []api.Key) (api.Snapshot, []api.Key) {
	old, ok := snap.Get(ev.Key)
	switch {
	case ev.Object == nil && !ok:
		return snap, changed
	case ev.Object == nil:
		return snap.Without(ev.Key), append(changed, ev.Key)
	case ok && sameVersion(old, ev.Object):
		return snap, changed
	case ok:
		return snap.With(api.Hold(old, ev.Object)), append(changed, ev.Key)
	}
	return snap.With(ev.Object), append(changed, ev.Key)
}

// sameVersion says whether both are one state of one object. The UID tells apart objects of a
// datastore that was set up anew, where revisions begin again.
func sameVersion(a, b api.Object) bool {
	return a.GetResourceVersion() == b.GetResourceVersion() && a.GetUID() == b.GetUID()
}

// sameObject compares contents too: a datastore that was restored from a backup gives its revisions
// anew, and to other changes.
func sameObject(a, b api.Object) bool {
	return a == b || sameVersion(a, b) && reflect.DeepEqual(a, b)
}

// join gives what comes in the place of an object by a list: one that did not change keeps its identity.
func join(have, obj api.Object) api.Object {
	if obj = api.Hold(have, obj); sameObject(have, obj) {
		return have
	}
	return obj
}

// Load lists the kinds once, for a command that needs one picture and no Follower.
func Load(ctx context.Context, r Reader, kinds []api.Kind) (api.Snapshot, error) {
	var snap api.Snapshot
	for _, kind := range kinds {
		objs, _, err := r.List(ctx, kind)
		if err != nil {
			return api.Snapshot{}, fmt.Errorf("load snapshot: %w", err)
		}
		snap, _ = snap.WithAll(kind, objs, join)
	}
	snap.InSync = true
	return snap, nil
}
