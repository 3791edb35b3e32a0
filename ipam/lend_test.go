// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/ipam/block"
)

// lender gives a datastore in which node a has a block, and an allocator of node a that lends of it.
func lender(t *testing.T, cidr string) (store.Store, *Allocator) {
	t.Helper()
	p := netip.MustParsePrefix(cidr)
	blk := ipamBlock(t, "a", cidr, "")
	blk.UID = ""
	st := filled(t, pool("p", cidr, p.Bits()), affinity("a", cidr, "confirmed"), blk, settings(false, 0))
	a := node(picture(t, st))
	settleDown(t, st, a)
	return st, a
}

// settleDown publishes until there is nothing left to.
func settleDown(t *testing.T, st Store, a *Allocator) {
	t.Helper()
	for range 4 {
		publish(t, st, a)
		a.Update(picture(t, st))
	}
	if c := a.Changes(); len(c) > 0 {
		t.Fatalf("still to be changed: %v", c)
	}
}

// switchTo changes strictAffinity.
func switchTo(t *testing.T, st store.Store, strict bool) {
	t.Helper()
	obj, err := st.Get(t.Context(), settings(strict, 0).Key())
	if err != nil {
		t.Fatal(err)
	}
	next := obj.DeepCopyObject().(*api.IPAMConfiguration)
	*next.Spec.StrictAffinity = strict
	if _, err := st.Update(t.Context(), next); err != nil {
		t.Fatal(err)
	}
}

// annotated shows what a block's object says about lending.
func annotated(t *testing.T, st store.Store, cidr string) string {
	t.Helper()
	obj, err := st.Get(t.Context(), api.Key{Kind: api.KindIPAMBlock, Name: api.BlockName(netip.MustParsePrefix(cidr))})
	if err != nil {
		t.Fatal(err)
	}
	return obj.(*api.IPAMBlock).Annotations[lendingAnnotation]
}

// TestLendingBegins: the owner first stops to assign what it has not leased, then leases, and only that opens the block
// to others. Going back needs the same care.
func TestLendingBegins(t *testing.T) {
	for cidr, first := range map[string]string{"10.0.0.0/29": "10.0.0.", "fd00::/125": "fd00::"} {
		blk := ipamBlock(t, "a", cidr, "")
		blk.UID = ""
		st := filled(t, pool("p", cidr, netip.MustParsePrefix(cidr).Bits()), affinity("a", cidr, "confirmed"), blk, settings(false, 0))
		a := node(picture(t, st))
		var steps []string
		for i := range 4 {
			got, err := a.Assign(Request{Handle: fmt.Sprint("h", i)})
			publish(t, st, a)
			steps = append(steps, fmt.Sprint(strings.ReplaceAll(fmt.Sprint(got), first, "+"), errors.Is(err, ErrNeedBlock), " ", annotated(t, st, cidr), " ",
				strings.ReplaceAll(stored(t, st, cidr), first, "+")))
			a.Update(picture(t, st))
		}
		name := func(n int) string {
			return strings.ReplaceAll(fmt.Sprint(netip.MustParseAddr(first+fmt.Sprint(n))), first, "+")
		}
		want := fmt.Sprintf("[%[1]s]false prepared %[1]s=h0|[]true true %[1]s=h0 %[2]s=lease-a %[3]s=lease-a %[4]s=lease-a %[5]s=lease-a %[6]s=lease-a"+
			"|[%[2]s]false true %[1]s=h0 %[2]s=h2 %[3]s=lease-a %[4]s=lease-a %[5]s=lease-a %[6]s=lease-a"+
			"|[%[3]s]false true %[1]s=h0 %[2]s=h2 %[3]s=h3 %[4]s=lease-a %[5]s=lease-a %[6]s=lease-a", name(0), name(1), name(2), name(3), name(4), name(5))
		if cidr == "fd00::/125" {
			want = strings.ReplaceAll(want, "fd00::", "+")
		}
		if have := strings.Join(steps, "|"); have != want {
			t.Errorf("have %s\nwant %s", have, want)
		}
		switchTo(t, st, true)
		a.Update(picture(t, st))
		publish(t, st, a)
		for range 3 {
			_, _ = a.Assign(Request{Handle: "leased"}) // what is leased can still be had
		}
		if have := annotated(t, st, cidr); have != "" {
			t.Errorf("strict again: lending is %q", have)
		}
		a.Update(picture(t, st))
		for i := range 4 {
			if _, err := a.Assign(Request{Handle: fmt.Sprint("s", i)}); err != nil {
				t.Errorf("the whole block is the owner's: %v", err)
			}
		}
	}
}

// TestEarlierRunsWrite: what an earlier run of the agent has sent may still come. Until this one has written the block
// itself, it assigns nothing of it.
func TestEarlierRunsWrite(t *testing.T) {
	const cidr = "10.0.0.0/29"
	st, _ := lender(t, cidr)
	again := node(picture(t, st)) // killed with a write under way
	if have := ask(again, auto("h")); !strings.Contains(have, "an address has to be leased in a block of this node") {
		t.Fatalf("before its first write the agent assigns %s", have)
	}
	late, err := st.Get(t.Context(), api.Key{Kind: api.KindIPAMBlock, Name: api.BlockName(netip.MustParsePrefix(cidr))})
	if err != nil {
		t.Fatal(err)
	}
	settleDown(t, st, again)
	if have := ask(again, auto("h")); have != "10.0.0.0" {
		t.Errorf("then it assigns %s", have)
	}
	if _, err := st.Update(t.Context(), late); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the late write: %v", err)
	}
}

// TestGivenUpForGood: an address that was given up is not assigned before the datastore shows that it is free and leased
// anew, because the write that frees it may come at any time.
func TestGivenUpForGood(t *testing.T) {
	const cidr = "10.0.0.0/27"
	st, a := lender(t, cidr)
	for i := range 30 {
		ask(a, auto(fmt.Sprint(i)))
		settleDown(t, st, a)
	}
	for i := range 30 {
		a.Release(fmt.Sprint(i))
	}
	if c := a.Changes(); len(c) != 1 { // not written yet
		t.Fatal(c)
	}
	var got []string
	for i := range 32 {
		if have := ask(a, auto(fmt.Sprint("n", i))); !strings.Contains(have, " ") {
			got = append(got, have)
		}
	}
	if len(got) != 16 {
		t.Errorf("of 32 addresses all were the owner's, and it keeps 16; assigned %d: %v", len(got), got)
	}
	settleDown(t, st, a)
	if have := ask(a, auto("more")); strings.Contains(have, " ") {
		t.Errorf("after the write: %s", have)
	}
}

// share makes one write of each of a node's loans.
func share(t *testing.T, st Store, a *Allocator) {
	t.Helper()
	b := newBorrower(st, a.node, quiet())
	if _, err := b.all(t.Context(), a.Wants(), noon); err != nil {
		t.Fatal(err)
	}
	a.Update(picture(t, st))
}

// needy gives an allocator of node b, whose pools are exhausted.
func needy(t *testing.T, st store.Store) *Allocator {
	t.Helper()
	b := NewAllocator("b", fixed)
	b.Update(picture(t, st))
	b.SetExhausted([]string{"p"})
	return b
}

// TestBorrow follows one address from the request to its return, in both families.
func TestBorrow(t *testing.T) {
	for cidr, addr := range map[string]string{"10.0.0.0/29": "10.0.0.4", "fd00::/125": "fd00::4"} {
		st, a := lender(t, cidr)
		b := needy(t, st)
		r := Request{Handle: "h", Attrs: map[string]string{"namespace": "ns", "pod": "web"}}
		if have := ask(b, r); !strings.Contains(have, "an address has to be borrowed from another node's block of p ("+cidr+")") {
			t.Fatalf("have %s", have)
		}
		share(t, st, b)
		if have := ask(b, r); have != addr {
			t.Fatalf("have %s, want %s: the owner leases four", have, addr)
		}
		share(t, st, b)
		a.Update(picture(t, st))
		settleDown(t, st, a)
		if have := fmt.Sprint(a.Lent(), b.Borrowed(), a.Orphans(), b.Orphans(), b.Loans(), a.Problems(), b.Problems()); have != fmt.Sprintf("[%[1]s] [%[1]s] [] [] [] [] []", addr) {
			t.Errorf("lent, borrowed, orphans: %s", have)
		}
		if have := stored(t, st, cidr); !strings.Contains(have, addr+"=h") {
			t.Errorf("stored %s", have)
		}
		if have := ask(a, want("x", addr)); !strings.Contains(have, "is in use by pod ns/web") {
			t.Errorf("its owner assigns it: %s", have)
		}

		again := NewAllocator("b", fixed) // a restart, with and without the record
		again.Restore("h", map[string]string{"pod": "web"}, addrs(addr))
		again.Update(picture(t, st))
		lost := needy(t, st)
		if have := fmt.Sprint(again.Borrowed(), again.Loans(), again.Problems(), len(lost.Orphans())); have != fmt.Sprintf("[%s] [] [] 1", addr) {
			t.Errorf("restarted: %s", have)
		}
		if have := ask(lost, r); have != addr {
			t.Errorf("asked again without a record: %s", have)
		}

		switchTo(t, st, true) // what is borrowed stays valid
		a.Update(picture(t, st))
		settleDown(t, st, a)
		for i := range 8 {
			if have := ask(a, auto(fmt.Sprint("own", i))); have == addr {
				t.Errorf("the owner assigns what is lent")
			}
		}
		settleDown(t, st, a)
		b.Release("h")
		share(t, st, b)
		a.Update(picture(t, st))
		if have := fmt.Sprint(a.Lent(), b.Borrowed(), ask(a, want("x", addr))); have != "[] []"+addr {
			t.Errorf("given back: %s", have)
		}
	}
}

// TestBorrowedOfEarlierRun: a lease that an earlier run of the agent took is no pod's and goes back.
func TestBorrowedOfEarlierRun(t *testing.T) {
	const cidr = "10.0.0.0/29"
	st, _ := lender(t, cidr)
	b := needy(t, st)
	ask(b, auto("h"))
	share(t, st, b)
	again := needy(t, st)
	if have := ask(again, auto("h")); !strings.Contains(have, "has to be borrowed") {
		t.Errorf("have %s", have)
	}
	share(t, st, again)
	if have := stored(t, st, cidr); strings.Count(have, "lease-b") != 1 || strings.Contains(have, "10.0.0.4=") {
		t.Errorf("stored %s: want another lease in the place of the old one", have)
	}
	again.Release("h") // nobody waits any more
	share(t, st, again)
	if have := stored(t, st, cidr); strings.Contains(have, "lease-b") {
		t.Errorf("stored %s", have)
	}
}

// TestStaleReturn: an assignment that is not the one that was meant stays.
func TestStaleReturn(t *testing.T) {
	const cidr = "10.0.0.0/29"
	st, _ := lender(t, cidr)
	b := needy(t, st)
	ask(b, auto("h"))
	share(t, st, b)
	got := addrs(ask(b, auto("h")))[0]
	share(t, st, b)
	b.Release("h")
	back := b.Loans()
	change(t, st, cidr, func(x *block.Block) error { // given back and borrowed anew, as the node does not know yet
		x.ReleaseByHandle("h", time.Time{})
		return x.AssignAddr(got, ofB("theirs"))
	})
	w := b.Wants()
	w.Loans = back
	keeper := newBorrower(st, "b", quiet())
	if _, err := keeper.all(t.Context(), w, noon); err != nil || !strings.Contains(stored(t, st, cidr), got.String()+"=theirs") {
		t.Errorf("%v, stored %s", err, stored(t, st, cidr))
	}
	if err := b.ReleaseOrphans(Orphan{Address: got, Sequence: 1}); !errors.Is(err, block.ErrStale) {
		t.Errorf("an orphan that has changed: %v", err)
	}
}

// TestNobodyBorrowsOfAStrictBlock: without its owner's word nothing of a block is free, whatever it lists as unallocated.
func TestNobodyBorrowsOfAStrictBlock(t *testing.T) {
	const cidr = "10.0.0.0/29"
	blk := ipamBlock(t, "a", cidr, "")
	blk.UID = ""
	st := filled(t, pool("p", cidr, 29), affinity("a", cidr, "confirmed"), blk, settings(false, 0))
	for _, lending := range []string{"", lendingPrepared} {
		obj, _ := st.Get(t.Context(), blk.Key())
		next := obj.DeepCopyObject().(*api.IPAMBlock)
		terms{lending: lending}.write(next)
		if _, err := st.Update(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		b := needy(t, st)
		if have := ask(b, auto("h")); !strings.Contains(have, "no free address and no free block") {
			t.Errorf("lending %q: %s", lending, have)
		}
		w := b.Wants()
		current, _ := st.Get(t.Context(), blk.Key())
		w.Loans = []Loan{{Block: netip.MustParsePrefix(cidr), UID: string(current.GetUID()), Take: 1, Lease: block.Lease("b", "x"), Pods: map[netip.Addr]block.Holder{addrs("10.0.0.1")[0]: ofB("p")}}}
		keeper := newBorrower(st, "b", quiet())
		if _, err := keeper.all(context.Background(), w, noon); err != nil || stored(t, st, cidr) != "" {
			t.Errorf("lending %q: %v, stored %s", lending, err, stored(t, st, cidr))
		}
	}
}
