// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"fmt"
	"maps"
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

// scene is a situation for the test of faults: what the datastore has, what happens, and what has to come of it.
type scene struct {
	objs []api.Object
	// before happens while all is well, then while calls fail.
	before, then func(*agent)
	want         string
}

func scenes() map[string]scene {
	p := pool("p", "10.0.0.0/28", 30)
	set := func(change func(*api.IPPool)) func(*agent) {
		return func(g *agent) {
			obj, err := g.st.Get(g.t.Context(), p.Key())
			if err == nil {
				_, err = g.st.Update(g.t.Context(), but(obj.DeepCopyObject().(*api.IPPool), change))
			}
			if err != nil {
				g.t.Fatal(err)
			}
		}
	}
	dying := func(p *api.IPPool) {
		p.DeletionTimestamp, p.Finalizers = &metav1.Time{Time: noon}, []string{api.PoolFinalizer}
	}
	disabled := func(p *api.IPPool) { p.Spec.Disabled = true }
	fill := func(n int) func(*agent) {
		return func(g *agent) {
			for i := range n {
				g.add(fmt.Sprint("h", i))
			}
		}
	}
	empty := func(g *agent) {
		for handle := range maps.Clone(g.pods) {
			if handle != "h0" {
				g.remove(handle)
			}
		}
	}
	all := func(steps ...func(*agent)) func(*agent) {
		return func(g *agent) {
			for _, step := range steps {
				step(g)
			}
		}
	}
	objs := []api.Object{p, noCooldown()}
	return map[string]scene{
		"claim":                  {objs, func(*agent) {}, func(*agent) {}, "1 blocks, 0 pods, pool"},
		"return":                 {objs, fill(9), empty, "1 blocks, 1 pods, pool"},
		"return of the disabled": {objs, fill(9), all(empty, set(disabled)), "1 blocks, 1 pods, pool"},
		"return of all":          {objs, fill(5), all(empty, func(g *agent) { g.remove("h0") }, set(disabled)), "0 blocks, 0 pods, pool"},
		"removal":                {objs, fill(5), all(empty, func(g *agent) { g.remove("h0") }, set(dying)), "0 blocks, 0 pods, no pool"},
		"removal of the empty":   {objs, func(*agent) {}, set(dying), "0 blocks, 0 pods, no pool"},
		"return of what is lent": {[]api.Object{p, settings(false, 0)}, fill(9), empty, "1 blocks, 1 pods, pool"},
		"return after a rest":    {[]api.Object{p, settings(true, time.Minute)}, fill(9), empty, "1 blocks, 1 pods, pool"},
		"removal while in use":   {objs, fill(5), all(empty, set(dying)), "1 blocks, 1 pods, pool"},
	}
}

// settled says what there is, or what is wrong with it: every block has its owner's confirmed affinity, every affinity
// its block, and every pod its address in a block of its node.
func (g *agent) settled() string {
	s := picture(g.t, g.st)
	for line := range strings.SplitSeq(owners(g.t, g.st), "\n") {
		if _, rest, _ := strings.Cut(line, "="); line != "" && rest != g.name+" "+g.name+":confirmed" {
			return line
		}
	}
	for handle, addr := range g.pods {
		published := false
		for _, obj := range s.IPAMBlocks.All() {
			b, err := parse(netip.MustParsePrefix(obj.Spec.CIDR), obj)
			if err != nil {
				return err.Error()
			}
			al, _ := b.At(addr)
			published = published || al.Handle == handle
		}
		if !published {
			return fmt.Sprintf("%s of %s is in no block", addr, handle)
		}
	}
	pool := "no pool"
	if _, ok := s.IPPools.Get("p"); ok {
		pool = "pool"
	}
	return fmt.Sprintf("%d blocks, %d pods, %s", s.IPAMBlocks.Len(), len(g.pods), pool)
}

// TestFaultAtEveryCall lets each call to the datastore fail in turn, before and after it had its effect, with all that
// follow. The agent goes on, or is killed and comes back. Time and a datastore that works must make good whatever was
// left, without a human.
func TestFaultAtEveryCall(t *testing.T) {
	reached := map[string]bool{}
	states := map[string]bool{}
	for name, sc := range scenes() {
		for _, late := range []bool{false, true} {
			for _, killed := range []bool{false, true} {
				for n := 0; ; n++ {
					done := false
					synctest.Test(t, func(t *testing.T) {
						g := newAgent(t, filled(t, sc.objs...), "a")
						sc.before(g)
						sc.then(g)
						g.link.left, g.link.late, g.link.calls = n, late, nil
						for range 4 {
							g.loop(4)
							pass(idleTime)
						}
						done = g.link.left >= 0
						calls := g.link.calls
						for _, what := range calls {
							reached[what] = true
						}
						for line := range strings.SplitSeq(owners(t, g.st), "\n") {
							_, state, _ := strings.Cut(line, " ")
							states[state] = true
						}
						g.link.left = 1 << 30
						if killed {
							g.restart()
						}
						for range 4 {
							g.loop(4)
							pass(idleTime)
						}
						if have := g.settled(); have != sc.want {
							t.Fatalf("%s: call %d of %v (late %v, killed %v): have %s, want %s\n%s", name, n, calls, late, killed, have, sc.want, owners(t, g.st))
						}
					})
					if done || t.Failed() {
						break
					}
				}
			}
		}
	}
	for _, what := range []string{
		"create BlockAffinity", "create IPAMBlock", "update BlockAffinity", "delete BlockAffinity", "delete IPAMBlock", "delete IPPool",
		"get BlockAffinity", "get IPAMBlock", "get IPPool", "list BlockAffinity", "list IPAMBlock",
	} {
		if !reached[what] {
			t.Errorf("no fault was tried at %q", what)
		}
	}
	for _, state := range []string{"a:pending", "without block a:pending", "a:pendingDeletion", "without block a:pendingDeletion", "a:confirmed"} {
		if !states[state] {
			t.Errorf("no crash left a claim in state %q", state)
		}
	}
}

// meddling is a datastore in which somebody else does something right before one call.
type meddling struct {
	*faulty
	at int
	do func()
}

func (m *meddling) step() {
	if m.at == 0 {
		m.do()
	}
	m.at--
}

func (m *meddling) Get(ctx context.Context, key api.Key) (api.Object, error) {
	m.step()
	return m.faulty.Get(ctx, key)
}

func (m *meddling) List(ctx context.Context, kind api.Kind) ([]api.Object, string, error) {
	m.step()
	return m.faulty.List(ctx, kind)
}

func (m *meddling) Create(ctx context.Context, o api.Object) (api.Object, error) {
	m.step()
	return m.faulty.Create(ctx, o)
}

func (m *meddling) Update(ctx context.Context, o api.Object) (api.Object, error) {
	m.step()
	return m.faulty.Update(ctx, o)
}

func (m *meddling) Delete(ctx context.Context, key api.Key, revision string) error {
	m.step()
	return m.faulty.Delete(ctx, key, revision)
}

// TestBorrowedMeanwhile: before each call of a return in turn, another node takes an address of the block. It is never
// lost: as long as it is there the block is too, with its owner.
func TestBorrowedMeanwhile(t *testing.T) {
	const addr = "10.0.0.5"
	for n := 0; ; n++ {
		st := filled(t, but(pool("p", "10.0.0.4/30", 30), func(p *api.IPPool) { p.Spec.Disabled = true }), affinity("a", "10.0.0.4/30", "confirmed"))
		blk := ipamBlock(t, "a", "10.0.0.4/30", "")
		blk.UID = ""
		if _, err := st.Create(t.Context(), blk); err != nil {
			t.Fatal(err)
		}
		g := newAgent(t, st, "a")
		borrowed := false
		m := &meddling{faulty: g.link, at: n, do: func() {
			obj, err := st.Get(t.Context(), blk.Key())
			if err != nil {
				return // it is gone: nothing to borrow
			}
			b, err := parse(netip.MustParsePrefix("10.0.0.4/30"), obj.(*api.IPAMBlock))
			if err == nil {
				err = b.AssignAddr(netip.MustParseAddr(addr), holderOn("b"))
			}
			next := obj.(*api.IPAMBlock).DeepCopy()
			next.Spec = b.Spec()
			if err == nil {
				_, err = st.Update(t.Context(), next)
			}
			if err != nil {
				t.Fatal(err)
			}
			borrowed = true
		}}
		g.keeper.claims.store, g.keeper.publish.store = m, m
		g.loop(6)
		want := "10.0.0.4/30=a a:confirmed"
		if !borrowed {
			want = ""
		}
		if have := owners(t, st); have != want {
			t.Fatalf("call %d: have %q, want %q", n, have, want)
		}
		if m.at >= 0 {
			if n < 3 {
				t.Errorf("only %d calls", n)
			}
			return
		}
	}
}

// TestPoolGoesMeanwhile: before each call of a claim in turn, the pool is being deleted, and another node sees no block
// and removes it. No block is left without its pool.
func TestPoolGoesMeanwhile(t *testing.T) {
	for n := 0; ; n++ {
		p := pool("p", "10.0.0.0/28", 30)
		st := filled(t, p)
		g := newAgent(t, st, "a")
		m := &meddling{faulty: g.link, at: n, do: func() {
			obj, err := st.Get(t.Context(), p.Key())
			if err != nil {
				t.Fatal(err)
			}
			dying := obj.DeepCopyObject().(*api.IPPool)
			dying.DeletionTimestamp, dying.Finalizers = &metav1.Time{Time: noon}, []string{api.PoolFinalizer}
			stored, err := st.Update(t.Context(), dying)
			if err != nil {
				t.Fatal(err)
			}
			other := newRetirement(st, "b", quiet())
			if err := other.remove(t.Context(), stored.(*api.IPPool), netip.MustParsePrefix("10.0.0.0/28")); err != nil {
				t.Fatal(err)
			}
		}}
		g.keeper.claims.store = m
		g.loop(1)
		s := picture(t, st)
		if _, there := s.IPPools.Get("p"); !there && s.IPAMBlocks.Len()+s.BlockAffinities.Len() > 0 {
			t.Fatalf("call %d: the pool is gone, but %s", n, owners(t, st))
		}
		if m.at >= 0 {
			if n < 4 {
				t.Errorf("only %d calls", n)
			}
			return
		}
		g.loop(4)
		if have := owners(t, st); have != "" {
			t.Fatalf("call %d: what is left: %s", n, have)
		}
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
