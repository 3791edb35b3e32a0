// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"korat/api"
)

// node gives an allocator of node a that has seen the Snapshot.
func node(s api.Snapshot) *Allocator {
	a := NewAllocator("a", fixed)
	a.Update(s)
	return a
}

// ask assigns and gives the addresses or the error as text.
func ask(a *Allocator, r Request) string {
	got, err := a.Assign(r)
	if err != nil {
		return err.Error()
	}
	return strings.Trim(fmt.Sprint(got), "[]")
}

func both(handle string, fixed ...string) Request {
	return Request{Handle: handle, Families: []api.Family{api.IPv6, api.IPv4}, Addresses: addrs(fixed...)}
}

func auto(handle string, pools ...string) Request {
	return Request{Handle: handle, Pools: map[api.Family][]string{api.IPv4: pools}}
}

func want(handle string, as ...string) Request {
	return Request{Handle: handle, Addresses: addrs(as...)}
}

// show gives all own blocks' contents as "address=handle …".
func show(a *Allocator) string {
	var parts []string
	for _, o := range a.blocks.usable() {
		for addr, al := range o.block.All() {
			parts = append(parts, addr.String()+"="+al.Handle)
		}
	}
	return strings.Join(parts, " ")
}

func needs(a *Allocator) string {
	var parts []string
	for _, n := range a.Needs() {
		text := ""
		if n.Block.IsValid() {
			text = n.Block.String() + " of "
		}
		for i, p := range n.Pools {
			text += strings.Repeat("|", min(i, 1)) + p.Name
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

func TestAssignIsIdempotentAndLongestIdleFirst(t *testing.T) {
	a := node(own(t, synced(pool("p", "10.0.0.0/16", 30)), "a", "10.0.0.0/30", ""))
	for i, c := range []struct{ have, want string }{
		{ask(a, auto("h0")), "10.0.0.0"},
		{ask(a, auto("h0")), "10.0.0.0"},
		{ask(a, auto("h1")), "10.0.0.1"},
		{ask(a, auto("h2")), "10.0.0.2"},
		{fmt.Sprint(a.Release("h1")), "[10.0.0.1]"},
		{fmt.Sprint(a.Release("h1")), "[]"},
		{fmt.Sprint(a.Release("h0")), "[10.0.0.0]"},
		{ask(a, auto("h3")), "10.0.0.3"},
		{ask(a, auto("h4")), "10.0.0.1"},
		{ask(a, auto("h5")), "10.0.0.0"},
	} {
		if c.have != c.want {
			t.Errorf("step %d: have %s, want %s", i, c.have, c.want)
		}
	}
}

// TestLongestIdleOfSeveralBlocks: an address released a moment ago is not used again while another
// block has one that was never used.
func TestLongestIdleOfSeveralBlocks(t *testing.T) {
	s := own(t, synced(pool("p", "10.0.0.0/16", 31)), "a", "10.0.0.0/31", "")
	a := node(own(t, s, "a", "10.0.0.2/31", ""))
	var have []string
	for _, step := range []string{"+1", "+2", "-1", "+3", "-2", "+4", "+5", "-4", "-3", "+6", "+7"} {
		if step[0] == '-' {
			a.Release(step[1:])
		} else {
			have = append(have, ask(a, auto(step[1:])))
		}
	}
	if diff := cmp.Diff("10.0.0.0 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.0 10.0.0.1 10.0.0.3", strings.Join(have, " ")); diff != "" {
		t.Error(diff)
	}
}

func TestAssignRefuses(t *testing.T) {
	off := pool("off", "10.9.0.0/16", 30)
	off.Spec.Disabled = true
	s := own(t, synced(off, pool("p", "10.0.0.0/16", 30), pool("q", "10.1.0.0/16", 30), pool("six", "fd00::/64", 122)), "a", "10.0.0.0/30", "10.0.0.1=h")
	s = own(t, s, "b", "10.0.0.8/30", "")
	a := node(s)
	a.Restore("kept", map[string]string{"namespace": "ns", "pod": "x"}, addrs("10.0.0.2", "10.7.7.7"))
	for name, c := range map[string]struct {
		r    Request
		is   error
		want string
	}{
		"no handle":      {Request{}, nil, "has no handle"},
		"unknown pool":   {auto("n", "zzz"), ErrPool, `pool "zzz": there is none of that name or CIDR: want one of p (10.0.0.0/16), q (10.1.0.0/16)`},
		"disabled pool":  {auto("n", "p", "off"), ErrPool, `pool "off": it is disabled`},
		"disabled CIDR":  {auto("n", "10.9.0.0/16"), ErrPool, `pool "10.9.0.0/16": it is disabled`},
		"no pool":        {want("n", "10.3.0.1"), ErrPool, "address 10.3.0.1: it is in none of the usable pools: want one of p (10.0.0.0/16), q"},
		"other pool":     {Request{Handle: "n", Pools: map[api.Family][]string{api.IPv4: {"q"}}, Addresses: addrs("10.0.0.3")}, ErrPool, "usable pools: want one of q (10.1.0.0/16)"},
		"in disabled":    {want("n", "10.9.0.1"), ErrPool, `its pool "off" is disabled`},
		"held":           {want("n", "10.0.0.2"), ErrNoAddress, `address 10.0.0.2 is in use by pod ns/x (handle "kept")`},
		"orphan":         {want("n", "10.0.0.3", "10.0.0.1"), ErrNoAddress, `address 10.0.0.1 is in use by pod ns/pod-h (handle "h")`},
		"mapped":         {want("n", "::ffff:10.0.0.2"), ErrNoAddress, `address 10.0.0.2 is in use`},
		"other node":     {want("n", "10.0.0.9"), ErrNoAddress, `address 10.0.0.9: its block belongs to node "b"`},
		"other address":  {want("kept", "10.0.0.3"), ErrNoAddress, "it holds [10.0.0.2 10.7.7.7], not 10.0.0.3"},
		"no block":       {want("n", "10.1.0.5"), ErrNeedBlock, "block 10.1.0.4/30 has to be claimed first"},
		"partly":         {want("n", "10.0.0.3", "10.1.0.5"), ErrNeedBlock, "block 10.1.0.4/30 has to be claimed first"},
		"pool, no block": {auto("n", "q"), ErrNeedBlock, "a block has to be claimed from q (10.1.0.0/16)"},
		"both families":  {both("n"), ErrNeedBlock, "a block has to be claimed from six (fd00::/64)"},
		"one fixed":      {both("n", "10.0.0.3"), ErrNeedBlock, "a block has to be claimed from six (fd00::/64)"},
		"fixed of both":  {both("n", "fd00::1", "10.0.0.1"), ErrNoAddress, `address 10.0.0.1 is in use`},
		"one more":       {both("kept"), ErrNoAddress, `it holds [10.0.0.2 10.7.7.7], and is asked for [IPv6 IPv4]`},
		"the other":      {Request{Handle: "kept", Families: []api.Family{api.IPv6}}, ErrNoAddress, `it holds [10.0.0.2 10.7.7.7], and is asked for [IPv6]`},
		"IPv6's pool":    {auto("n", "six"), ErrPool, `pool "six": it has IPv6 addresses, and is asked for IPv4 ones: want one of p (10.0.0.0/16), q`},
		"in IPv6's":      {Request{Handle: "n", Pools: map[api.Family][]string{api.IPv6: {"six"}}, Addresses: addrs("fd01::1")}, ErrPool, "usable pools: want one of six (fd00::/64)"},
	} {
		before := show(a)
		_, err := a.Assign(c.r)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: have %v\nwant %s", name, err, c.want)
		}
		if after := show(a); before != after {
			t.Errorf("%s: the refused request changed %s to %s", name, before, after)
		}
	}
	var taken *TakenError
	if _, err := a.Assign(want("n", "10.0.0.2")); !errors.As(err, &taken) || taken.Pod != "x" {
		t.Errorf("have %#v", taken)
	}
}

func TestSpecificAddresses(t *testing.T) {
	s := own(t, synced(pool("p", "10.0.0.0/16", 30), reservation("10.0.0.0/31", "10.0.0.2")), "a", "10.0.0.0/30", "")
	a := node(s)
	for i, c := range []struct{ have, want string }{
		{ask(a, auto("h1")), "10.0.0.3"},
		{ask(a, want("h2", "10.0.0.2", "10.0.0.0", "10.0.0.2")), "10.0.0.2 10.0.0.0"},
		{ask(a, want("h2", "10.0.0.0")), "10.0.0.2 10.0.0.0"},
		{ask(a, auto("h3")), `assign to "h3": no address yet: a block has to be claimed from p (10.0.0.0/16)`},
		{fmt.Sprint(a.Release("h2")), "[10.0.0.2 10.0.0.0]"},
		{show(a), "10.0.0.3=h1"},
	} {
		if c.have != c.want {
			t.Errorf("step %d: have %s, want %s", i, c.have, c.want)
		}
	}
}

// Both families or none: while one has no block yet, nothing of the other is taken.
func TestBothFamilies(t *testing.T) {
	s := own(t, synced(pool("p", "10.0.0.0/16", 30), pool("six", "fd00::/64", 126)), "a", "10.0.0.0/30", "")
	a := node(s)
	for range 2 {
		if have, want := ask(a, both("h")), `assign to "h": no address yet: a block has to be claimed from six (fd00::/64)`; have != want {
			t.Errorf("have %s, want %s", have, want)
		}
		if have := show(a); have != "" {
			t.Errorf("IPv6 is still to come, and taken is %s", have)
		}
	}
	a.Update(own(t, s, "a", "fd00::/126", ""))
	for i, c := range []struct{ have, want string }{
		{ask(a, both("h")), "10.0.0.0 fd00::"},
		{ask(a, both("h")), "10.0.0.0 fd00::"},
		{ask(a, both("i", "fd00::2")), "10.0.0.1 fd00::2"},
		{ask(a, both("j", "fd00::3", "10.0.0.3")), "10.0.0.3 fd00::3"},
		{ask(a, Request{Handle: "k", Families: []api.Family{api.IPv6}}), "fd00::1"},
		{ask(a, both("l")), `assign to "l": no address yet: a block has to be claimed from six (fd00::/64)`},
		{show(a), "10.0.0.0=h 10.0.0.1=i 10.0.0.3=j fd00::=h fd00::1=k fd00::2=i fd00::3=j"},
		{fmt.Sprint(a.Release("h"), a.Release("i"), a.Release("j")), "[10.0.0.0 fd00::] [10.0.0.1 fd00::2] [10.0.0.3 fd00::3]"},
		{show(a), "fd00::1=k"},
	} {
		if c.have != c.want {
			t.Errorf("step %d: have %s, want %s", i, c.have, c.want)
		}
	}
}

func TestPoolsInOrderOfTheirNames(t *testing.T) {
	off := pool("d", "10.4.0.0/16", 32)
	off.Spec.Disabled = true
	s := synced(pool("c", "10.3.0.0/16", 32), pool("b", "10.2.0.0/16", 32), pool("a", "10.1.0.0/16", 32), off, pool("six", "fd00::/64", 128))
	for _, cidr := range []string{"10.3.0.1/32", "10.3.0.2/32", "10.2.0.1/32", "10.2.0.2/32", "10.4.0.1/32", "fd00::1/128", "fd00::2/128"} {
		s = own(t, s, "a", cidr, "")
	}
	a := node(s)
	for i, c := range []struct{ have, want string }{
		{ask(a, auto("1")), "10.2.0.1"},
		{ask(a, auto("2", "10.3.0.0/16", "b")), "10.2.0.2"},
		{ask(a, auto("3", "c")), "10.3.0.1"},
		{ask(a, auto("4")), "10.3.0.2"},
		{ask(a, Request{Handle: "5", Families: []api.Family{api.IPv6}, Pools: map[api.Family][]string{api.IPv6: {"six"}}}), "fd00::1"},
		{fmt.Sprint(a.Release("4")), "[10.3.0.2]"},
		{ask(a, Request{Handle: "6", Families: []api.Family{api.IPv4, api.IPv6, api.IPv4}}), "10.3.0.2 fd00::2"},
	} {
		if c.have != c.want {
			t.Errorf("step %d: have %s, want %s", i, c.have, c.want)
		}
	}
}

func TestBeforeTheDatastoreIsKnown(t *testing.T) {
	a := NewAllocator("a", fixed)
	a.Update(api.Snapshot{}.With(pool("p", "10.0.0.0/16", 30)))
	if _, err := a.Assign(auto("h")); !errors.Is(err, ErrNeedBlock) || len(a.Needs()) > 0 {
		t.Errorf("have %v, needs %v", err, a.Needs())
	}
	a.Update(synced())
	if _, err := a.Assign(auto("h")); !errors.Is(err, ErrNeedBlock) || !strings.Contains(err.Error(), "there is no IPPool with IPv4 addresses: create one") {
		t.Errorf("without pools: %v", err)
	}
}

func TestNeeds(t *testing.T) {
	p, q, six := pool("p", "10.0.0.0/16", 26), pool("q", "10.1.0.0/16", 28), pool("six", "fd00::/64", 122)
	a := node(synced(p, q))
	check := func(step, wanted string) {
		t.Helper()
		if have := needs(a); have != wanted {
			t.Errorf("%s: have %q, want %q", step, have, wanted)
		}
	}
	check("no block", "p|q")
	s := own(t, synced(p, q), "a", "10.0.0.0/26", "")
	a.Update(s)
	check("one block", "")
	for i := range 48 {
		ask(a, auto(fmt.Sprint(i)))
	}
	check("16 left", "")
	ask(a, auto("last"))
	check("15 left", "p|q")
	a.Release("last")
	ask(a, auto("x", "q"))
	ask(a, auto("y", "q"))
	ask(a, want("z", "10.0.7.9"))
	check("requests", "10.0.7.0/26 of p, q")
	a.Release("z")
	check("request given up", "q")
	a.Update(s.With(six))
	check("another family", "q, six")
	a.Update(own(t, s, "a", "10.1.0.0/28", ""))
	check("block came", "")
	ask(a, want("z", "10.0.7.9"))
	clock := noon
	a.now = func() time.Time { return clock }
	check("before it expires", "10.0.7.0/26 of p")
	clock = noon.Add(3 * time.Minute)
	check("nobody asks any more", "")
}

func TestPoolsFull(t *testing.T) {
	s := own(t, synced(pool("p", "10.0.0.0/29", 30), pool("q", "10.1.0.0/30", 30), reservation("10.0.0.3")), "a", "10.0.0.0/30", "10.0.0.0=h 10.0.0.1=i 10.0.0.2=j")
	a := node(own(t, s, "b", "10.0.0.4/30", ""))
	a.SetExhausted([]string{"p"})
	if _, err := a.Assign(auto("n")); !errors.Is(err, ErrNeedBlock) {
		t.Errorf("q is not exhausted: %v", err)
	}
	_, err := a.Assign(auto("n", "p"))
	var full *FullError
	if !errors.Is(err, ErrNoAddress) || !errors.As(err, &full) {
		t.Fatalf("have %v", err)
	}
	wanted := `no free address and no free block: pool "p" (10.0.0.0/29, 2 blocks of /30): 2 blocks taken, ` +
		`of which this node has 1 with 3 of 4 addresses in use and 1 reserved: add an IPPool or remove pods`
	if diff := cmp.Diff(wanted, full.Error()); diff != "" {
		t.Error(diff)
	}
	a.Release("h")
	if have := ask(a, auto("n", "p")); have != "10.0.0.0" {
		t.Errorf("after a release: %s", have)
	}
	a.SetExhausted(nil)
	if _, err := a.Assign(auto("m", "p")); !errors.Is(err, ErrNeedBlock) {
		t.Errorf("exhausted no more: %v", err)
	}
}

func TestBlocksMustBeConfirmedAndOwn(t *testing.T) {
	s := own(t, synced(pool("p", "10.0.0.0/16", 30)), "a", "10.0.0.0/30", "")
	s = own(t, s, "b", "10.0.0.4/30", "")
	s = s.With(affinity("a", "10.0.0.8/30", api.AffinityPending)).With(ipamBlock(t, "a", "10.0.0.8/30", ""))
	s = s.With(affinity("a", "10.0.0.12/30", api.AffinityConfirmed))
	s = s.With(affinity("a", "10.0.0.16/30", api.AffinityConfirmed)).With(ipamBlock(t, "b", "10.0.0.16/30", ""))
	s = s.With(affinity("a", "10.0.0.20/30", api.AffinityPendingDeletion)).With(ipamBlock(t, "a", "10.0.0.20/30", ""))
	s = s.With(ipamBlock(t, "a", "10.0.0.24/30", ""))
	a := node(s)
	if have := fmt.Sprint(a.Blocks()); have != "[10.0.0.0/30]" {
		t.Errorf("have %s", have)
	}
	a.Update(api.Snapshot{})
	if have := fmt.Sprint(a.Blocks()); have != "[10.0.0.0/30]" {
		t.Errorf("after a Snapshot that is not in sync: have %s", have)
	}
}

func TestBrokenBlock(t *testing.T) {
	s := own(t, synced(pool("p", "10.0.0.0/16", 30)), "a", "10.0.0.0/30", "10.0.0.1=h")
	good, _ := s.IPAMBlocks.Get("10-0-0-0-30")
	bad := good.DeepCopy()
	bad.Spec.Unallocated = []int{0, 1}
	a := node(s.With(bad))
	if p := a.Problems(); len(p) != 1 || !strings.Contains(p[0].Error(), "IPAMBlock/10-0-0-0-30 can't be used") {
		t.Errorf("have %v", p)
	}
	if _, err := a.Assign(want("n", "10.0.0.0")); !errors.Is(err, ErrNoAddress) {
		t.Errorf("assigned from it: %v", err)
	}
	if len(a.Blocks()) != 1 || len(a.Changes()) != 0 {
		t.Errorf("blocks %v, changes %v: want it routed and untouched", a.Blocks(), a.Changes())
	}
	a.Update(s)
	if have := ask(a, auto("n")); have != "10.0.0.0" || len(a.Problems()) > 0 {
		t.Errorf("after its repair: %s, %v", have, a.Problems())
	}
	a.Update(s.With(bad))
	if have := a.Changes(); len(have) != 1 || show(a) != "10.0.0.0=n 10.0.0.1=h" {
		t.Errorf("broken while in use: changes %v, %s: want it written anew", have, show(a))
	}
}
