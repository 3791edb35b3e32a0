// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func obstacle(text, what string) Obstacle { return Obstacle{netip.MustParsePrefix(text), what} }

// TestNoBlockOfHosts claims a whole pool that overlaps the hosts' subnet and another host's address: what is
// left of it is claimed, and nothing else.
func TestNoBlockOfHosts(t *testing.T) {
	p := pool("p", "10.0.0.0/24", 28)
	st := filled(t, p)
	k := NewKeeper(st, "a", quiet())
	obstacles := []Obstacle{obstacle("10.0.0.128/25", "the subnet of eth0"), obstacle("10.0.0.17/32", "an address of Node/b")}
	claimed := map[string]bool{}
	for len(k.Exhausted()) == 0 && len(claimed) <= 16 {
		snap := picture(t, st)
		k.Want(Wants{Snapshot: snap, Needs: []Need{{Pools: readPools(snap.IPPools, nil).enabled}}, Obstacles: obstacles})
		if _, err := k.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, b := range picture(t, st).IPAMBlocks.All() {
			claimed[b.Spec.CIDR] = true
		}
	}
	for _, no := range []string{"10.0.0.16/28", "10.0.0.128/28", "10.0.0.240/28"} {
		if claimed[no] {
			t.Errorf("%s was claimed", no)
		}
	}
	if len(claimed) != 7 {
		t.Errorf("claimed %v: want 7 blocks", claimed)
	}
	// Once the subnet is gone its blocks can be had.
	k.Want(Wants{Snapshot: picture(t, st), Needs: []Need{{Pools: readPools(synced(p).IPPools, nil).enabled}}})
	if _, err := k.pass(t.Context()); err != nil || len(k.Exhausted()) > 0 {
		t.Errorf("exhausted %v, %v: want another block", k.Exhausted(), err)
	}
}

// TestNoAddressOfHosts asks by name for what belongs to hosts, and for the rest of the block.
func TestNoAddressOfHosts(t *testing.T) {
	a := NewAllocator("a", fixed)
	a.SetObstacles([]Obstacle{
		obstacle("192.168.100.0/26", "the subnet of eth0"),
		obstacle("192.168.7.3/32", "an address of Node/b"),
		obstacle("10.0.0.0/8", "the subnet of eth1"), // in no pool
	})
	snap := own(t, synced(pool("p", "192.168.0.0/16", 24)), "a", "192.168.7.0/24", "")
	a.Update(snap)
	for asked, want := range map[string]string{
		"192.168.100.9":   "address 192.168.100.9: it is in 192.168.100.0/26, the subnet of eth0: ask for one that no host can have",
		"192.168.100.200": "address 192.168.100.200: its block 192.168.100.0/24 overlaps 192.168.100.0/26, the subnet of eth0: ask for one of another block",
		"192.168.7.3":     "address 192.168.7.3: it is in 192.168.7.3/32, an address of Node/b: ask for one that no host can have",
	} {
		_, err := a.Assign(Request{Handle: asked, Addresses: addrs(asked)})
		if !errors.Is(err, ErrPool) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: have %v\nwant %s", asked, err, want)
		}
	}
	if _, err := a.Assign(Request{Handle: "fine", Addresses: addrs("192.168.7.4")}); err != nil {
		t.Error(err)
	}
	problems := a.Problems()
	const want = "IPPool/p: spec.cidr 192.168.0.0/16 overlaps 192.168.100.0/26, the subnet of eth0 (and 1 more): no pod gets an address there"
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), want) {
		t.Errorf("problems %v: want %s", problems, want)
	}
	if w := a.Wants(); len(w.Obstacles) != 2 {
		t.Errorf("the keeper is told of %v, want the two that matter", w.Obstacles)
	}
}

// TestOwnBlockBecomesAnObstacle: a host comes into a subnet that has a block of its node's. Pods that are there stay,
// but no other comes, and another block is wanted. An address of a host takes only itself out of a block.
func TestOwnBlockBecomesAnObstacle(t *testing.T) {
	a := NewAllocator("a", fixed)
	a.Update(own(t, synced(pool("p", "10.0.0.0/16", 30)), "a", "10.0.0.0/30", ""))
	if have, err := a.Assign(Request{Handle: "first"}); err != nil || have[0] != addrs("10.0.0.0")[0] {
		t.Fatal(have, err)
	}
	a.SetObstacles([]Obstacle{obstacle("10.0.0.1/32", "an address of this host")})
	if have, err := a.Assign(Request{Handle: "second"}); err != nil || have[0] != addrs("10.0.0.2")[0] {
		t.Fatal(have, err)
	}
	a.SetObstacles([]Obstacle{obstacle("10.0.0.0/29", "the subnet of eth0")})
	if have, err := a.Assign(Request{Handle: "third"}); !errors.Is(err, ErrNeedBlock) {
		t.Errorf("have %v, %v: want another block", have, err)
	}
	if have, err := a.Assign(Request{Handle: "first"}); err != nil || have[0] != addrs("10.0.0.0")[0] {
		t.Errorf("the pod that is there has %v, %v", have, err)
	}
	a.SetExhausted([]string{"p"})
	_, err := a.Assign(Request{Handle: "fourth"})
	if err == nil || !strings.Contains(err.Error(), "; it overlaps 10.0.0.0/29, the subnet of eth0, where no block is claimed") {
		t.Errorf("have %v", err)
	}
	a.SetObstacles(nil)
	if have, err := a.Assign(Request{Handle: "fifth"}); err != nil || have[0] != addrs("10.0.0.1")[0] {
		t.Errorf("have %v, %v", have, err)
	}
}
