// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
)

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
