// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/api/store"
)

func testCreate(t *testing.T, b Backend) {
	ctx := testContext(t)
	obj := Pool("p", "10.0.0.0/16")
	obj.Labels = map[string]string{"zone": "a"}
	stored := create(t, b.Store, obj)
	if stored.GetUID() == "" || stored.GetResourceVersion() == "" || stored.GetCreationTimestamp() == (metav1.Time{}) {
		t.Errorf("created without UID, resourceVersion or creation time: %+v", stored)
	}
	if obj.UID != "" || obj.ResourceVersion != "" {
		t.Errorf("Create changed its argument: %+v", obj)
	}
	got, err := b.Store.Get(ctx, obj.Key())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(stored, got); d != "" {
		t.Errorf("Get differs from what Create returned:\n%s", d)
	}
	obj.Spec.CIDR = "10.1.0.0/16"
	if got.(*api.IPPool).Spec.CIDR != "10.0.0.0/16" {
		t.Error("the stored object shares memory with Create's argument")
	}
	_, err = b.Store.Create(ctx, obj)
	wantError(t, err, store.ErrExists)
}

func testCreateBadKey(t *testing.T, b Backend) {
	namespaced := Pool("p", "10.0.0.0/16")
	for want, obj := range map[string]api.Object{
		"name":      Pool("", "10.0.0.0/16"),
		"slash":     Pool("a/b", "10.0.0.0/16"),
		"namespace": Endpoint("", "x"),
	} {
		if w, ok := obj.(*api.WorkloadEndpoint); ok {
			w.Namespace = ""
		}
		if _, err := b.Store.Create(testContext(t), obj); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("create %s: error %v, want one about the %s", obj.Key(), err, want)
		}
	}
	if err := b.Store.Delete(testContext(t), api.Key{Kind: api.KindIPPool, Namespace: "x", Name: namespaced.Name}, ""); err == nil ||
		!strings.Contains(err.Error(), "has no namespace") {
		t.Errorf("delete with a namespace: %v", err)
	}
}

func testGetAbsent(t *testing.T, b Backend) {
	_, err := b.Store.Get(testContext(t), poolKey("p"))
	wantError(t, err, store.ErrNotFound)
}

func testUpdate(t *testing.T, b Backend) {
	ctx := testContext(t)
	first := create(t, b.Store, Pool("p", "10.0.0.0/16"))
	next := first.DeepCopyObject().(*api.IPPool)
	next.Spec.Disabled = true
	second, err := b.Store.Update(ctx, next)
	if err != nil {
		t.Fatal(err)
	}
	if second.GetResourceVersion() == first.GetResourceVersion() {
		t.Error("update kept the resourceVersion")
	}
	if next.ResourceVersion != first.GetResourceVersion() || first.(*api.IPPool).Spec.Disabled {
		t.Error("Update changed its argument or what Create returned")
	}
	got, err := b.Store.Get(ctx, next.Key())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(second, got); d != "" || !got.(*api.IPPool).Spec.Disabled {
		t.Errorf("Get differs from what Update returned:\n%s", d)
	}
}

func testUpdateConflict(t *testing.T, b Backend) {
	ctx := testContext(t)
	_, err := b.Store.Update(ctx, Pool("p", "10.0.0.0/16"))
	wantError(t, err, store.ErrNotFound)

	first := create(t, b.Store, Pool("p", "10.0.0.0/16"))
	if _, err = b.Store.Update(ctx, first); err != nil {
		t.Fatal(err)
	}
	_, err = b.Store.Update(ctx, first)
	wantError(t, err, store.ErrConflict)
	_, err = b.Store.Update(ctx, Pool("p", "10.0.0.0/16"))
	wantError(t, err, store.ErrConflict)

	if err := b.Store.Delete(ctx, first.Key(), ""); err != nil {
		t.Fatal(err)
	}
	_, err = b.Store.Update(ctx, first)
	wantError(t, err, store.ErrNotFound)
	create(t, b.Store, Pool("p", "10.0.0.0/16"))
	_, err = b.Store.Update(ctx, first)
	wantError(t, err, store.ErrConflict)
}

func testUpdateIdentity(t *testing.T, b Backend) {
	first := create(t, b.Store, Pool("p", "10.0.0.0/16"))
	next := Pool("p", "10.0.0.0/16")
	next.ResourceVersion = first.GetResourceVersion()
	next.UID = "not the stored one"
	second, err := b.Store.Update(testContext(t), next)
	if err != nil {
		t.Fatal(err)
	}
	secondTime, firstTime := second.GetCreationTimestamp(), first.GetCreationTimestamp()
	if second.GetUID() != first.GetUID() || !secondTime.Equal(&firstTime) {
		t.Errorf("update changed UID or creation time:\nhave %v %v\nwant %v %v", second.GetUID(), secondTime, first.GetUID(), firstTime)
	}
}

func testDelete(t *testing.T, b Backend) {
	ctx := testContext(t)
	wantError(t, b.Store.Delete(ctx, poolKey("p"), ""), store.ErrNotFound)

	first := create(t, b.Store, Pool("p", "10.0.0.0/16"))
	second, err := b.Store.Update(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, b.Store.Delete(ctx, first.Key(), first.GetResourceVersion()), store.ErrConflict)
	if err := b.Store.Delete(ctx, first.Key(), second.GetResourceVersion()); err != nil {
		t.Fatal(err)
	}
	wantError(t, b.Store.Delete(ctx, first.Key(), second.GetResourceVersion()), store.ErrNotFound)
	again := create(t, b.Store, Pool("p", "10.0.0.0/16"))
	if again.GetUID() == first.GetUID() {
		t.Error("an object that was deleted and made again has the same UID")
	}
	if err := b.Store.Delete(ctx, again.Key(), ""); err != nil {
		t.Fatal(err)
	}
	_, err = b.Store.Get(ctx, again.Key())
	wantError(t, err, store.ErrNotFound)
}

func testEveryKind(t *testing.T, b Backend) {
	ctx := testContext(t)
	for _, kind := range api.Kinds() {
		obj := api.New(kind)
		obj.SetName("x")
		api.Default(obj)
		stored := create(t, b.Store, obj)
		got, err := b.Store.Get(ctx, obj.Key())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(stored, got); d != "" {
			t.Errorf("%s differs:\n%s", kind, d)
		}
		if objs, _, err := b.Store.List(ctx, kind); err != nil || len(objs) != 1 {
			t.Errorf("list %s: %d objects (%v), want 1", kind, len(objs), err)
		}
	}
}

// testConcurrentCAS counts with read, add one, compare-and-swap from many goroutines.
func testConcurrentCAS(t *testing.T, b Backend) {
	const workers, rounds = 8, 12
	ctx := testContext(t)
	obj := &api.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: "b"}}
	create(t, b.Store, obj)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				if err := increment(ctx, b.Store, obj.Key()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got, err := b.Store.Get(ctx, obj.Key())
	if err != nil {
		t.Fatal(err)
	}
	if n := got.(*api.IPAMBlock).Spec.SequenceNumber; n != workers*rounds {
		t.Errorf("counted to %d, want %d", n, workers*rounds)
	}
}

func increment(ctx context.Context, st store.Store, key api.Key) error {
	for {
		obj, err := st.Get(ctx, key)
		if err != nil {
			return err
		}
		next := obj.DeepCopyObject().(*api.IPAMBlock)
		next.Spec.SequenceNumber++
		if _, err = st.Update(ctx, next); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func testCancelledContext(t *testing.T, b Backend) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Store.Get(ctx, poolKey("p")); !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("get: %v, want context canceled", err)
	}
	if _, _, err := b.Store.List(ctx, api.KindIPPool); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v, want context canceled", err)
	}
	if _, err := b.Store.Create(ctx, Pool("p", "10.0.0.0/16")); !errors.Is(err, context.Canceled) {
		t.Errorf("create: %v, want context canceled", err)
	}
}

// wantError wants the error of a write to the pool "p".
func wantError(t *testing.T, err, want error) {
	t.Helper()
	const name = "IPPool/p"
	if !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
		t.Errorf("error %v, want %q that names %q", err, want, name)
	}
}
