// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"korat/api"
	"korat/api/store"
	"korat/api/store/etcd/embedded"
)

// compacting is a client between whose pages the history is compacted, for the first few lists.
type compacting struct {
	clientv3.KV
	t *testing.T

	mu sync.Mutex
	// lists is how many lists are still to be spoilt.
	lists int
	// before is called for each of them, before its history goes.
	before func()
}

// unrelated is a key outside of korat's: each compaction needs a revision of its own.
const unrelated = "/unrelated"

func (c *compacting) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	resp, err := c.KV.Get(ctx, key, opts...)
	if err == nil && resp.More && c.due() {
		c.before()
		now, err := c.KV.Put(ctx, unrelated, "")
		if err == nil {
			_, err = c.KV.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
		}
		if err != nil {
			c.t.Error(err)
		}
	}
	return resp, err
}

func (c *compacting) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lists--
	return c.lists >= 0
}

// endpointOf gives an endpoint of a node.
func endpointOf(node string, n int) *api.WorkloadEndpoint {
	ep := &api.WorkloadEndpoint{Spec: api.WorkloadEndpointSpec{Node: node}}
	ep.Namespace, ep.Name = "ns", fmt.Sprintf("e%04d", n)
	return ep
}

// openPaged gives a Store of more endpoints than one page holds, every second one of node "a".
func openPaged(t *testing.T) *Store {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	st, err := New(Config{Endpoints: []string{server.Endpoint()}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	var all sync.WaitGroup
	for part := range 20 {
		all.Go(func() {
			for n := part; n < pageSize+100; n += 20 {
				if _, err := st.Create(t.Context(), endpointOf([]string{"a", "b"}[n%2], n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	return st
}

// The history that a list reads is compacted between two of its pages: it begins again, and has the present.
func TestCompactionBetweenPages(t *testing.T) {
	st := openPaged(t)
	inner := st.client.KV
	change := func() {
		if err := st.Delete(t.Context(), endpointOf("a", 0).Key(), ""); err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if _, err := st.Create(t.Context(), endpointOf("a", 9000)); err != nil && !errors.Is(err, store.ErrExists) {
			t.Error(err)
		}
	}
	for _, tt := range []struct {
		spoilt int
		want   error
	}{{1, nil}, {listTries - 1, nil}, {listTries, store.ErrCompacted}} {
		st.client.KV = &compacting{KV: inner, t: t, lists: tt.spoilt, before: change}
		objs, revision, err := st.List(t.Context(), api.KindWorkloadEndpoint)
		switch {
		case !errors.Is(err, tt.want):
			t.Errorf("%d lists spoilt: have %v, want %v", tt.spoilt, err, tt.want)
		case err == nil && (len(objs) != pageSize+100 || objs[0].GetName() != "e0001" || objs[len(objs)-1].GetName() != "e9000" || revision == ""):
			t.Errorf("%d lists spoilt: have %d objects, %s to %s", tt.spoilt, len(objs), objs[0].Key(), objs[len(objs)-1].Key())
		}
	}
	st.client.KV = &compacting{KV: inner, t: t, lists: 1, before: change}
	if _, err := st.Pages(t.Context(), api.KindWorkloadEndpoint, func([]api.Object) {}); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("pages: have %v, want %v", err, store.ErrCompacted)
	}
}

// A Follower lists again, and never shows the half that it read first.
func TestFollowCompactionBetweenPages(t *testing.T) {
	st := openPaged(t)
	away, came := endpointOf("a", 0), endpointOf("a", 9000)
	st.client.KV = &compacting{KV: st.client.KV, t: t, lists: 2, before: func() {
		if err := st.Delete(t.Context(), away.Key(), ""); err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if _, err := st.Create(t.Context(), came); err != nil && !errors.Is(err, store.ErrExists) {
			t.Error(err)
		}
	}}
	f := store.NewFollower(st, api.Kinds(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Run(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	limit := time.After(time.Minute)
	for !f.Snapshot().InSync {
		select {
		case <-f.Wake():
		case <-limit:
			t.Fatalf("never in sync: %+v", f.Status())
		}
		if have := f.Snapshot().WorkloadEndpoints.Len(); have != 0 && have != pageSize+100 {
			t.Errorf("a Snapshot with %d endpoints", have)
		}
	}
	have := f.Snapshot().WorkloadEndpoints
	if have.Len() != pageSize+100 {
		t.Errorf("%d endpoints, want %d", have.Len(), pageSize+100)
	}
	if _, ok := have.Get("ns/" + away.Name); ok {
		t.Error("what was deleted during the first list is there")
	}
	if _, ok := have.Get("ns/" + came.Name); !ok {
		t.Error("what was created during the first list is missing")
	}
}
