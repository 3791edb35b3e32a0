// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/ipam/block"
)

// change does to a stored block what another node does.
func change(t *testing.T, st store.Store, cidr string, do func(*block.Block) error) {
	t.Helper()
	obj, err := st.Get(t.Context(), api.Key{Kind: api.KindIPAMBlock, Name: api.BlockName(netip.MustParsePrefix(cidr))})
	if err != nil {
		t.Fatal(err)
	}
	next := obj.DeepCopyObject().(*api.IPAMBlock)
	b, err := block.From(next.Spec)
	if err == nil {
		err = do(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	next.Spec = b.Spec()
	if _, err := st.Update(t.Context(), next); err != nil {
		t.Fatal(err)
	}
}

func ofB(handle string) block.Holder {
	return block.Holder{Handle: handle, Attrs: map[string]string{"node": "b", "namespace": "ns", "pod": "pod-" + handle}}
}

// stored shows a block as the datastore has it.
func stored(t *testing.T, st store.Store, cidr string) string {
	t.Helper()
	obj, err := st.Get(t.Context(), api.Key{Kind: api.KindIPAMBlock, Name: api.BlockName(netip.MustParsePrefix(cidr))})
	if err != nil {
		t.Fatal(err)
	}
	b, err := block.From(obj.(*api.IPAMBlock).Spec)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for addr, al := range b.All() {
		parts = append(parts, addr.String()+"="+al.Handle)
	}
	return strings.Join(parts, " ")
}

// publish writes what the allocator wants written.
func publish(t *testing.T, st Store, a *Allocator) {
	t.Helper()
	p := publisher{store: st, node: "a"}
	for _, c := range a.Changes() {
		if err := p.one(t.Context(), api.BlockName(c.Block), c); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForeignAddressSurvives: what another node holds of our block is neither freed nor assigned here, and
// free again once that node has released it.
func TestForeignAddressSurvives(t *testing.T) {
	const cidr = "10.0.0.0/30"
	blk := ipamBlock(t, "a", cidr, "")
	blk.UID = ""
	st := filled(t, pool("p", "10.0.0.0/16", 30), affinity("a", cidr, "confirmed"), blk)
	a := node(picture(t, st))
	if have := ask(a, auto("h")); have != "10.0.0.0" {
		t.Fatal(have)
	}
	lent := addrs("10.0.0.1")[0]
	change(t, st, cidr, func(b *block.Block) error { return b.AssignAddr(lent, ofB("theirs")) })
	publish(t, st, a) // no Snapshot has shown it
	if have := stored(t, st, cidr); have != "10.0.0.0=h 10.0.0.1=theirs" {
		t.Errorf("stored %s", have)
	}
	a.Update(picture(t, st))
	if len(a.Orphans()) > 0 || len(a.Changes()) > 0 || len(a.Problems()) > 0 {
		t.Errorf("orphans %v, changes %v, problems %v", a.Orphans(), a.Changes(), a.Problems())
	}
	for i, want := range []string{"10.0.0.2", "10.0.0.3", "no address yet"} {
		if have := ask(a, auto(fmt.Sprint(i))); !strings.Contains(have, want) {
			t.Errorf("have %s, want %s", have, want)
		}
	}
	if have := ask(a, want("x", "10.0.0.1")); have != `assign to "x": address 10.0.0.1 is in use by pod ns/pod-theirs (handle "theirs")` {
		t.Errorf("have %s", have)
	}
	if have := ask(a, auto("theirs")); !strings.HasPrefix(have, "assign to") {
		t.Errorf("their handle gives %s", have)
	}
	publish(t, st, a)
	change(t, st, cidr, func(b *block.Block) error { b.ReleaseByHandle("theirs", time.Time{}); return nil })
	a.Release("h")
	publish(t, st, a)
	if have := stored(t, st, cidr); have != "10.0.0.2=0 10.0.0.3=1" {
		t.Errorf("both released: stored %s", have)
	}
	a.Update(picture(t, st))
	if have := []string{ask(a, auto("y")), ask(a, auto("z"))}; !slices.Equal(have, []string{"10.0.0.0", "10.0.0.1"}) {
		t.Errorf("assigned %v", have)
	}
}

// TestForeignAddressInUseHere: the CNI record and the datastore disagree. Neither is overruled, and it is told.
func TestForeignAddressInUseHere(t *testing.T) {
	const cidr = "10.0.0.0/30"
	blk := ipamBlock(t, "a", cidr, "")
	blk.UID = ""
	st := filled(t, pool("p", "10.0.0.0/16", 30), affinity("a", cidr, "confirmed"), blk)
	change(t, st, cidr, func(b *block.Block) error { return b.AssignAddr(addrs("10.0.0.1")[0], ofB("theirs")) })
	a := NewAllocator("a", fixed)
	a.Restore("h", map[string]string{"namespace": "ns", "pod": "web"}, addrs("10.0.0.1", "10.0.0.2"))
	a.Update(picture(t, st))
	publish(t, st, a)
	a.Update(picture(t, st))
	if have := stored(t, st, cidr); have != "10.0.0.1=theirs 10.0.0.2=h" || len(a.Changes()) > 0 {
		t.Errorf("stored %s, changes %v", have, a.Changes())
	}
	const problem = `address 10.0.0.1 is in use by pod ns/web (handle "h"), but the datastore says by ` +
		`pod ns/pod-theirs (handle "theirs") on node "b": delete one of the two pods`
	if p := a.Problems(); len(p) != 1 || p[0].Error() != problem {
		t.Errorf("problems %v", p)
	}
	a.Release("h")
	for _, want := range []string{"10.0.0.0", "10.0.0.3", "10.0.0.2", "no"} {
		if have := ask(a, auto("x"+want)); !strings.HasPrefix(have, want) && want != "no" || have == "10.0.0.1" {
			t.Errorf("have %s, want %s", have, want)
		}
	}
}

// TestBlockWithForeignAddressMadeAnew: the borrower's pod outlives the block's object too.
func TestBlockWithForeignAddressMadeAnew(t *testing.T) {
	const cidr = "10.0.0.0/30"
	empty := ipamBlock(t, "a", cidr, "")
	empty.UID = ""
	st := filled(t, pool("p", "10.0.0.0/16", 30), affinity("a", cidr, "confirmed"), empty)
	change(t, st, cidr, func(b *block.Block) error { return b.AssignAddr(addrs("10.0.0.1")[0], ofB("theirs")) })
	a := node(picture(t, st))
	if err := st.Delete(t.Context(), empty.Key(), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Create(t.Context(), empty); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		a.Update(picture(t, st))
		publish(t, st, a)
	}
	if have := stored(t, st, cidr); have != "10.0.0.1=theirs" {
		t.Errorf("stored %s", have)
	}
}

// TestBorrowerWalk lets node a assign and publish while node b borrows and gives back, with Snapshots that lag, also
// behind ones that came before. No address has two holders, and in the end the datastore has all.
func TestBorrowerWalk(t *testing.T) {
	const cidr = "10.0.0.0/29"
	given, lent := 0, 0
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		blk := ipamBlock(t, "a", cidr, "")
		blk.UID = ""
		st := filled(t, pool("p", cidr, 29), affinity("a", cidr, "confirmed"), blk)
		a := node(picture(t, st))
		seen := []api.Snapshot{picture(t, st)}
		live := map[string]string{} // address → handle
		hold := func(addr, handle string) {
			if by, taken := live[addr]; taken {
				t.Fatalf("seed %d: %s was given to %s, but %s has it", seed, addr, handle, by)
			}
			live[addr] = handle
		}
		release := func(node string) (handle string) {
			for _, addr := range slices.Sorted(maps.Keys(live)) {
				if strings.HasPrefix(live[addr], node) {
					handle = live[addr]
					delete(live, addr)
					return handle
				}
			}
			return ""
		}
		for step := range 120 {
			switch r.IntN(7) {
			case 0, 1:
				// A node that lends leases ahead: it asks the datastore before it assigns.
				publish(t, st, a)
				a.Update(picture(t, st))
				if got, err := a.Assign(auto(fmt.Sprint("a", step))); err == nil {
					hold(got[0].String(), fmt.Sprint("a", step))
					publish(t, st, a)
					given++
				} else if !errors.Is(err, ErrNeedBlock) {
					t.Fatal(err)
				}
			case 2:
				a.Release(release("a"))
			case 3:
				change(t, st, cidr, func(b *block.Block) error {
					for _, addr := range b.Assign(1, ofB(fmt.Sprint("b", step)), nil) {
						hold(addr.String(), fmt.Sprint("b", step))
						lent++
					}
					return nil
				})
			case 4:
				if handle := release("b"); handle != "" {
					change(t, st, cidr, func(b *block.Block) error { b.ReleaseByHandle(handle, time.Time{}); return nil })
				}
			case 5:
				publish(t, st, a)
			case 6:
				seen = append(seen, picture(t, st))
				a.Update(seen[max(0, len(seen)-1-r.IntN(3))])
			}
		}
		for range 2 {
			a.Update(picture(t, st))
			publish(t, st, a)
		}
		var want []string
		for _, addr := range slices.Sorted(maps.Keys(live)) {
			want = append(want, addr+"="+live[addr])
		}
		if have := stored(t, st, cidr); have != strings.Join(want, " ") {
			t.Fatalf("seed %d: stored %s, want %v", seed, have, want)
		}
	}
	if given < 1000 || lent < 1000 {
		t.Errorf("the walks went nowhere: %d given, %d lent", given, lent)
	}
}
