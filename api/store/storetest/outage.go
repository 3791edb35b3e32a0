// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
)

// Outage is one way in which a datastore fails those who follow it.
type Outage struct {
	Name string
	// Open gives an empty datastore and the means to make it fail so.
	Open func(t *testing.T) Rig
}

// Rig is a datastore that can be made to fail.
type Rig struct {
	// Store is the Follower's, and Writer goes past the fault.
	Store, Writer store.Store
	Begin, End    func()
	// Noticed says that the Follower is to report the outage, as long as it lasts.
	Noticed bool
}

// patience bounds every wait; it is no expectation.
const patience = 2 * time.Minute

// RunOutages follows a datastore through each outage: while nothing changes, and amid changes. At the end the Snapshot equals the datastore; until then no object that stays is
// missing for a moment, and what did not change is the very same object in the very same table.
func RunOutages(t *testing.T, outages []Outage) {
	for _, o := range outages {
		t.Run(o.Name+"/nothing changes", func(t *testing.T) {
			t.Parallel()
			followIdle(t, o.Open(t))
		})
		t.Run(o.Name+"/changes meanwhile", func(t *testing.T) {
			t.Parallel()
			followChanges(t, o.Open(t))
		})
	}
}

// pursuit is a Follower and what it must not do.
type pursuit struct {
	*testing.T
	Rig
	*store.Follower
	before api.Snapshot
}

// startPursuit fills the datastore and follows it until the test ends.
func startPursuit(t *testing.T, r Rig) *pursuit {
	t.Helper()
	for i := range 5 {
		create(t, r.Writer, Pool(fmt.Sprintf("p%d", i), fmt.Sprintf("10.%d.0.0/16", i)))
	}
	create(t, r.Writer, Endpoint("ns", "e"))
	node := &api.Node{}
	node.Name = "a"
	create(t, r.Writer, node)
	p := &pursuit{T: t, Rig: r, Follower: store.NewFollower(r.Store, api.Kinds(), slog.New(slog.NewTextHandler(t.Output(), nil)))}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.Follower.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	p.await("in sync and connected", func() bool { return p.Snapshot().InSync && p.Status().Connected })
	p.before = p.Snapshot()
	return p
}

// watchOver looks at every Snapshot until the returned function is called.
func (p *pursuit) watchOver() (stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-p.Wake():
				p.check(p.Snapshot())
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}

// check holds a Snapshot against what does not change in any outage.
func (p *pursuit) check(s api.Snapshot) {
	for _, name := range []string{"p0", "p4"} {
		was, _ := p.before.IPPools.Get(name)
		if is, _ := s.IPPools.Get(name); is != was {
			p.Errorf("pool %s did not change, but was %p and is %p", name, was, is)
		}
	}
	if !s.InSync || !s.WorkloadEndpoints.Same(p.before.WorkloadEndpoints) || !s.Nodes.Same(p.before.Nodes) || s.IPAMBlocks.Len() != 0 {
		p.Errorf("in sync %v, %d endpoints, %d nodes: nothing of it changed", s.InSync, s.WorkloadEndpoints.Len(), s.Nodes.Len())
	}
}

// suffer makes the outage, and does something in it.
func (p *pursuit) suffer(meanwhile func()) {
	p.Begin()
	if p.Noticed {
		p.await("notices the outage", func() bool { return !p.Status().Connected })
	}
	meanwhile()
	p.End()
	p.await("connected again", func() bool { return p.Status().Connected })
}

func followIdle(t *testing.T, r Rig) {
	p := startPursuit(t, r)
	stop := p.watchOver()
	p.suffer(func() {})
	// What comes after the outage is seen after whatever the outage led to.
	create(t, r.Writer, Pool("last", "10.99.0.0/16"))
	p.await("equal to the datastore", p.equal)
	stop()
	p.check(p.Snapshot())
	if got := p.Snapshot().IPPools.Without("last"); got.Len() != p.before.IPPools.Len() {
		t.Errorf("%d pools, want %d and the last", got.Len(), p.before.IPPools.Len())
	}
	for name, was := range p.before.IPPools.All() {
		if is, _ := p.Snapshot().IPPools.Get(name); is != was {
			t.Errorf("pool %s did not change, but is another object", name)
		}
	}
}

func followChanges(t *testing.T, r Rig) {
	p := startPursuit(t, r)
	stop := p.watchOver()
	p.suffer(p.change)
	p.await("equal to the datastore", p.equal)
	// The watch goes on, too.
	create(t, r.Writer, Pool("last", "10.99.0.0/16"))
	p.await("equal to the datastore", p.equal)
	stop()
	p.check(p.Snapshot())
}

func (p *pursuit) setDisabled(name string, disabled bool) {
	p.Helper()
	ctx := testContext(p.T)
	obj, err := p.Writer.Get(ctx, poolKey(name))
	if err == nil {
		pool := obj.DeepCopyObject().(*api.IPPool)
		pool.Spec.Disabled = disabled
		_, err = p.Writer.Update(ctx, pool)
	}
	if err != nil {
		p.Fatal(err)
	}
}

// change updates, deletes, creates and replaces objects of one kind.
func (p *pursuit) change() {
	ctx := testContext(p.T)
	p.setDisabled("p1", true)
	for _, name := range []string{"p2", "p3"} {
		if err := p.Writer.Delete(ctx, poolKey(name), ""); err != nil {
			p.Fatal(err)
		}
	}
	create(p.T, p.Writer, Pool("p3", "10.33.0.0/16"))
	for i := range 100 {
		create(p.T, p.Writer, Pool(fmt.Sprintf("q%d", i), fmt.Sprintf("10.100.%d.0/24", i)))
	}
	for i := range 99 {
		if err := p.Writer.Delete(ctx, poolKey(fmt.Sprintf("q%d", i)), ""); err != nil {
			p.Fatal(err)
		}
	}
}

// equal says whether the Snapshot holds exactly what the datastore does.
func (p *pursuit) equal() bool {
	snap := p.Snapshot()
	for _, kind := range api.Kinds() {
		objs, _, err := p.Writer.List(testContext(p.T), kind)
		if err != nil {
			p.Fatal(err)
		}
		n := 0
		for range snap.Objects(kind) {
			n++
		}
		if n != len(objs) {
			return false
		}
		for _, obj := range objs {
			if have, ok := snap.Get(obj.Key()); !ok || !reflect.DeepEqual(have, obj) {
				return false
			}
		}
	}
	return true
}

func (p *pursuit) await(what string, ok func() bool) {
	p.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			p.Fatalf("the Follower never was %s; status %+v, Snapshot %+v", what, p.Status(), p.Snapshot())
		}
	}
}
