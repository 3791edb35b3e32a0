// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/api/store/memory"
	"korat/api/store/storetest"
	"korat/test/logbook"
)

// lab is a Follower of a store that can fail.
type lab struct {
	*testing.T
	inner    *memory.Store
	faults   *storetest.Faults
	follower *store.Follower
	log      *logbook.Book
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{T: t, inner: memory.New(), log: &logbook.Book{}}
	l.faults = storetest.NewFaults(l.inner)
	l.follower = store.NewFollower(l.faults, api.Kinds(), slog.New(slog.NewTextHandler(l.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	return l
}

// run runs the Follower until the test ends.
func (l *lab) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.follower.Run(ctx)
	}()
	l.Cleanup(func() {
		cancel()
		<-done
	})
}

// await waits until a Snapshot fulfils the condition, by Wake alone.
func (l *lab) await(what string, cond func(api.Snapshot) bool) api.Snapshot {
	l.Helper()
	limit := time.After(time.Minute)
	for {
		if snap := l.follower.Snapshot(); cond(snap) {
			return snap
		}
		select {
		case <-l.follower.Wake():
		case <-limit:
			l.Fatalf("no Snapshot with %s; log:\n%s", what, l.log)
		}
	}
}

func (l *lab) create(obj api.Object) api.Object {
	l.Helper()
	stored, err := l.inner.Create(l.Context(), obj)
	if err != nil {
		l.Fatal(err)
	}
	return stored
}

func hasPool(name string) func(api.Snapshot) bool {
	return func(s api.Snapshot) bool {
		_, ok := s.IPPools.Get(name)
		return ok
	}
}

func TestFollow(t *testing.T) {
	l := newLab(t)
	l.create(storetest.Pool("a", "10.0.0.0/16"))
	l.create(storetest.Endpoint("ns", "e"))
	if l.follower.Snapshot().InSync || l.follower.Status().Connected {
		t.Error("in sync or connected before the first list")
	}
	l.run()
	snap := l.await("InSync", func(s api.Snapshot) bool { return s.InSync })
	if snap.IPPools.Len() != 1 || snap.WorkloadEndpoints.Len() != 1 {
		t.Errorf("first Snapshot in sync has %d pools and %d endpoints, want 1 and 1", snap.IPPools.Len(), snap.WorkloadEndpoints.Len())
	}
	b := l.create(storetest.Pool("b", "10.1.0.0/16"))
	after := l.await("pool b", hasPool("b"))
	if !after.WorkloadEndpoints.Same(snap.WorkloadEndpoints) || after.IPPools.Same(snap.IPPools) {
		t.Error("a new pool must change the pools' table and no other")
	}
	if snap.IPPools.Len() != 1 {
		t.Error("an earlier Snapshot changed")
	}
	if err := l.inner.Delete(t.Context(), b.Key(), ""); err != nil {
		t.Fatal(err)
	}
	l.await("pool b deleted", func(s api.Snapshot) bool { return !hasPool("b")(s) })
}

func TestNotInSyncUntilEveryKindIsListed(t *testing.T) {
	l := newLab(t)
	l.follower = store.NewFollower(failKind{l.faults, api.KindNode}, api.Kinds(), slog.New(slog.DiscardHandler))
	l.create(storetest.Pool("a", "10.0.0.0/16"))
	l.run()
	if l.await("pool a", hasPool("a")).InSync {
		t.Error("in sync, but nodes cannot be listed")
	}
	if st := l.follower.Status(); st.Connected || st.Err == nil {
		t.Errorf("status %+v, but nodes cannot be listed", st)
	}
}

type failKind struct {
	store.Store
	kind api.Kind
}

func (f failKind) List(ctx context.Context, kind api.Kind) ([]api.Object, string, error) {
	if kind == f.kind {
		return nil, "", errors.New("list: forbidden")
	}
	return f.Store.List(ctx, kind)
}

// TestRelistEmitsOnlyDifferences changes the store while it is unreachable.
func TestRelistEmitsOnlyDifferences(t *testing.T) {
	l := newLab(t)
	for i := range 5 {
		l.create(storetest.Pool(fmt.Sprintf("p%d", i), fmt.Sprintf("10.%d.0.0/16", i)))
	}
	l.create(storetest.Endpoint("ns", "e"))
	l.run()
	before := l.await("InSync", func(s api.Snapshot) bool { return s.InSync })
	l.awaitStatus(true)
	l.faults.SetDown(true)
	l.awaitStatus(false)
	if st := l.follower.Status(); !errors.Is(st.Err, store.ErrUnavailable) || st.Since.IsZero() {
		t.Errorf("status %+v, want ErrUnavailable since some time", st)
	}
	if !l.follower.Snapshot().InSync {
		t.Error("a disconnect took InSync back")
	}
	p1, _ := before.IPPools.Get("p1")
	changed := p1.DeepCopy()
	changed.Spec.Disabled = true
	if _, err := l.inner.Update(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	if err := l.inner.Delete(t.Context(), api.Key{Kind: api.KindIPPool, Name: "p2"}, ""); err != nil {
		t.Fatal(err)
	}
	l.create(storetest.Pool("p9", "10.9.0.0/16"))
	l.faults.SetDown(false)
	after := l.await("pool p9", hasPool("p9"))
	for _, name := range []string{"p0", "p3", "p4"} {
		was, _ := before.IPPools.Get(name)
		if is, _ := after.IPPools.Get(name); is != was {
			t.Errorf("%s did not change, but is another object", name)
		}
	}
	if is, _ := after.IPPools.Get("p1"); is == nil || !is.Spec.Disabled {
		t.Errorf("p1 is %+v, want it disabled", is)
	}
	if hasPool("p2")(after) {
		t.Error("p2 was deleted meanwhile and is still there")
	}
	if !after.WorkloadEndpoints.Same(before.WorkloadEndpoints) {
		t.Error("the endpoints did not change, but their table did")
	}
	l.awaitStatus(true)
	if n := strings.Count(l.log.String(), "datastore lost"); n != 1 {
		t.Errorf("the outage was logged %d times, want once:\n%s", n, l.log)
	}
}

// TestRelistOfTheSame breaks every watch though nothing changed: no Snapshot, no wake.
func TestRelistOfTheSame(t *testing.T) {
	l := newLab(t)
	l.create(storetest.Pool("a", "10.0.0.0/16"))
	l.run()
	before := l.await("InSync", func(s api.Snapshot) bool { return s.InSync })
	l.awaitStatus(true)
	l.faults.SetDown(true)
	l.awaitStatus(false)
	l.faults.SetDown(false)
	l.awaitStatus(true)
	// This pool's Snapshot is made after those of the lists, if they made any.
	l.create(storetest.Endpoint("ns", "e"))
	after := l.await("endpoint", func(s api.Snapshot) bool { return s.WorkloadEndpoints.Len() == 1 })
	if !after.IPPools.Same(before.IPPools) {
		t.Error("listing the same again made another table")
	}
}

func TestCompaction(t *testing.T) {
	l := newLab(t)
	l.run()
	l.await("InSync", func(s api.Snapshot) bool { return s.InSync })
	l.awaitStatus(true)
	since := l.follower.Status().Since
	l.faults.Break(store.ErrCompacted)
	l.create(storetest.Pool("a", "10.0.0.0/16"))
	l.inner.Compact()
	l.await("pool a", hasPool("a"))
	if st := l.follower.Status(); !st.Connected || st.Since != since {
		t.Errorf("a compaction counts as an outage: %+v", st)
	}
}

// TestSlowReader writes at random while watches break and nobody reads Wake.
func TestSlowReader(t *testing.T) {
	l := newLab(t)
	l.run()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		name := fmt.Sprintf("p%d", random.IntN(40))
		old, err := l.inner.Get(t.Context(), api.Key{Kind: api.KindIPPool, Name: name})
		switch {
		case err != nil:
			l.create(storetest.Pool(name, "10.0.0.0/16"))
		case random.IntN(2) == 0:
			if _, err := l.inner.Update(t.Context(), old); err != nil {
				t.Fatal(err)
			}
		default:
			if err := l.inner.Delete(t.Context(), old.Key(), ""); err != nil {
				t.Fatal(err)
			}
		}
		switch i % 500 {
		case 200:
			l.faults.Break(store.ErrUnavailable)
		case 400:
			l.inner.Compact()
			l.faults.Break(store.ErrCompacted)
		}
	}
	l.create(storetest.Pool("last", "10.0.0.0/16"))
	snap := l.await("the last pool", hasPool("last"))
	objs, _, err := l.inner.List(t.Context(), api.KindIPPool)
	if err != nil {
		t.Fatal(err)
	}
	if snap.IPPools.Len() != len(objs) {
		t.Errorf("the Snapshot has %d pools, the store %d", snap.IPPools.Len(), len(objs))
	}
	for _, obj := range objs {
		if have, ok := snap.Get(obj.Key()); !ok || have.GetResourceVersion() != obj.GetResourceVersion() {
			t.Errorf("%s: the Snapshot has %v, the store resourceVersion %s", obj.Key(), have, obj.GetResourceVersion())
		}
	}
}

func TestLoad(t *testing.T) {
	st := memory.New()
	if _, err := st.Create(t.Context(), storetest.Pool("a", "10.0.0.0/16")); err != nil {
		t.Fatal(err)
	}
	snap, err := store.Load(t.Context(), st, api.Kinds())
	if err != nil || !snap.InSync || !hasPool("a")(snap) {
		t.Errorf("Load: %+v, %v", snap, err)
	}
	faults := storetest.NewFaults(st)
	faults.SetDown(true)
	if _, err := store.Load(t.Context(), faults, api.Kinds()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Load while down: %v, want ErrUnavailable", err)
	}
}

// awaitStatus waits for the Follower to be connected, or not.
func (l *lab) awaitStatus(connected bool) {
	l.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for l.follower.Status().Connected != connected {
		select {
		case <-tick.C:
		case <-limit:
			l.Fatalf("status is still %+v; log:\n%s", l.follower.Status(), l.log)
		}
	}
}

// Take tells of every object that is not as it was, once, and of no other.
func TestTake(t *testing.T) {
	l := newLab(t)
	l.follower.Track = func(kind api.Kind) bool { return kind == api.KindIPPool }
	l.create(storetest.Pool("a", "10.0.0.0/16"))
	l.create(storetest.Endpoint("ns", "untracked"))
	l.run()
	taken := func(what string, want ...string) {
		t.Helper()
		snap, changed := l.follower.Take()
		var have []string
		for key := range changed {
			_, exists := snap.Get(key)
			have = append(have, fmt.Sprintf("%s %t", key, exists))
		}
		slices.Sort(have)
		if !slices.Equal(have, want) {
			t.Errorf("%s: changed %q, want %q", what, have, want)
		}
	}
	l.await("InSync", func(s api.Snapshot) bool { return s.InSync })
	taken("first", "IPPool/a true")
	taken("nothing new")
	_, nothing := l.follower.Take()
	l.create(storetest.Pool("b", "10.1.0.0/16"))
	l.create(storetest.Pool("c", "10.2.0.0/16"))
	l.await("pool c", hasPool("c"))
	if len(nothing) > 0 {
		t.Errorf("what Take gave has become %v: it is read in another goroutine", nothing)
	}
	if err := l.inner.Delete(t.Context(), storetest.Pool("b", "10.1.0.0/16").Key(), ""); err != nil {
		t.Fatal(err)
	}
	l.await("pool b deleted", func(s api.Snapshot) bool { return !hasPool("b")(s) })
	taken("made, and made and deleted", "IPPool/b false", "IPPool/c true")
}
