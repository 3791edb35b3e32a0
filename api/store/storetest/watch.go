// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"korat/api"
	"korat/api/store"
)

func testList(t *testing.T, b Backend) {
	ctx := testContext(t)
	objs, empty, err := b.Store.List(ctx, api.KindWorkloadEndpoint)
	if err != nil || len(objs) != 0 || empty == "" {
		t.Fatalf("list of nothing: %v at %q, %v", objs, empty, err)
	}
	for _, name := range []string{"b/b", "a/z", "b/a", "a-b/y", "a/a"} {
		namespace, name, _ := strings.Cut(name, "/")
		create(t, b.Store, Endpoint(namespace, name))
	}
	create(t, b.Store, Pool("p", "10.0.0.0/16"))
	objs, revision, err := b.Store.List(ctx, api.KindWorkloadEndpoint)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range objs {
		names = append(names, o.Key().TableName())
		if o.GetResourceVersion() == "" {
			t.Errorf("%s is listed without resourceVersion", o.Key())
		}
	}
	if have, want := strings.Join(names, " "), "a-b/y a/a a/z b/a b/b"; have != want {
		t.Errorf("listed %s, want %s", have, want)
	}
	if revision == "" || revision == empty {
		t.Errorf("revision %q after writes, %q before", revision, empty)
	}
}

// testListMany lists more than any backend's page.
func testListMany(t *testing.T, b Backend) {
	const count = 1203
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < count; i += 4 {
				if _, err := b.Store.Create(testContext(t), Endpoint("ns", fmt.Sprintf("e%04d", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	objs, _, err := b.Store.List(testContext(t), api.KindWorkloadEndpoint)
	if err != nil || len(objs) != count {
		t.Fatalf("listed %d objects, want %d: %v", len(objs), count, err)
	}
	for i, o := range objs {
		if want := fmt.Sprintf("e%04d", i); o.GetName() != want {
			t.Fatalf("object %d is %s, want %s", i, o.GetName(), want)
		}
	}
}

func testWatch(t *testing.T, b Backend) {
	ctx := testContext(t)
	create(t, b.Store, Pool("old", "10.0.0.0/16"))
	_, revision, err := b.Store.List(ctx, api.KindIPPool)
	if err != nil {
		t.Fatal(err)
	}
	// These changes lie between the list and the watch.
	first := create(t, b.Store, Pool("p", "10.1.0.0/16"))
	create(t, b.Store, Endpoint("ns", "e"))
	events, err := b.Store.Watch(ctx, api.KindIPPool, revision)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Store.Update(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Store.Delete(ctx, first.Key(), ""); err != nil {
		t.Fatal(err)
	}
	third := create(t, b.Store, Pool("p", "10.2.0.0/16"))

	var have []string
	last := revision
	for range 4 {
		ev := next(t, events)
		have = append(have, describe(ev))
		if ev.Revision == "" || ev.Revision == last {
			t.Errorf("%s: revision %q after %q", describe(ev), ev.Revision, last)
		}
		last = ev.Revision
	}
	want := []string{
		"IPPool/p at " + first.GetResourceVersion(), "IPPool/p at " + second.GetResourceVersion(),
		"IPPool/p deleted", "IPPool/p at " + third.GetResourceVersion(),
	}
	if !slices.Equal(have, want) {
		t.Errorf("events:\nhave %q\nwant %q", have, want)
	}
	// A watch from the last event's revision goes on after it.
	events, err = b.Store.Watch(ctx, api.KindIPPool, last)
	if err != nil {
		t.Fatal(err)
	}
	create(t, b.Store, Pool("q", "10.3.0.0/16"))
	if ev := next(t, events); ev.Key != poolKey("q") {
		t.Errorf("watch from %s continued with %s, want IPPool/q", last, describe(ev))
	}
}

// testWatchConcurrent replays a watch that started amid writes: list plus events give the end state,
// and every resourceVersion comes once, in order.
func testWatchConcurrent(t *testing.T, b Backend) {
	const writers, rounds = 4, 25
	ctx := testContext(t)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				name := fmt.Sprintf("p%d", (w+i)%5)
				if _, err := b.Store.Create(ctx, Pool(name, "10.0.0.0/16")); errors.Is(err, store.ErrExists) {
					err = b.Store.Delete(ctx, poolKey(name), "")
					if err != nil && !errors.Is(err, store.ErrNotFound) {
						t.Error(err)
					}
				}
			}
		})
	}
	objs, revision, err := b.Store.List(ctx, api.KindIPPool)
	if err != nil {
		t.Fatal(err)
	}
	events, err := b.Store.Watch(ctx, api.KindIPPool, revision)
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	create(t, b.Store, Pool("last", "10.0.0.0/16"))
	have := map[string]string{}
	for _, o := range objs {
		have[o.GetName()] = o.GetResourceVersion()
	}
	for ev := next(t, events); ; ev = next(t, events) {
		_, present := have[ev.Key.Name]
		if present == (ev.Object != nil) {
			t.Fatalf("%s, but present before: %v; every write here is a create or a delete", describe(ev), present)
		}
		delete(have, ev.Key.Name)
		if ev.Object != nil {
			have[ev.Key.Name] = ev.Object.GetResourceVersion()
		}
		if ev.Key.Name == "last" {
			break
		}
	}
	objs, _, err = b.Store.List(ctx, api.KindIPPool)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objs {
		if have[o.GetName()] != o.GetResourceVersion() {
			t.Errorf("%s: replayed to %q, stored at %q", o.Key(), have[o.GetName()], o.GetResourceVersion())
		}
		delete(have, o.GetName())
	}
	if len(have) != 0 {
		t.Errorf("replayed to objects that do not exist: %v", have)
	}
}

func testWatchCancel(t *testing.T, b Backend) {
	ctx, cancel := context.WithCancel(testContext(t))
	_, revision, err := b.Store.List(ctx, api.KindIPPool)
	if err != nil {
		t.Fatal(err)
	}
	events, err := b.Store.Watch(ctx, api.KindIPPool, revision)
	if err != nil {
		t.Fatal(err)
	}
	create(t, b.Store, Pool("p", "10.0.0.0/16"))
	next(t, events)
	cancel()
	for ev := range events {
		t.Errorf("after cancel: %s", describe(ev))
	}
}

func testWatchCompacted(t *testing.T, b Backend) {
	ctx := testContext(t)
	_, revision, err := b.Store.List(ctx, api.KindIPPool)
	if err != nil {
		t.Fatal(err)
	}
	create(t, b.Store, Pool("p", "10.0.0.0/16"))
	create(t, b.Store, Pool("q", "10.1.0.0/16"))
	b.Compact(t)
	events, err := b.Store.Watch(ctx, api.KindIPPool, revision)
	if err != nil {
		t.Fatal(err)
	}
	ev, open := <-events
	if !open || !errors.Is(ev.Err, store.ErrCompacted) {
		t.Fatalf("watch from before the compaction: %s (open %v), want ErrCompacted", describe(ev), open)
	}
	if ev, open = <-events; open {
		t.Errorf("%s after the end", describe(ev))
	}
	_, revision, err = b.Store.List(ctx, api.KindIPPool)
	if err != nil {
		t.Fatal(err)
	}
	events, err = b.Store.Watch(ctx, api.KindIPPool, revision)
	if err != nil {
		t.Fatal(err)
	}
	create(t, b.Store, Pool("r", "10.2.0.0/16"))
	if ev := next(t, events); ev.Key != poolKey("r") {
		t.Errorf("watch after the new list: %s, want IPPool/r", describe(ev))
	}
}

func testWatchBadRevision(t *testing.T, b Backend) {
	if _, err := b.Store.Watch(testContext(t), api.KindIPPool, "x"); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf(`watch from revision "x": error %v, want one that names it`, err)
	}
}

// next gives the next event, which must be a change.
func next(t *testing.T, events <-chan store.Event) store.Event {
	t.Helper()
	ev, open := <-events
	if !open || ev.Err != nil {
		t.Fatalf("watch ended: %v", ev.Err)
	}
	return ev
}

func describe(ev store.Event) string {
	switch {
	case ev.Err != nil:
		return "error " + ev.Err.Error()
	case ev.Object == nil:
		return ev.Key.String() + " deleted"
	}
	return ev.Key.String() + " at " + ev.Object.GetResourceVersion()
}
