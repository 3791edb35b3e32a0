// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/api/store"
)

// run makes one pass of a fresh keeper of a node, with what a fresh allocator wants.
func run(t *testing.T, st Store, node string, requests ...Request) (*Keeper, error) {
	t.Helper()
	k := NewKeeper(st, node, quiet())
	return k, again(t, k, st, node, requests...)
}

func again(t *testing.T, k *Keeper, st store.Reader, node string, requests ...Request) error {
	t.Helper()
	if f, ok := st.(*faulty); ok {
		st = f.Store // the Snapshot is older than the outage
	}
	a := NewAllocator(node, fixed)
	a.Update(picture(t, st))
	for _, r := range requests {
		_, _ = a.Assign(r)
	}
	k.Want(a.Wants())
	_, err := k.pass(t.Context())
	return err
}

// starts are datastores that a keeper of node a finds; each is healed to the wanted state, or has
// it already. The first block that a would choose of 10.0.0.0/29 is 10.0.0.4/30.
func starts(t *testing.T) map[string]struct {
	objs []api.Object
	want string
} {
	p := pool("p", "10.0.0.0/29", 30)
	blk := func(node, cidr string) *api.IPAMBlock {
		b := ipamBlock(t, node, cidr, "")
		b.UID = ""
		return b
	}
	const mine = "10.0.0.4/30=a a:confirmed"
	used := ipamBlock(t, "a", "10.0.0.4/30", "10.0.0.5=h")
	used.UID = ""
	return map[string]struct {
		objs []api.Object
		want string
	}{
		"nothing":                 {[]api.Object{p}, mine},
		"pending":                 {[]api.Object{p, affinity("a", "10.0.0.4/30", "pending")}, mine},
		"pending, other place":    {[]api.Object{p, affinity("a", "10.0.0.0/30", "pending")}, "10.0.0.0/30=a a:confirmed"},
		"pending with block":      {[]api.Object{p, affinity("a", "10.0.0.4/30", "pending"), blk("a", "10.0.0.4/30")}, mine},
		"confirmed":               {[]api.Object{p, affinity("a", "10.0.0.4/30", "confirmed"), blk("a", "10.0.0.4/30")}, mine},
		"block without affinity":  {[]api.Object{p, blk("a", "10.0.0.4/30")}, mine},
		"confirmed without block": {[]api.Object{p, affinity("a", "10.0.0.4/30", "confirmed")}, mine},
		"pending, block taken": {
			[]api.Object{p, affinity("a", "10.0.0.4/30", "pending"), affinity("b", "10.0.0.4/30", "confirmed"), blk("b", "10.0.0.4/30")},
			"10.0.0.0/30=a a:confirmed\n10.0.0.4/30=b b:confirmed",
		},
		"confirmed, block taken": {
			[]api.Object{p, affinity("a", "10.0.0.4/30", "confirmed"), affinity("b", "10.0.0.4/30", "confirmed"), blk("b", "10.0.0.4/30")},
			"10.0.0.0/30=a a:confirmed\n10.0.0.4/30=b b:confirmed",
		},
		"block of nobody": {
			[]api.Object{p, affinity("b", "10.0.0.4/30", "confirmed"), blk("b", "10.0.0.4/30")},
			"10.0.0.0/30=a a:confirmed\n10.0.0.4/30=b b:confirmed",
		},
		"pending of a pool that is gone": {
			[]api.Object{p, affinity("a", "10.5.0.0/30", "pending")}, mine,
		},
		"pending, overlapping another's": {
			[]api.Object{p, affinity("a", "10.0.0.4/30", "pending"), affinity("b", "10.0.0.4/31", "confirmed"), blk("b", "10.0.0.4/31")},
			"10.0.0.0/30=a a:confirmed\n10.0.0.4/31=b b:confirmed",
		},
		"pending with block, overlapping another's": {
			[]api.Object{p, affinity("a", "10.0.0.4/30", "pending"), blk("a", "10.0.0.4/30"), affinity("b", "10.0.0.4/31", "confirmed"), blk("b", "10.0.0.4/31")},
			"10.0.0.0/30=a a:confirmed\n10.0.0.4/31=b b:confirmed",
		},
		"given back but for the affinity": {[]api.Object{p, affinity("a", "10.0.0.4/30", "pendingDeletion")}, mine},
		"given back, block in use": {
			[]api.Object{pool("p", "10.0.0.4/30", 30), affinity("a", "10.0.0.4/30", "pendingDeletion"), used}, mine,
		},
		"given back, block taken": {
			[]api.Object{p, affinity("a", "10.0.0.4/30", "pendingDeletion"), affinity("b", "10.0.0.4/30", "confirmed"), blk("b", "10.0.0.4/30")},
			"10.0.0.0/30=a a:confirmed\n10.0.0.4/30=b b:confirmed",
		},
		"confirmed without block, of a pool that is gone": {
			[]api.Object{p, affinity("a", "10.5.0.0/30", "confirmed")}, mine,
		},
		"another's claim without block": {
			[]api.Object{p, affinity("b", "10.0.0.4/30", "pending")},
			"10.0.0.0/30=a a:confirmed\n10.0.0.4/30 without block b:pending",
		},
	}
}

// TestCrashAtEveryCall stops a keeper at each call to the datastore, before and after it had its
// effect, and lets a fresh one find what was left.
func TestCrashAtEveryCall(t *testing.T) {
	reached := map[string]bool{}
	for name, c := range starts(t) {
		for _, late := range []bool{false, true} {
			for n := 0; ; n++ {
				st := filled(t, c.objs...)
				broken := &faulty{Store: st, left: n, late: late}
				_, err := run(t, broken, "a")
				for _, what := range broken.calls {
					reached[what] = true
				}
				done := broken.left >= 0
				if !done && !errors.Is(err, store.ErrUnavailable) {
					t.Fatalf("%s, call %d: error %v", name, n, err)
				}
				k, err := run(t, st, "a")
				if err == nil {
					err = again(t, k, st, "a")
				}
				if diff := cmp.Diff(c.want, owners(t, st)); diff != "" || err != nil {
					t.Fatalf("%s, call %d of %v (late %v): %v\n%s", name, n, broken.calls, late, err, diff)
				}
				if done {
					break
				}
			}
		}
	}
	for _, what := range []string{
		"create BlockAffinity", "create IPAMBlock", "update BlockAffinity", "delete BlockAffinity",
		"get BlockAffinity", "get IPAMBlock", "list BlockAffinity", "list IPAMBlock", "delete IPAMBlock",
	} {
		if !reached[what] {
			t.Errorf("no crash was tried at %q", what)
		}
	}
}

// stepped lets each call through when told to.
type stepped struct {
	store.Store
	turn chan struct{}
}

func (s stepped) Get(ctx context.Context, key api.Key) (api.Object, error) {
	<-s.turn
	return s.Store.Get(ctx, key)
}

func (s stepped) List(ctx context.Context, kind api.Kind) ([]api.Object, string, error) {
	<-s.turn
	return s.Store.List(ctx, kind)
}

func (s stepped) Create(ctx context.Context, o api.Object) (api.Object, error) {
	<-s.turn
	return s.Store.Create(ctx, o)
}

func (s stepped) Update(ctx context.Context, o api.Object) (api.Object, error) {
	<-s.turn
	return s.Store.Update(ctx, o)
}

func (s stepped) Delete(ctx context.Context, key api.Key, revision string) error {
	<-s.turn
	return s.Store.Delete(ctx, key, revision)
}

// wanting gives a keeper that is told what a fresh allocator wants.
func wanting(node string, snap api.Snapshot) *Keeper {
	k := NewKeeper(nil, node, quiet())
	a := NewAllocator(node, fixed)
	a.Update(snap)
	k.Want(a.Wants())
	return k
}

// interleave makes one pass of each keeper, with their calls to the datastore in random order.
func interleave(t *testing.T, r *rand.Rand, st store.Store, keepers []*Keeper) {
	var running []int
	var turns, dones []chan struct{}
	for i, k := range keepers {
		turn, done := make(chan struct{}), make(chan struct{})
		k.claims.store, k.publish.store = stepped{st, turn}, stepped{st, turn}
		go func() {
			defer close(done)
			_, _ = k.pass(t.Context())
		}()
		running, turns, dones = append(running, i), append(turns, turn), append(dones, done)
	}
	for len(running) > 0 {
		i := running[r.IntN(len(running))]
		select {
		case turns[i] <- struct{}{}:
		case <-dones[i]:
			running = slices.DeleteFunc(running, func(x int) bool { return x == i })
		}
	}
}

// TestRaceForTheLastBlock interleaves the calls of nodes that want the same block in random order.
func TestRaceForTheLastBlock(t *testing.T) {
	winners := map[string]int{}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		st := filled(t, pool("p", "10.0.0.0/30", 30))
		nodes := []string{"a", "b", "c"}
		var keepers []*Keeper
		for _, node := range nodes {
			keepers = append(keepers, wanting(node, picture(t, st)))
		}
		interleave(t, r, st, keepers)
		have := owners(t, st)
		if len(have) != len("10.0.0.0/30=a a:confirmed") || strings.Count(have, have[12:13]) < 2 {
			t.Fatalf("seed %d: %s", seed, have)
		}
		winners[have[12:13]]++
		for i, node := range nodes {
			if full := keepers[i].Exhausted(); (node != have[12:13]) != slices.Equal(full, []string{"p"}) {
				t.Fatalf("seed %d: %s won, and node %s has %v exhausted", seed, have, node, full)
			}
		}
	}
	if len(winners) < 3 {
		t.Errorf("the interleaving decides nothing: %v", winners)
	}
}

func TestManyNodesDontCollide(t *testing.T) {
	st := filled(t, pool("p", "10.0.0.0/16", 26))
	tries := 0
	for i := range 100 {
		f := &faulty{Store: st, left: 1 << 30}
		k := NewKeeper(f, fmt.Sprint("node", i), quiet())
		a := NewAllocator(fmt.Sprint("node", i), fixed)
		a.Update(synced(pool("p", "10.0.0.0/16", 26))) // all of them started at once
		k.Want(a.Wants())
		if _, err := k.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, what := range f.calls {
			if what == "create IPAMBlock" {
				tries++
			}
		}
	}
	if s := picture(t, st); s.IPAMBlocks.Len() != 100 || s.BlockAffinities.Len() != 100 || tries > 120 {
		t.Errorf("%d blocks, %d affinities after %d tries", s.IPAMBlocks.Len(), s.BlockAffinities.Len(), tries)
	}
}

func TestExhaustedAndBack(t *testing.T) {
	st := filled(t, pool("p", "10.0.0.0/30", 30), pool("q", "10.1.0.0/30", 30))
	for _, node := range []string{"b", "c"} {
		if _, err := run(t, st, node); err != nil {
			t.Fatal(err)
		}
	}
	k, err := run(t, st, "a")
	if full := k.Exhausted(); err != nil || !slices.Equal(full, []string{"p", "q"}) {
		t.Fatalf("have %v, %v", full, err)
	}
	select {
	case <-k.Wake():
	default:
		t.Error("nobody was woken")
	}
	for o := range picture(t, st).Objects(api.KindIPAMBlock) {
		for _, key := range []api.Key{o.Key(), {Kind: api.KindBlockAffinity, Name: owner(o.(*api.IPAMBlock)) + "-" + o.GetName()}} {
			if err := st.Delete(t.Context(), key, ""); err != nil {
				t.Fatal(err)
			}
		}
		break
	}
	if err := again(t, k, st, "a"); err != nil || len(k.Exhausted()) > 0 || !strings.Contains(owners(t, st), "=a a:confirmed") {
		t.Errorf("after a block was given up: %v, %v, %s", k.Exhausted(), err, owners(t, st))
	}
}

// TestOneClaimAtATime: until the Snapshot shows a claim, no second block is taken for the same need.
func TestOneClaimAtATime(t *testing.T) {
	st := filled(t, pool("p", "10.0.0.0/16", 30))
	k := NewKeeper(st, "a", quiet())
	a := NewAllocator("a", fixed)
	a.Update(picture(t, st))
	for range 3 {
		_, _ = a.Assign(auto("h"))
		k.Want(a.Wants())
		if _, err := k.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := picture(t, st).IPAMBlocks.Len(); n != 1 {
		t.Errorf("%d blocks were claimed", n)
	}
	for p := range k.claims.flying {
		if err := st.Delete(t.Context(), affinity("a", p.String(), "").Key(), ""); err != nil {
			t.Fatal(err)
		}
		k.claims.flying[p] = time.Now().Add(-time.Minute)
	}
	if _, err := k.pass(t.Context()); err != nil || len(k.claims.flying) != 1 || !strings.HasSuffix(owners(t, st), "=a a:confirmed") {
		t.Errorf("a claim that came to nothing is made again: %v, %v, %s", err, k.claims.flying, owners(t, st))
	}
}

func TestClaimSpecificBlock(t *testing.T) {
	st := filled(t, pool("p", "10.0.0.0/16", 30), reservation("10.0.9.0/24"), affinity("b", "10.0.8.0/31", "confirmed"))
	k, err := run(t, st, "a", want("h", "10.0.9.9"), want("i", "10.0.8.1"))
	if err != nil {
		t.Fatal(err)
	}
	if have := owners(t, st); have != "10.0.8.0/31 without block b:confirmed\n10.0.9.8/30=a a:confirmed" {
		t.Errorf("have %s", have)
	}
	if p := k.Status().Problems; len(p) != 1 || !strings.Contains(p[0], "block 10.0.8.0/30 is wanted, but 10.0.8.0/30 is taken") {
		t.Errorf("problems %v", p)
	}
}

func TestContradictionsAreReported(t *testing.T) {
	odd := affinity("a", "10.0.0.8/30", "confirmed")
	odd.Name = "a-something-else"
	stray := ipamBlock(t, "a", "10.0.0.16/30", "")
	stray.Name, stray.UID = "stray", ""
	st := filled(t, pool("p", "10.0.0.0/27", 30), odd, stray,
		affinity("a", "10.0.0.0/30", "confirmed"), affinity("b", "10.0.0.0/30", "confirmed"))
	before := owners(t, st)
	k, err := run(t, st, "a")
	if err != nil {
		t.Fatal(err)
	}
	wanted := []string{
		`BlockAffinity/a-10-0-0-0-30: its IPAMBlock/10-0-0-0-30 is gone, and node "b" has a confirmed claim on 10.0.0.0/30: delete one of the two`,
		`BlockAffinity/a-something-else: spec.cidr "10.0.0.8/30" does not fit its name: delete it`,
		`IPAMBlock/stray: spec.cidr "10.0.0.16/30" does not fit its name: delete it`,
	}
	if diff := cmp.Diff(wanted, k.Status().Problems); diff != "" {
		t.Error(diff)
	}
	for line := range strings.SplitSeq(before, "\n") {
		if !strings.Contains(owners(t, st), line) {
			t.Errorf("%s was touched", line)
		}
	}
	if err := again(t, k, st, "a"); err != nil || !slices.Equal(k.Status().Problems, wanted) {
		t.Errorf("second pass: %v, %v", err, k.Status().Problems)
	}
}

func TestNothingIsWrittenTooEarly(t *testing.T) {
	info := &api.ClusterInformation{}
	info.Name = "default"
	info.Spec.DatastoreReady = new(false)
	for name, s := range map[string]api.Snapshot{
		"not in sync":         {},
		"datastore not ready": synced(info, pool("p", "10.0.0.0/16", 30)),
	} {
		f := &faulty{Store: filled(t), left: 100}
		k := NewKeeper(f, "a", quiet())
		k.Want(Wants{Snapshot: s, Needs: []Need{{Pools: readPools(synced(pool("p", "10.0.0.0/16", 30)).IPPools, nil).enabled}}})
		if _, err := k.pass(t.Context()); err != nil || len(f.calls) > 0 {
			t.Errorf("%s: %v, %v", name, f.calls, err)
		}
	}
}
