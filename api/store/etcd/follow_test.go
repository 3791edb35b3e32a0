// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"context"
	"fmt"
	"log/slog"
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
	follower := store.NewFollower(st, api.Kinds(), slog.New(slog.DiscardHandler))
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
