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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/api/store"
	"korat/ipam/block"
)

// The tests here each hold one check that keeps an address from being given twice. Random walks seldom come to the
// moment in which it matters.

// content makes a block of node a of "address=handle@node …"; ~ before a handle is an address that cools down.
func content(t *testing.T, cidr, text string) *block.Block {
	t.Helper()
	b, err := block.New(netip.MustParsePrefix(cidr), affinityOf("a"))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(text) {
		addr, rest, _ := strings.Cut(word, "=")
		handle, node, _ := strings.Cut(rest, "@")
		h := block.Holder{Handle: handle, Attrs: map[string]string{"node": node}}
		cools := strings.HasPrefix(handle, "~")
		if handle == "lease" {
			h = block.Lease(node, "x")
		}
		at := addrs(addr)[0]
		if err := b.AssignAddr(at, h); err != nil {
			t.Fatal(err)
		}
		if al, _ := b.At(at); cools {
			if err := b.Release(at, al.Sequence, noon); err != nil {
				t.Fatal(err)
			}
		}
	}
	return b
}

// shown is what content reads.
func shown(b *block.Block) string {
	var words []string
	for addr, al := range b.All() {
		handle := al.Handle
		if al.Leased() {
			handle = "lease"
		}
		words = append(words, fmt.Sprintf("%s=%s@%s", addr, handle, al.Attrs["node"]))
	}
	return strings.Join(words, " ")
}

func TestMerge(t *testing.T) {
	for name, c := range map[string]struct{ ours, base, have, want string }{
		"own news":                     {"10.0.0.1=h@a", "", "", "10.0.0.1=h@a"},
		"own release":                  {"", "10.0.0.1=h@a", "10.0.0.1=h@a", ""},
		"lent since":                   {"", "", "10.0.0.1=h@b", "10.0.0.1=h@b"},
		"lent, back and resting since": {"", "", "10.0.0.1=~h@b", "10.0.0.1=~h@b"},
		"given back since":             {"10.0.0.1=h@b", "10.0.0.1=h@b", "", ""},
		"given back and leased since":  {"10.0.0.1=h@b", "10.0.0.1=h@b", "10.0.0.1=lease@a", "10.0.0.1=lease@a"},
		"leased since":                 {"", "", "10.0.0.1=lease@a", "10.0.0.1=lease@a"},
		"a lease given up":             {"", "10.0.0.1=lease@a", "10.0.0.1=lease@a", ""},
		"a lease assigned":             {"10.0.0.1=h@a", "", "10.0.0.1=lease@a", "10.0.0.1=h@a"},
		"a pod's, released here":       {"", "", "10.0.0.1=h@a", ""},
	} {
		const cidr = "10.0.0.0/30"
		if have := shown(merge(content(t, cidr, c.ours), content(t, cidr, c.base), content(t, cidr, c.have))); have != c.want {
			t.Errorf("%s: have %q, want %q", name, have, c.want)
		}
	}
}

// TestShareTouchesOnlyItsOwn: a borrower's write, on whatever the block is by then.
func TestShareTouchesOnlyItsOwn(t *testing.T) {
	addr, pod := addrs("10.0.0.1")[0], block.Holder{Handle: "pod", Attrs: map[string]string{"node": "b"}}
	for name, c := range map[string]struct {
		have, lending string
		loan          Loan
		want          string
	}{
		"taken":                  {"", "true", Loan{Take: 1, Lease: block.Lease("b", "x")}, "10.0.0.0=lease@b"},
		"closed":                 {"", "", Loan{Take: 1, Lease: block.Lease("b", "x")}, ""},
		"prepared":               {"", "prepared", Loan{Take: 1, Lease: block.Lease("b", "x")}, ""},
		"a lease becomes a pod":  {"10.0.0.1=lease@b", "", Loan{Pods: map[netip.Addr]block.Holder{addr: pod}}, "10.0.0.1=pod@b"},
		"another's lease":        {"10.0.0.1=lease@c", "true", Loan{Pods: map[netip.Addr]block.Holder{addr: pod}}, "10.0.0.1=lease@c"},
		"lost and free":          {"", "true", Loan{Pods: map[netip.Addr]block.Holder{addr: pod}}, "10.0.0.1=pod@b"},
		"lost and its owner's":   {"", "", Loan{Pods: map[netip.Addr]block.Holder{addr: pod}}, ""},
		"back":                   {"10.0.0.1=pod@b", "true", Loan{Back: map[netip.Addr]Return{addr: {Sequence: 1}}}, ""},
		"back, another's now":    {"10.0.0.1=pod@c", "true", Loan{Back: map[netip.Addr]Return{addr: {Sequence: 1}}}, "10.0.0.1=pod@c"},
		"back, anew since":       {"10.0.0.2=x@b 10.0.0.1=pod@b", "true", Loan{Back: map[netip.Addr]Return{addr: {Sequence: 1}}}, "10.0.0.1=pod@b 10.0.0.2=x@b"},
		"another object":         {"10.0.0.1=lease@b", "true", Loan{UID: "old", Take: 1, Lease: block.Lease("b", "x")}, "10.0.0.1=lease@b"},
		"this node's own by now": {"10.0.0.1=lease@a", "true", Loan{Block: netip.MustParsePrefix("10.0.0.0/30"), Take: 1, Lease: block.Lease("a", "x")}, "10.0.0.1=lease@a"},
	} {
		p := netip.MustParsePrefix("10.0.0.0/30")
		obj := ipamBlock(t, "a", p.String(), "")
		obj.Spec = content(t, p.String(), c.have).Spec()
		terms{lending: c.lending}.write(obj)
		st := filled(t, obj)
		node := "b"
		if c.loan.Block.IsValid() {
			node = "a"
		}
		if c.loan.UID == "" {
			c.loan.UID = string(object(t, st, p).UID)
		}
		keeper := newBorrower(st, node, quiet())
		if err := keeper.one(t.Context(), obj.Name, c.loan, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		have, err := block.From(object(t, st, p).Spec)
		if err != nil || shown(have) != c.want {
			t.Errorf("%s: have %q, %v, want %q", name, shown(have), err, c.want)
		}
	}
}

// object gives a block's object.
func object(t *testing.T, st Store, p netip.Prefix) *api.IPAMBlock {
	t.Helper()
	obj, err := get[*api.IPAMBlock](t.Context(), st, api.Key{Kind: api.KindIPAMBlock, Name: api.BlockName(p)})
	if err != nil || obj == nil {
		t.Fatal(obj, err)
	}
	return obj
}

// TestPublishOnlyWhatWasSeen: a change was worked out for one object under its terms. On another it would free what
// its owner, or a borrower, has assigned.
func TestPublishOnlyWhatWasSeen(t *testing.T) {
	const cidr = "10.0.0.0/29"
	for name, meanwhile := range map[string]func(*api.IPAMBlock, *Change){
		"nothing":       func(*api.IPAMBlock, *Change) {},
		"other terms":   func(o *api.IPAMBlock, _ *Change) { terms{lending: lendingPrepared}.write(o) },
		"another run":   func(o *api.IPAMBlock, _ *Change) { terms{lendingOpen, "another"}.write(o) },
		"another owner": func(o *api.IPAMBlock, _ *Change) { o.Spec.Affinity = new("host:b") },
		"another UID":   func(_ *api.IPAMBlock, c *Change) { c.UID = "another" },
	} {
		st, a := lender(t, cidr)
		ask(a, auto("h"))
		c := a.Changes()[0]
		next := object(t, st, c.Block).DeepCopy()
		meanwhile(next, &c)
		if _, err := st.Update(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		p := publisher{store: st, node: "a", last: map[string]time.Time{}}
		if err := p.one(t.Context(), next.Name, c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		have := object(t, st, c.Block)
		if written := have.Spec.SequenceNumber > next.Spec.SequenceNumber; written != (name == "nothing") || owner(have) != owner(next) {
			t.Errorf("%s: written: %t, owner %s", name, written, owner(have))
		}
	}
}

// TestGivenUpUntilSeen: copies that still have a lease which is being given up don't make it the owner's again.
func TestGivenUpUntilSeen(t *testing.T) {
	const cidr = "10.0.0.0/29"
	st, a := lender(t, cidr)
	reserved := reservation("10.0.0.0/30") // all that is leased
	if _, err := st.Create(t.Context(), reserved); err != nil {
		t.Fatal(err)
	}
	a.Update(picture(t, st))
	a.Changes() // gives the leases up; the write may come at any time
	if err := st.Delete(t.Context(), reserved.Key(), ""); err != nil {
		t.Fatal(err)
	}
	change(t, st, cidr, func(b *block.Block) error { return b.AssignAddr(addrs("10.0.0.7")[0], ofB("theirs")) })
	a.Update(picture(t, st))
	if have := ask(a, want("x", "10.0.0.0")); !strings.Contains(have, "has to be leased") {
		t.Errorf("assigned %s", have)
	}
}

// TestOwnersCopyLags: a copy that lags shows as free what is lent by now, and as leased what was given up.
func TestOwnersCopyLags(t *testing.T) {
	const cidr = "10.0.0.0/30"
	blk := ipamBlock(t, "a", cidr, "")
	blk.UID = ""
	st := filled(t, pool("p", cidr, 30), affinity("a", cidr, "confirmed"), blk)
	change(t, st, cidr, func(b *block.Block) error { return b.AssignAddr(addrs("10.0.0.3")[0], ofB("gone")) })
	before := picture(t, st)
	change(t, st, cidr, func(b *block.Block) error { return b.AssignAddr(addrs("10.0.0.1")[0], ofB("theirs")) })
	a := node(picture(t, st))
	a.Update(before)
	if have := ask(a, want("x", "10.0.0.1")); !strings.Contains(have, `in use by pod ns/pod-theirs`) {
		t.Errorf("assigned %s", have)
	}
}

// TestBorrowersCopyLags: what went back stays away, by a copy that lags behind that and by a later one that does not
// show it yet; it is assigned again to nobody here, nor does its old handle have it.
func TestBorrowersCopyLags(t *testing.T) {
	const cidr, addr = "10.0.0.0/29", "10.0.0.4"
	st, _ := lender(t, cidr)
	b := needy(t, st)
	ask(b, auto("h"))
	share(t, st, b)
	if have := ask(b, auto("h")); have != addr {
		t.Fatal(have)
	}
	share(t, st, b)
	before := picture(t, st)
	b.Release("h")
	back := b.Wants() // to be written at any time from now on
	change(t, st, cidr, func(b *block.Block) error { return b.AssignAddr(addrs("10.0.0.7")[0], block.Holder{Handle: "other"}) })
	b.Update(picture(t, st))
	if have := ask(b, auto("h")); have == addr {
		t.Errorf("on its way back, and assigned")
	}
	b.Release("h")
	keeper := newBorrower(st, "b", quiet())
	if _, err := keeper.all(t.Context(), back, noon); err != nil {
		t.Fatal(err)
	}
	b.Update(picture(t, st))
	if have := stored(t, st, cidr); strings.Contains(have, addr+"=") || len(b.Loans()) > 0 {
		t.Fatalf("stored %s, loans %v", have, b.Loans())
	}
	b.Update(before)
	if have := ask(b, auto("h")); have == addr {
		t.Errorf("gone back, and assigned by an old copy")
	}
}

// TestOneLoanAtATime: until the Snapshot shows what was borrowed, no more is.
func TestOneLoanAtATime(t *testing.T) {
	const cidr = "10.0.0.0/29"
	st, _ := lender(t, cidr)
	b := needy(t, st)
	ask(b, auto("h"))
	keeper := newBorrower(st, "b", quiet())
	for range 3 {
		if _, err := keeper.all(t.Context(), b.Wants(), noon); err != nil {
			t.Fatal(err)
		}
	}
	if have := stored(t, st, cidr); strings.Count(have, "lease-b") != 1 {
		t.Errorf("stored %s", have)
	}
}

// TestBorrowedAddressRests: it cools down in its owner's block, by the borrower's word.
func TestBorrowedAddressRests(t *testing.T) {
	const cidr = "10.0.0.0/29"
	blk := ipamBlock(t, "a", cidr, "")
	blk.UID = ""
	st := filled(t, pool("p", cidr, 29), affinity("a", cidr, "confirmed"), blk, settings(false, 30*time.Second))
	a := node(picture(t, st))
	settleDown(t, st, a)
	b := needy(t, st)
	ask(b, auto("h"))
	share(t, st, b)
	got := addrs(ask(b, auto("h")))[0]
	share(t, st, b)
	b.Release("h")
	share(t, st, b)
	x, err := block.From(object(t, st, netip.MustParsePrefix(cidr)).Spec)
	if al, held := x.At(got); err != nil || !held || !al.Released.Equal(noon) {
		t.Errorf("%v %t %v", al, held, err)
	}
}

// TestWhatKeepsABlock: a return looks at what the datastore has, and at the pods of this node.
func TestWhatKeepsABlock(t *testing.T) {
	p := netip.MustParsePrefix("10.0.0.0/30")
	for name, c := range map[string]struct {
		held string
		used []netip.Addr
		kept bool
	}{
		"nothing":          {"", nil, false},
		"its own leases":   {"10.0.0.1=lease@a", nil, false},
		"another's lease":  {"10.0.0.1=lease@b", nil, true},
		"another's pod":    {"10.0.0.1=h@b", nil, true},
		"cooling down":     {"10.0.0.1=~h@a", nil, true},
		"a pod not stored": {"", addrs("10.0.0.1"), true},
		"a pod elsewhere":  {"", addrs("10.0.0.4"), false},
	} {
		obj := ipamBlock(t, "a", p.String(), "")
		obj.Spec = content(t, p.String(), c.held).Spec()
		st := filled(t, obj, affinity("a", p.String(), api.AffinityPendingDeletion))
		cs := newClaims(st, "a", quiet())
		cs.used = c.used
		outcome, err := cs.release(t.Context(), p)
		want := ""
		if c.kept {
			want = "10.0.0.0/30=a a:confirmed"
		}
		if have := owners(t, st); err != nil || (outcome == kept) != c.kept || have != want {
			t.Errorf("%s: %v %v, have %q", name, outcome, err, have)
		}
	}
}

// TestReturnCalledOff: once a block is no longer to be given back, wants that still say so are outdated: the Allocator
// is about to assign from it again. But one of which something is gone already stays closed.
func TestReturnCalledOff(t *testing.T) {
	p := netip.MustParsePrefix("10.0.0.0/30")
	obj := ipamBlock(t, "a", p.String(), "")
	st := filled(t, obj, affinity("a", p.String(), api.AffinityConfirmed))
	cs, r := newClaims(st, "a", quiet()), newReturns()
	if err := r.carryOut(t.Context(), &cs, []netip.Prefix{p}, noon); err != nil {
		t.Fatal(err)
	}
	if have := owners(t, st); have != "10.0.0.0/30=a a:confirmed" {
		t.Errorf("have %q", have)
	}
	for _, begun := range []bool{false, true} {
		r.leaving[p] = begun
		r.see(Wants{Closed: []netip.Prefix{p}}, noon)
		if have := len(r.list()) > 0; have != begun {
			t.Errorf("begun %t: still to be closed: %t", begun, have)
		}
	}
}

// TestClaimLooksAtItsPool: the Snapshot by which a block is claimed may be older than the end of its pool.
func TestClaimLooksAtItsPool(t *testing.T) {
	p, used := netip.MustParsePrefix("10.0.0.0/30"), addrs("10.0.0.1")
	for name, c := range map[string]struct {
		meanwhile func(*api.IPPool) *api.IPPool
		used      []netip.Addr
		claimed   bool
	}{
		"there":                      {func(o *api.IPPool) *api.IPPool { return o }, nil, true},
		"terminating":                {terminating, nil, false},
		"gone":                       {func(*api.IPPool) *api.IPPool { return nil }, nil, false},
		"another range":              {func(*api.IPPool) *api.IPPool { return pool("p", "10.9.0.0/28", 30) }, nil, false},
		"terminating, but with pods": {terminating, used, true},
	} {
		before := pool("p", "10.0.0.0/28", 30)
		cs := newClaims(nil, "a", quiet())
		cs.see(synced(before))
		st := filled(t)
		if now := c.meanwhile(pool("p", "10.0.0.0/28", 30)); now != nil {
			st = filled(t, now)
		}
		cs.store, cs.used = st, c.used
		err := cs.claim(t.Context(), p, noon)
		want := ""
		if c.claimed {
			want = "10.0.0.0/30=a a:confirmed"
		}
		if have := owners(t, st); errors.Is(err, errClosed) == c.claimed || have != want {
			t.Errorf("%s: %v, have %q", name, err, have)
		}
	}
}

func terminating(o *api.IPPool) *api.IPPool {
	o.DeletionTimestamp, o.Finalizers = &metav1.Time{Time: noon}, []string{api.PoolFinalizer}
	return o
}

// changing is a datastore in which somebody writes just before a delete.
type changing struct {
	store.Store
	do func()
}

func (c changing) Delete(ctx context.Context, key api.Key, revision string) error {
	c.do()
	return c.Store.Delete(ctx, key, revision)
}

// TestPoolIsRemovedAsSeen: what others do to it in the last moment keeps it.
func TestPoolIsRemovedAsSeen(t *testing.T) {
	seen := terminating(pool("p", "10.0.0.0/28", 30))
	st := filled(t, seen)
	r := newRetirement(changing{st, func() {
		obj, _ := st.Get(t.Context(), seen.Key())
		next := obj.DeepCopyObject().(*api.IPPool)
		next.Finalizers = append(next.Finalizers, "x/y")
		if _, err := st.Update(t.Context(), next); err != nil {
			t.Fatal(err)
		}
	}}, "a", quiet())
	stored, _ := st.Get(t.Context(), seen.Key())
	if err := r.remove(t.Context(), stored.(*api.IPPool), netip.MustParsePrefix("10.0.0.0/28")); err != nil || picture(t, st).IPPools.Len() != 1 {
		t.Errorf("%v, pools %d", err, picture(t, st).IPPools.Len())
	}
}
