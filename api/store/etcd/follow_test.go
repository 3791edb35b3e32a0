// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/api/store/etcd"
	"korat/api/store/etcd/embedded"
	"korat/api/store/storetest"
)

// TestFollowThroughRestart follows a server that goes away and comes back with the same data.
func TestFollowThroughRestart(t *testing.T) {
	cfg := embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}
	server, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	st := open(t, etcd.Config{Endpoints: []string{server.Endpoint()}})
	writePools(t, st, 0, 20)
	follower := follow(t, st)
	before := await(t, follower, func(s api.Snapshot, status store.Status) bool { return s.InSync && status.Connected })
	server.Stop()
	await(t, follower, func(_ api.Snapshot, status store.Status) bool { return !status.Connected })

	cfg.Listen = strings.TrimPrefix(server.Endpoint(), "http://")
	server, err = embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	await(t, follower, func(_ api.Snapshot, status store.Status) bool { return status.Connected })
	if !follower.Snapshot().IPPools.Same(before.IPPools) {
		t.Error("the server's restart made another table, though nothing changed")
	}
	writePools(t, st, 20, 25)
	await(t, follower, func(s api.Snapshot, _ store.Status) bool { return s.IPPools.Len() == 25 })
}

// follow follows until the test ends.
func follow(t *testing.T, st store.Source) *store.Follower {
	follower := store.NewFollower(st, api.Kinds(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		follower.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return follower
}

// equal says whether the Snapshot's pools are the datastore's.
func equal(t *testing.T, snap api.Snapshot, st store.Store) bool {
	t.Helper()
	objs, _, err := st.List(t.Context(), api.KindIPPool)
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range objs {
		if have, ok := snap.Get(obj.Key()); !ok || !reflect.DeepEqual(have, obj) {
			return false
		}
	}
	return len(objs) == snap.IPPools.Len()
}

// disable and label are two different changes of a pool.
func disable(t *testing.T, st store.Store, key api.Key) {
	t.Helper()
	change(t, st, key, func(p *api.IPPool) { p.Spec.Disabled = true })
}

func label(t *testing.T, st store.Store, key api.Key) {
	t.Helper()
	change(t, st, key, func(p *api.IPPool) { p.Labels = map[string]string{"a": "b"} })
}

func change(t *testing.T, st store.Store, key api.Key, do func(*api.IPPool)) {
	t.Helper()
	obj, err := st.Get(t.Context(), key)
	if err == nil {
		obj = obj.DeepCopyObject()
		do(obj.(*api.IPPool))
		_, err = st.Update(t.Context(), obj)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func writePools(t *testing.T, st store.Store, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if _, err := st.Create(t.Context(), storetest.Pool(fmt.Sprintf("p%d", i), fmt.Sprintf("10.%d.0.0/16", i))); err != nil {
			t.Fatal(err)
		}
	}
}

func await(t *testing.T, f *store.Follower, cond func(api.Snapshot, store.Status) bool) api.Snapshot {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for {
		if snap := f.Snapshot(); cond(snap, f.Status()) {
			return snap
		}
		select {
		case <-f.Wake():
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain; status %+v", f.Status())
		}
	}
}

// A brief view gives what its own function makes of values, as they are listed and as they change; the Store itself goes on to give
// all of them.
func TestBrief(t *testing.T) {
	server := startServer(t)
	st := open(t, etcd.Config{Endpoints: []string{server.Endpoint()}})
	writePools(t, st, 0, 2)
	view := st.Brief(func(key api.Key, value []byte) (api.Object, error) {
		if key.Name == "p1" {
			return nil, errors.New("not understood")
		}
		obj, err := api.Restore(key, value)
		if pool, ok := obj.(*api.IPPool); ok {
			brief := &api.IPPool{}
			brief.Name, brief.UID, brief.Spec.CIDR = pool.Name, pool.UID, pool.Spec.CIDR
			return brief, err
		}
		return obj, err
	})
	f := follow(t, view)
	has := func(name string) func(api.Snapshot, store.Status) bool {
		return func(s api.Snapshot, _ store.Status) bool {
			pool, ok := s.IPPools.Get(name)
			return ok && pool.Spec.BlockSize == 0 && pool.Spec.CIDR != "" && pool.ResourceVersion != ""
		}
	}
	await(t, f, func(s api.Snapshot, _ store.Status) bool { return s.InSync })
	await(t, f, has("p0"))
	writePools(t, st, 2, 3)
	after := await(t, f, has("p2"))
	if _, ok := after.IPPools.Get("p1"); ok || after.IPPools.Len() != 2 {
		t.Errorf("%d pools", after.IPPools.Len())
	}
	for _, r := range []store.Reader{st, view} {
		obj, err := r.Get(t.Context(), api.Key{Kind: api.KindIPPool, Name: "p0"})
		if err != nil || (obj.(*api.IPPool).Spec.BlockSize == 0) != (r == store.Reader(view)) {
			t.Errorf("have %+v, %v", obj, err)
		}
	}
}
