// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
)

// disjoint fails if two nodes have confirmed blocks that share addresses. It gives the number of such blocks.
func disjoint(t *testing.T, s api.Snapshot) int {
	t.Helper()
	var all []netip.Prefix
	for _, node := range []string{"a", "b"} {
		for _, p := range blocksOf(s, node) {
			for _, q := range all {
				if p.Overlaps(q) {
					t.Fatalf("block %s of node %s overlaps %s of another", p, node, q)
				}
			}
			all = append(all, p)
		}
	}
	return len(all)
}

func blocksOf(s api.Snapshot, name string) []netip.Prefix {
	a := NewAllocator(name, fixed)
	a.Update(s)
	return a.Blocks()
}

// TestBlockSizesOfTwoSnapshots: a pool was made anew with other blocks, and one node does not know yet. Their
// calls are interleaved in every order that 300 seeds give.
func TestBlockSizesOfTwoSnapshots(t *testing.T) {
	large, small := pool("p", "10.0.0.0/24", 24), pool("p", "10.0.0.0/24", 26)
	ends := map[string]int{}
	for seed := range uint64(300) {
		st := filled(t, small)
		old := synced(large)
		interleave(t, rand.New(rand.NewPCG(seed, 1)), st, []*Keeper{wanting("a", old), wanting("b", picture(t, st))})
		n := disjoint(t, picture(t, st))
		ends[fmt.Sprint(n)]++
		// Both may have seen the other and given up. Then the next pass settles it.
		for _, node := range []string{"b", "a"} {
			if _, err := run(t, st, node); err != nil {
				t.Fatal(err)
			}
		}
		if disjoint(t, picture(t, st)) == 0 {
			t.Fatalf("seed %d: nobody has a block:\n%s", seed, owners(t, st))
		}
	}
	if ends["1"] == 0 || ends["0"] == 0 {
		t.Errorf("the interleaving decides nothing: %v", ends)
	}
}

// TestClaimSeesWhatTheSnapshotLacks: one node has its block before the other one looks.
func TestClaimSeesWhatTheSnapshotLacks(t *testing.T) {
	for cidr, want := range map[string]string{
		"10.0.0.0/24":   "10.0.0.0/24=b b:confirmed",
		"10.0.0.64/26":  "10.0.0.128/25=a a:confirmed\n10.0.0.64/26=b b:confirmed",
		"10.0.0.192/26": "10.0.0.0/25=a a:confirmed\n10.0.0.192/26=b b:confirmed",
	} {
		blk := ipamBlock(t, "b", cidr, "")
		blk.UID = ""
		st := filled(t, pool("p", "10.0.0.0/24", 25), affinity("b", cidr, "confirmed"), blk)
		k := wanting("a", synced(pool("p", "10.0.0.0/24", 25)))
		k.claims.store = st
		if _, err := k.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, owners(t, st)); diff != "" {
			t.Errorf("%s: %s", cidr, diff)
		}
	}
}

// TestOverlapInUseIsKept: a half-done claim whose block has pods already is for a human to judge.
func TestOverlapInUseIsKept(t *testing.T) {
	blk := func(node, cidr, held string) *api.IPAMBlock {
		b := ipamBlock(t, node, cidr, held)
		b.UID = ""
		return b
	}
	st := filled(t, pool("p", "10.0.0.0/29", 30), blk("a", "10.0.0.0/30", "10.0.0.1=h"), affinity("a", "10.0.0.0/30", "pending"),
		blk("b", "10.0.0.0/31", ""), affinity("b", "10.0.0.0/31", "confirmed"))
	k, err := run(t, st, "a")
	if err != nil {
		t.Fatal(err)
	}
	const problem = `BlockAffinity/a-10-0-0-0-30: IPAMBlock/10-0-0-0-31 of node "b" overlaps it: ` +
		`remove the pods of one of the two, then delete its IPAMBlock and BlockAffinity`
	if diff := cmp.Diff([]string{problem}, k.Status().Problems); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("10.0.0.0/30=a a:pending\n10.0.0.0/31=b b:confirmed\n10.0.0.4/30=a a:confirmed", owners(t, st)); diff != "" {
		t.Error(diff)
	}
}

// TestOverlappingBlockIsNotUsed: what is twice in the datastore all the same is given to nobody.
func TestOverlappingBlockIsNotUsed(t *testing.T) {
	s := own(t, synced(pool("p", "10.0.0.0/24", 26)), "a", "10.0.0.0/26", "10.0.0.1=h")
	a := node(s)
	if have := ask(a, auto("before")); have != "10.0.0.0" {
		t.Fatal(have)
	}
	both := own(t, s, "b", "10.0.0.0/24", "")
	a.Update(both)
	for name, have := range map[string]string{"automatic": ask(a, auto("x")), "specific": ask(a, want("y", "10.0.0.9"))} {
		if strings.HasPrefix(have, "10.") {
			t.Errorf("%s: %s was assigned", name, have)
		}
	}
	const problem = `IPAMBlock/10-0-0-0-26 has addresses of IPAMBlock/10-0-0-0-24 of node "b": no pod gets one of them: ` +
		`remove the pods of one of the two, then delete its IPAMBlock and BlockAffinity`
	if p := a.Problems(); len(p) != 1 || p[0].Error() != problem {
		t.Errorf("problems %v", p)
	}
	if have := needs(a); have != "p" {
		t.Errorf("needs %q: want another block", have)
	}
	if len(a.Release("before")) != 1 || ask(a, auto("h")) != "10.0.0.1" {
		t.Error("what the block holds is not to be lost")
	}
	a.Update(s)
	if have := ask(a, auto("x")); !strings.HasPrefix(have, "10.") || len(a.Problems()) > 0 {
		t.Errorf("alone again: %s, %v", have, a.Problems())
	}
}

func TestRivals(t *testing.T) {
	blocks := []string{
		"10.0.0.0/16", "10.0.0.0/24", "10.0.0.0/26", "10.0.0.64/26", "10.0.1.0/24", "10.0.10.0/24", "10.1.0.0/24", "10.0.255.255/32",
		"fd00::/122", "fd00::/112", "fd00::40/122", "fd00::1:0/122", "fd00::1:40/122", "fd00:0:0:1::/122", "fd00:0:0:1::40/122",
		"1:2:3:4:5:6:7:0/122", "1:2:3:4:5:6:7:40/122", "1:0:0:4:5::/120", "1:0:0:4:5::40/122", "1:0:0:4:5:0:0:80/122", "1:2:3:4:5:6::/112", "1:2:3:4:5:6:0:ff00/120",
	}
	var s api.Snapshot
	for _, cidr := range blocks {
		obj := &api.IPAMBlock{Spec: api.IPAMBlockSpec{CIDR: cidr}}
		obj.Name = api.BlockName(netip.MustParsePrefix(cidr))
		s = s.With(obj)
	}
	asked := append(blocks, "10.0.0.128/25", "10.0.0.0/20", "10.0.248.0/21", "fd00::/120", "1:2:3:4:5:6:7:0/112", "1:0:0:4:5::/112", "192.0.2.0/24")
	shared := 0
	for _, cidr := range asked {
		p := netip.MustParsePrefix(cidr)
		want, have := map[string]bool{}, map[string]bool{}
		for _, obj := range s.IPAMBlocks.All() {
			if q := netip.MustParsePrefix(obj.Spec.CIDR); q != p && q.Overlaps(p) {
				want[obj.Spec.CIDR] = true
			}
		}
		for _, obj := range rivals(s.IPAMBlocks, p) {
			have[obj.Spec.CIDR] = true
		}
		shared += len(want)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: %s", p, diff)
		}
	}
	if shared < 30 {
		t.Errorf("only %d overlaps: the test tests little", shared)
	}
}
