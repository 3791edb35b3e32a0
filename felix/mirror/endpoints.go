// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"

	"korat/api"
	"korat/api/store"
)

const (
	// flight is how long a write may take to show in a Snapshot before the datastore is asked about it.
	flight = 10 * time.Second
	// scanInterval is the least time between two searches of all endpoints for ones of this node that
	// it does not have.
	scanInterval = 30 * time.Second
	// casTries bounds the attempts of one compare-and-swap within a pass.
	casTries = 4
)

// table is a Snapshot's endpoints.
type table = api.Table[*api.WorkloadEndpoint]

// endpoints keeps the datastore's endpoints of this node as wanted. The Snapshot says where to look; it may
// lag, so every write is a compare-and-swap.
type endpoints struct {
	store Datastore
	node  string
	// copies is what is known of the endpoints that are wanted, or were and are to be deleted.
	copies map[api.Key]*copied
	// scanned is when all endpoints were last searched, and which.
	scanned time.Time
	seen    table
}

// copied is the datastore's copy of one endpoint.
type copied struct {
	// stored is what the datastore had after our last write or question, at that time. The Snapshot showed
	// over then, which does not count until it changes. The zero time says that the Snapshot counts.
	stored, over *api.WorkloadEndpoint
	at           time.Time
	// want and have were the same when last compared.
	want, have *api.WorkloadEndpoint
}

// sync makes the datastore hold the wanted endpoints and no others of this node. It says when it has to be called
// again without being asked.
func (e *endpoints) sync(ctx context.Context, have table, want []*api.WorkloadEndpoint, now time.Time) (due time.Duration, err error) {
	var failed failures
	wanted := make(map[api.Key]bool, len(want))
	for _, ep := range want {
		key := ep.Key()
		wanted[key] = true
		c := e.copies[key]
		if c == nil {
			c = &copied{}
			e.copies[key] = c
		}
		if failed.add(e.put(ctx, c, ep, shown(have, key), now)) {
			return 0, failed.err()
		}
		if !c.at.IsZero() {
			due = earlier(due, max(c.at.Add(flight).Sub(now), time.Millisecond))
		}
	}
	for key := range e.copies {
		if !wanted[key] && failed.add(e.remove(ctx, key, "")) {
			return 0, failed.err()
		}
	}
	later := e.scan(ctx, have, wanted, now, &failed)
	return earlier(due, later), failed.err()
}

// scan deletes what the datastore has of this node and is not wanted, as after a restart. It is put off if the last
// search was a moment ago.
func (e *endpoints) scan(ctx context.Context, have table, wanted map[api.Key]bool, now time.Time, failed *failures) (due time.Duration) {
	if !e.scanned.IsZero() && have.Same(e.seen) {
		return 0
	}
	if left := scanInterval - now.Sub(e.scanned); left > 0 && left <= scanInterval {
		return left
	}
	seen := have
	for ep := range have.Objects() {
		if ep.Spec.Node != e.node || wanted[ep.Key()] {
			continue
		}
		err := e.remove(ctx, ep.Key(), ep.ResourceVersion)
		if failed.add(err) {
			return 0
		}
		if err != nil {
			seen = table{} // search again, but not at once
		}
	}
	e.scanned, e.seen = now, seen
	return 0
}

func shown(have table, key api.Key) *api.WorkloadEndpoint {
	ep, _ := have.Get(key.TableName())
	return ep
}

// remove deletes an endpoint. One that has changed since the Snapshot is judged again after the next one.
func (e *endpoints) remove(ctx context.Context, key api.Key, revision string) error {
	err := e.store.Delete(ctx, key, revision)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	delete(e.copies, key)
	return nil
}

// put makes the datastore have one endpoint as wanted.
func (e *endpoints) put(ctx context.Context, c *copied, want, shown *api.WorkloadEndpoint, now time.Time) (err error) {
	have, known := c.known(shown, now)
	for range casTries {
		if !known {
			if have, err = e.ask(ctx, want.Key()); err != nil {
				return err
			}
			c.learn(have, shown, now)
		}
		if c.same(want, have) {
			return nil
		}
		have, err = e.write(ctx, want, have)
		if err == nil {
			*c = copied{have, shown, now, want, have}
			return nil
		}
		if !stale(err) {
			break
		}
		known = false
	}
	return fmt.Errorf("write %s: %w", want.Key(), err)
}

// learn notes what the datastore has where the Snapshot shows something.
func (c *copied) learn(have, shown *api.WorkloadEndpoint, now time.Time) {
	c.stored, c.over, c.at = have, shown, now
	if sameVersion(have, shown) {
		c.at = time.Time{}
	}
}

// stale says whether a write failed because the datastore's copy is another one than was thought.
func stale(err error) bool {
	return errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound)
}

// sameVersion says whether both are one state of one object, or both absent.
func sameVersion(x, y *api.WorkloadEndpoint) bool {
	if x == nil || y == nil {
		return x == y
	}
	return x.ResourceVersion == y.ResourceVersion && x.UID == y.UID
}

// known gives the datastore's copy; false if it has to be asked for.
func (c *copied) known(shown *api.WorkloadEndpoint, now time.Time) (*api.WorkloadEndpoint, bool) {
	if c.at.IsZero() {
		return shown, true
	}
	if shown != c.over {
		c.at = time.Time{}
		return shown, true
	}
	age := now.Sub(c.at)
	return c.stored, age >= 0 && age < flight
}

// same compares what the agent decides: annotations, spec, and the labels at first.
func (c *copied) same(want, have *api.WorkloadEndpoint) bool {
	if have == nil {
		return false
	}
	if want != c.want || have != c.have {
		if !reflect.DeepEqual(content(labelled(want, have)), content(have)) {
			return false
		}
		c.want, c.have = want, have
	}
	return true
}

// labelled gives what the datastore is to hold in the place of have. The runtime's labels are those that an attachment
// begins with; afterwards they are people's to change, who know of no other place. Another attachment of the same
// name begins anew.
func labelled(want, have *api.WorkloadEndpoint) *api.WorkloadEndpoint {
	if have == nil || !want.SameAttachment(have) {
		return want
	}
	next := want.DeepCopy()
	next.Labels = maps.Clone(have.Labels)
	return next
}

func content(ep *api.WorkloadEndpoint) *api.WorkloadEndpoint {
	c := ep.DeepCopy()
	c.ResourceVersion, c.UID, c.Generation, c.CreationTimestamp = "", "", 0, api.Time{}
	return c
}

// ask gives the datastore's copy as it is now, nil if there is none.
func (e *endpoints) ask(ctx context.Context, key api.Key) (*api.WorkloadEndpoint, error) {
	obj, err := e.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return endpoint(obj)
}

// write creates the endpoint, or replaces have, and gives it as stored.
func (e *endpoints) write(ctx context.Context, want, have *api.WorkloadEndpoint) (*api.WorkloadEndpoint, error) {
	if have != nil && api.Hollow(have) {
		return nil, api.Fault(have) // people may have labelled it, which may forbid something
	}
	next := labelled(want, have).DeepCopy()
	var obj api.Object
	var err error
	if have == nil {
		obj, err = e.store.Create(ctx, next)
	} else {
		next.ResourceVersion, next.UID, next.CreationTimestamp = have.ResourceVersion, have.UID, have.CreationTimestamp
		obj, err = e.store.Update(ctx, next)
	}
	if err != nil {
		return nil, err
	}
	return endpoint(obj)
}

func endpoint(obj api.Object) (*api.WorkloadEndpoint, error) {
	ep, ok := obj.(*api.WorkloadEndpoint)
	if !ok {
		return nil, fmt.Errorf("%s is stored as a %T", obj.Key(), obj)
	}
	return ep, nil
}

// failures counts errors: what fails for one endpoint mostly fails for all.
type failures struct {
	first error
	more  int
}

// add notes an error, if it is one. It says whether it is of no use to go on.
func (f *failures) add(err error) bool {
	switch {
	case err == nil:
		return false
	case f.first == nil:
		f.first = err
	default:
		f.more++
	}
	return errors.Is(err, store.ErrUnavailable)
}

func (f *failures) err() error {
	if f.more == 0 {
		return f.first
	}
	return fmt.Errorf("%w (and %d more like it)", f.first, f.more)
}
