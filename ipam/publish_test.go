// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"korat/api"
	"korat/api/store"
)

// TestPublish runs a keeper on a fake clock.
func TestPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{Store: filled(t, pool("p", "10.0.0.0/16", 28)), left: 1 << 30}
		ctx, cancel := context.WithCancel(t.Context())
		k, a := NewKeeper(f, "a", quiet()), NewAllocator("a", time.Now)
		go k.Run(ctx)
		pass := func() {
			synctest.Wait()
			a.Update(picture(t, f.Store))
			k.Want(a.Wants())
			synctest.Wait()
		}
		later := func(d time.Duration) {
			time.Sleep(d) // of synctest's clock
			synctest.Wait()
		}
		updates := func() int { return f.count("update IPAMBlock") }
		stored := func() int {
			n := 0
			for _, b := range picture(t, f.Store).IPAMBlocks.All() {
				n += len(b.Spec.Attributes)
			}
			return n
		}
		pass()
		pass()
		for i := range 10 {
			if _, err := a.Assign(auto(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			pass()
		}
		if updates() != 1 || stored() != 1 {
			t.Errorf("at once: %d writes, %d addresses: want the first", updates(), stored())
		}
		later(publishInterval)
		pass()
		if updates() != 2 || stored() != 10 {
			t.Errorf("a second later: %d writes, %d addresses: want one write for the others", updates(), stored())
		}
		f.allow(0)
		a.Release("3")
		later(publishInterval)
		pass()
		if err := k.Status().Err; !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("datastore down: status %v", err)
		}
		tries := f.count("")
		for range 50 {
			pass()
		}
		if f.count("") > tries {
			t.Errorf("%d calls while it should pause", f.count("")-tries)
		}
		f.allow(1 << 30)
		later(2 * maxPause)
		pass()
		if err := k.Status().Err; err != nil || stored() != 9 {
			t.Errorf("datastore back: status %v, %d addresses", err, stored())
		}
		cancel()
	})
}

// TestPublishConflict: another writer's change is read again, and overwritten.
func TestPublishConflict(t *testing.T) {
	st := filled(t, pool("p", "10.0.0.0/16", 28))
	k, _ := run(t, st, "a")
	a := NewAllocator("a", fixed)
	a.Update(picture(t, st))
	ask(a, auto("h"))
	obj := slices.Collect(picture(t, st).Objects(api.KindIPAMBlock))[0].(*api.IPAMBlock).DeepCopy()
	obj.Spec.SequenceNumber = 50
	obj.Spec.Unallocated = nil // broken, even
	if _, err := st.Update(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	k.Want(a.Wants())
	if _, err := k.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.Update(picture(t, st))
	if c := a.Changes(); len(c) > 0 || a.blocks.own()[0].stored.Spec.SequenceNumber != 51 {
		t.Errorf("left to change: %v, sequence number %d", c, a.blocks.own()[0].stored.Spec.SequenceNumber)
	}
	foreign := a.blocks.own()[0].stored.DeepCopy()
	foreign.Spec.Affinity = new("host:b")
	if _, err := st.Update(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	a.Release("h")
	if err := k.publish.one(t.Context(), foreign.Name, a.Changes()[0]); err != nil {
		t.Fatal(err)
	}
	if got, _ := st.Get(t.Context(), foreign.Key()); len(got.(*api.IPAMBlock).Spec.Attributes) != 1 {
		t.Error("another node's block was written")
	}
}
