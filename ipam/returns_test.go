// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/api/store"
	"korat/ipam/block"
)

// agent is a node's Allocator and Keeper as the agent's loop runs them, over a link that can fail.
type agent struct {
	t      *testing.T
	st     store.Store
	link   *faulty
	name   string
	alloc  *Allocator
	keeper *Keeper
	// pods survive the agent.
	pods map[string]netip.Addr
}

func newAgent(t *testing.T, st store.Store, name string) *agent {
	t.Helper()
	g := &agent{t: t, st: st, name: name, pods: map[string]netip.Addr{}}
	g.restart()
	return g
}

// restart begins anew with what the record of pods has.
func (g *agent) restart() {
	g.link = &faulty{Store: g.st, left: 1 << 30}
	g.alloc, g.keeper = NewAllocator(g.name, time.Now), NewKeeper(g.link, g.name, quiet())
	for handle, addr := range g.pods {
		g.alloc.Restore(handle, map[string]string{"node": g.name}, []netip.Addr{addr})
	}
}

// loop makes passes of the agent's loop and the Keeper, until n have gone by.
func (g *agent) loop(n int) {
	g.t.Helper()
	for range n {
		g.alloc.Update(picture(g.t, g.st))
		_ = g.alloc.ReleaseOrphans(g.alloc.Orphans()...) // whoever is not among the pods is gone
		g.alloc.SetExhausted(g.keeper.Exhausted())
		g.alloc.SetLeaving(g.keeper.Leaving())
		g.keeper.Want(g.alloc.Wants())
		clear(g.keeper.publish.last) // a second has passed
		_, _ = g.keeper.pass(g.t.Context())
	}
}

// add gives a pod an address, after as many passes as that takes.
func (g *agent) add(handle string) {
	g.t.Helper()
	for range 4 {
		if got, err := g.alloc.Assign(auto(handle)); err == nil {
			g.pods[handle] = got[0]
			break
		}
		g.loop(1)
	}
	if !g.pods[handle].IsValid() {
		g.t.Fatalf("no address for %s", handle)
	}
	g.loop(1)
}

func (g *agent) remove(handle string) {
	delete(g.pods, handle)
	g.alloc.Release(handle)
}

// pass lets time go by in a bubble of synctest.
func pass(d time.Duration) { <-time.After(d) }

// noCooldown frees addresses as soon as they are released.
func noCooldown() *api.IPAMConfiguration { return settings(true, 0) }

// holderOn is a pod of another node.
func holderOn(node string) block.Holder {
	return block.Holder{Handle: "borrower", Attrs: map[string]string{"node": node, "namespace": "ns", "pod": "far"}}
}

// TestEmptyBlocksGoBack: a block goes once it has been empty for five minutes, and not if the node would soon need
// it, nor ever the last one.
func TestEmptyBlocksGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := filled(t, pool("p", "10.0.0.0/24", 30), noCooldown())
		g := newAgent(t, st, "a")
		for i := range 9 {
			g.add(fmt.Sprint("h", i))
		}
		g.loop(3)
		if n := picture(t, st).IPAMBlocks.Len(); n != 3 {
			t.Fatalf("%d blocks", n)
		}
		for i := range 8 {
			g.remove(fmt.Sprint("h", i))
		}
		g.loop(3)
		pass(idleTime - time.Second)
		g.loop(3)
		if n := picture(t, st).IPAMBlocks.Len(); n != 3 {
			t.Fatalf("%d blocks before the time has come:\n%s", n, owners(t, st))
		}
		pass(2 * time.Second)
		g.loop(3)
		if n := picture(t, st).IPAMBlocks.Len(); n != 1 || len(g.alloc.Blocks()) != 1 || !g.alloc.Blocks()[0].Contains(g.pods["h8"]) {
			t.Fatalf("%d blocks are left, own %v, pods %v\n%s", n, g.alloc.Blocks(), g.pods, owners(t, st))
		}
		g.remove("h8")
		g.loop(3)
		pass(2 * idleTime)
		g.loop(3)
		if have := owners(t, st); strings.Count(have, "=a a:confirmed") != 1 {
			t.Errorf("the last block is gone: %s", have)
		}
	})
}

// TestUseStopsTheClock: a block that is used for a moment has to be empty for the whole time again.
func TestUseStopsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := own(t, own(t, synced(pool("p", "10.0.0.0/24", 30), noCooldown()), "a", "10.0.0.0/30", ""), "a", "10.0.0.4/30", "")
		a := NewAllocator("a", time.Now)
		a.Update(s)
		r := newReturns()
		see := func() string {
			due := r.see(a.Wants(), time.Now())
			return fmt.Sprint(due, r.list())
		}
		for i, step := range []struct {
			do   func()
			want string
		}{
			{func() {}, "5m0s []"},
			{func() { pass(4 * time.Minute) }, "1m0s []"},
			{func() { _, _ = a.Assign(want("h", "10.0.0.0")) }, "5m0s []"}, // now it is the other one
			{func() { a.Release("h"); _, _ = a.Assign(want("i", "10.0.0.5")) }, "5m0s []"},
			{func() { pass(4 * time.Minute) }, "1m0s []"},
			{func() { pass(time.Minute) }, "0s [10.0.0.0/30]"},
			{func() { _, _ = a.Assign(want("h", "10.0.0.1")) }, "0s []"}, // it came before the Allocator was told
			{func() { a.Release("h") }, "5m0s []"},
			{func() { pass(5 * time.Minute) }, "0s [10.0.0.0/30]"},
			{func() { a.SetLeaving(r.list()); _, _ = a.Assign(auto("j")) }, "0s [10.0.0.0/30]"},
		} {
			step.do()
			if have := see(); have != step.want {
				t.Errorf("step %d: have %s, want %s", i, have, step.want)
			}
		}
		if have := ask(a, auto("j")); have != "10.0.0.4" {
			t.Errorf("have %s: nothing may come of a block that is leaving", have)
		}
		if have := ask(a, want("k", "10.0.0.2")); !strings.Contains(have, "block 10.0.0.0/30 has to be claimed first") {
			t.Errorf("have %s", have)
		}
		if w := a.Wants(); fmt.Sprint(w.Closed) != "[10.0.0.0/30]" || needs(a) != "10.0.0.0/30 of p" || len(r.without(w.Needs)) > 0 {
			t.Errorf("closed %v, needs %s: a block is claimed again once it is gone", w.Closed, needs(a))
		}
	})
}

// TestUselessBlocksGoAtOnce: there is no waiting with a block that gives nothing any more, nor a last one that stays;
// blocks in use stay until they are empty.
func TestUselessBlocksGoAtOnce(t *testing.T) {
	for name, change := range map[string]func(*api.IPPool){
		"disabled": func(p *api.IPPool) { p.Spec.Disabled = true },
		"terminating": func(p *api.IPPool) {
			p.DeletionTimestamp, p.Finalizers = &metav1.Time{Time: noon}, []string{"other/keeps"}
		},
		"deselected":   selecting("rack == 'elsewhere'"),
		"for tunnels":  func(p *api.IPPool) { p.Spec.AllowedUses = []string{api.UseTunnel} },
		"bad selector": selecting("rack"),
		"gone":         nil,
	} {
		st := filled(t, pool("p", "10.0.0.0/24", 30), configuration(func(s *api.IPAMConfigurationSpec) {
			s.IPCooldownSeconds, s.MaxBlocksPerHost = new(0), 2
		}))
		g := newAgent(t, st, "a")
		for i := range 6 {
			g.add(fmt.Sprint("h", i))
		}
		obj, err := st.Get(t.Context(), api.Key{Kind: api.KindIPPool, Name: "p"})
		if err != nil {
			t.Fatal(err)
		}
		if change == nil {
			err = st.Delete(t.Context(), obj.Key(), "")
		} else {
			_, err = st.Update(t.Context(), but(obj.DeepCopyObject().(*api.IPPool), change))
		}
		if err != nil {
			t.Fatal(err)
		}
		g.loop(3)
		if n := picture(t, st).IPAMBlocks.Len(); n != 2 {
			t.Errorf("%s: %d blocks while both are in use", name, n)
		}
		for i := range 5 {
			g.remove(fmt.Sprint("h", i))
		}
		g.loop(4)
		if have := g.alloc.Blocks(); len(have) != 1 || !have[0].Contains(g.pods["h5"]) {
			t.Errorf("%s: blocks %v: want that of %s", name, have, g.pods["h5"])
		}
		g.remove("h5")
		g.loop(4)
		if have := owners(t, st); have != "" {
			t.Errorf("%s: what is left: %s", name, have)
		}
	}
}

// TestNoReturnWithoutClaims: a node that can't claim a block again keeps what it has.
func TestNoReturnWithoutClaims(t *testing.T) {
	by := configuration(func(s *api.IPAMConfigurationSpec) { s.AutoAllocateBlocks = new(false) })
	s := own(t, own(t, synced(pool("p", "10.0.0.0/24", 30), by), "a", "10.0.0.0/30", ""), "a", "10.0.0.4/30", "")
	if idle := node(s).Idle(); len(idle) > 0 {
		t.Errorf("have %v", idle)
	}
}

// TestWhoRemovesThePool: the node that returned the last block, at once; if it can't, any other one later.
func TestWhoRemovesThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool("p", "10.0.0.0/28", 30)
		p.DeletionTimestamp, p.Finalizers = &metav1.Time{Time: noon}, []string{api.PoolFinalizer}
		st := filled(t, p)
		b := newAgent(t, st, "b")
		b.loop(1)
		pass(retireAfter - time.Second)
		b.loop(1)
		if picture(t, st).IPPools.Len() != 1 {
			t.Fatal("a node that had no block of it removed the pool at once")
		}
		pass(retireSpread + time.Second)
		b.loop(1)
		if picture(t, st).IPPools.Len() != 0 {
			t.Error("nobody has removed the pool")
		}
	})
}

// TestOthersKeepThePool: a finalizer that is not ours, or a block, keeps it.
func TestOthersKeepThePool(t *testing.T) {
	for name, change := range map[string]func(*api.IPPool) api.Object{
		"finalizer":   func(p *api.IPPool) api.Object { p.Finalizers = append(p.Finalizers, "x/y"); return nil },
		"not deleted": func(p *api.IPPool) api.Object { p.DeletionTimestamp = nil; return nil },
		"affinity":    func(*api.IPPool) api.Object { return affinity("b", "10.0.0.8/30", "pending") },
		"block":       func(*api.IPPool) api.Object { b := ipamBlock(t, "b", "10.0.0.8/30", ""); b.UID = ""; return b },
		"block of none": func(*api.IPPool) api.Object {
			b := ipamBlock(t, "b", "10.0.0.8/31", "")
			b.UID, b.Spec.Affinity = "", nil
			return b
		},
	} {
		p := pool("p", "10.0.0.0/28", 30)
		p.DeletionTimestamp, p.Finalizers = &metav1.Time{Time: noon}, []string{api.PoolFinalizer}
		other := change(p)
		st := filled(t, p)
		if other != nil {
			if _, err := st.Create(t.Context(), other); err != nil {
				t.Fatal(err)
			}
		}
		stored, _ := st.Get(t.Context(), p.Key())
		r := newRetirement(st, "a", quiet())
		if err := r.remove(t.Context(), stored.(*api.IPPool), netip.MustParsePrefix("10.0.0.0/28")); err != nil {
			t.Fatal(err)
		}
		if picture(t, st).IPPools.Len() != 1 {
			t.Errorf("%s: the pool was removed", name)
		}
	}
}

// TestReservedOfBothFamilies: a block that is wholly reserved is not chosen, addresses that are reserved are not given,
// and a large reservation costs nothing.
func TestReservedOfBothFamilies(t *testing.T) {
	for name, c := range map[string]struct {
		objs []api.Object
		f    api.Family
		want string
	}{
		"IPv4": {[]api.Object{pool("p", "10.0.0.0/16", 30), reservation("10.0.0.0/17", "10.0.128.0/18", "10.0.192.0/19", "10.0.224.0/31")}, api.IPv4, "10.0.224.2"},
		"IPv6": {[]api.Object{pool("p", "fd00::/48", 126), reservation("fd00::/49", "fd00:0:0:8000::/50", "fd00:0:0:c000::/63", "fd00:0:0:c002::/127")}, api.IPv6, ""},
	} {
		st := filled(t, append(c.objs, noCooldown())...)
		g := newAgent(t, st, "a")
		g.loop(2)
		got, err := g.alloc.Assign(Request{Handle: "h", Families: []api.Family{c.f}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, r := range c.objs[1].(*api.IPReservation).Spec.ReservedCIDRs {
			if netip.MustParsePrefix(r).Contains(got[0]) {
				t.Errorf("%s: %s is reserved by %s", name, got[0], r)
			}
		}
		blocks := g.alloc.Blocks()
		if len(blocks) != 1 || slices.ContainsFunc(c.objs[1].(*api.IPReservation).Spec.ReservedCIDRs, func(r string) bool {
			return netip.MustParsePrefix(r).Bits() <= blocks[0].Bits() && netip.MustParsePrefix(r).Overlaps(blocks[0])
		}) {
			t.Errorf("%s: blocks %v", name, blocks)
		}
	}
}
