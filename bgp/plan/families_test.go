// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/bgp/plan"
)

func addresses(t *testing.T, all ...string) api.Addresses {
	t.Helper()
	var a api.Addresses
	for _, s := range all {
		if p := netip.MustParsePrefix(s); p.Addr().Is4() {
			a.IPv4 = p
		} else {
			a.IPv6 = p
		}
	}
	return a
}

func TestFamilies(t *testing.T) {
	const v4, v6 = "10.0.0.10/24", "fd00::a/64"
	nodes := func() *world {
		return new(world).node("b", v4, 0).node6("b", v6).
			node("both", "10.0.0.9/24", 0).node6("both", "fd00::b/64").
			node("four", "10.0.0.4/24", 0).
			node6("six", "fd00::6/64")
	}
	peers := func() *world {
		return new(world).
			peer("g4", api.BGPPeerSpec{PeerIP: "10.0.0.1", ASNumber: 65100}).
			peer("g6", api.BGPPeerSpec{PeerIP: "fd00::1", ASNumber: 65100}).
			peer("mine4", api.BGPPeerSpec{Node: "b", PeerIP: "10.0.0.2:1790", ASNumber: 65101}).
			peer("mine6", api.BGPPeerSpec{Node: "b", PeerIP: "[fd00::2]:1790", ASNumber: 65101})
	}
	blocks := func() *world {
		return new(world).pool("172.17.0.0/16", false).pool("fd01::/48", false).
			block("172.17.1.0/24", "b", "confirmed", "b").
			block("fd01::100/122", "b", "confirmed", "b")
	}
	nodeIP := api.BGPConfigurationSpec{BindMode: "NodeIP"}
	for _, tc := range []struct {
		name  string
		world *world
		own   []string
		want  string
	}{
		{"a mesh session for each family that both nodes have; each has its own lower end", nodes().config(nodeIP), []string{v4, v6}, `
global as 64512 id 10.0.0.10 port 179 listen [10.0.0.10 fd00::a]
peer 10.0.0.4:179 as 64512 waits from 10.0.0.10 hold 1m30s/30s restart 2m0s (node-to-node mesh four)
peer 10.0.0.9:179 as 64512 waits from 10.0.0.10 hold 1m30s/30s restart 2m0s (node-to-node mesh both)
peer fd00::6:179 as 64512 waits from fd00::a hold 1m30s/30s restart 2m0s (node-to-node mesh six)
peer fd00::b:179 as 64512 connects from fd00::a hold 1m30s/30s restart 2m0s (node-to-node mesh both)
`},
		{"without IPv4 the router ID is a hash of the name", nodes().node("b", "", 0).node6("b", v6).config(nodeIP), []string{v6}, `
global as 64512 id 63.35.232.22 port 179 listen [fd00::a]
peer fd00::6:179 as 64512 waits from fd00::a hold 1m30s/30s restart 2m0s (node-to-node mesh six)
peer fd00::b:179 as 64512 connects from fd00::a hold 1m30s/30s restart 2m0s (node-to-node mesh both)
`},
		{"without IPv6 only IPv4", nodes().node("b", v4, 0), []string{v4}, `
global as 64512 id 10.0.0.10 port 179 listen []
peer 10.0.0.4:179 as 64512 waits from 10.0.0.10 hold 1m30s/30s restart 2m0s (node-to-node mesh four)
peer 10.0.0.9:179 as 64512 waits from 10.0.0.10 hold 1m30s/30s restart 2m0s (node-to-node mesh both)
`},
		{"BGPPeers of both families", peers(), []string{v4, v6}, `
global as 64512 id 10.0.0.10 port 179 listen []
peer 10.0.0.1:179 as 65100 connects from 10.0.0.10 hold 1m30s/30s restart 2m0s (global g4)
peer 10.0.0.2:1790 as 65101 connects from 10.0.0.10 hold 1m30s/30s restart 2m0s (node specific mine4)
peer fd00::1:179 as 65100 connects from fd00::a hold 1m30s/30s restart 2m0s (global g6)
peer fd00::2:1790 as 65101 connects from fd00::a hold 1m30s/30s restart 2m0s (node specific mine6)
`},
		{"one of a family that this node lacks is reported if it names this node", peers(), []string{v4}, `
global as 64512 id 10.0.0.10 port 179 listen []
peer 10.0.0.1:179 as 65100 connects from 10.0.0.10 hold 1m30s/30s restart 2m0s (global g4)
peer 10.0.0.2:1790 as 65101 connects from 10.0.0.10 hold 1m30s/30s restart 2m0s (node specific mine4)
problem BGPPeer/mine6: spec.peerIP fd00::2 is IPv6, of which this node has no address: start korat-node with --ip6; no session to it
`},
		{"the other way round", peers(), []string{v6}, `
global as 64512 id 63.35.232.22 port 179 listen []
peer fd00::1:179 as 65100 connects from fd00::a hold 1m30s/30s restart 2m0s (global g6)
peer fd00::2:1790 as 65101 connects from fd00::a hold 1m30s/30s restart 2m0s (node specific mine6)
problem BGPPeer/mine4: spec.peerIP 10.0.0.2 is IPv4, of which this node has no address: start korat-node with --ip; no session to it
`},
		{"a BGPPeer over the mesh's session of its family only", nodes().
			peer("over", api.BGPPeerSpec{PeerIP: "fd00::b", ASNumber: 64512}).
			peer("own", api.BGPPeerSpec{PeerIP: "fd00::a", ASNumber: 64512}).
			node("four", "", 0).node6("six", ""), []string{v4, v6}, `
global as 64512 id 10.0.0.10 port 179 listen []
peer 10.0.0.9:179 as 64512 waits from 10.0.0.10 hold 1m30s/30s restart 2m0s (node-to-node mesh both)
peer fd00::b:179 as 64512 connects from fd00::a hold 1m30s/30s restart 2m0s (global over)
`},
		{"bad IPv6 addresses", new(world).
			node6("n1", "fe80::1/64").node6("n2", "10.0.0.1/24").node6("n3", "::ffff:10.0.0.1/120").node6("n4", "ff02::1/64").
			node6("n5", "::1/128").node6("n6", "fd00::a/64").node6("n7", "fd00::x/64").
			peer("p1", api.BGPPeerSpec{Node: "b", PeerIP: "fd00::a", ASNumber: 1}).
			peer("p2", api.BGPPeerSpec{PeerIP: "fe80::1%eth0", ASNumber: 1}).
			peer("p3", api.BGPPeerSpec{PeerIP: "[fd00::1]:0", ASNumber: 1}), []string{v4, v6}, `
global as 64512 id 10.0.0.10 port 179 listen []
problem Node/n1: spec.bgp.ipv6Address: fe80::1 is link-local, which is not supported: use an address of a wider scope; no session to it
problem Node/n2: spec.bgp.ipv6Address: 10.0.0.1 is IPv4: set it as spec.bgp.ipv4Address; no session to it
problem Node/n3: spec.bgp.ipv6Address: ::ffff:10.0.0.1 is an IPv4 address in IPv6's form: write 10.0.0.1; no session to it
problem Node/n4: spec.bgp.ipv6Address: ff02::1 is no host's address; no session to it
problem Node/n5: spec.bgp.ipv6Address: ::1 is no host's address; no session to it
problem Node/n6: spec.bgp.ipv6Address fd00::a is Node/b's too; no session between them: give one of them another address
problem Node/n7: spec.bgp.ipv6Address: "fd00::x/64" is not an address with its subnet's length, as in 2001:db8::1/64; no session to it
problem BGPPeer/p1: spec.peerIP fd00::a is this node's own address; no session to it
problem BGPPeer/p2: spec.peerIP: fe80::1%eth0 is link-local, which is not supported: use an address of a wider scope; no session to it
problem BGPPeer/p3: spec.peerIP: "[fd00::1]:0" has port 0: leave the port out for 179; no session to it
`},
		{"origins of both families", blocks(), []string{v4, v6}, `
global as 64512 id 10.0.0.10 port 179 listen []
origin 172.17.1.0/24
origin fd01::100/122
`},
		{"nothing is the next hop of a family that the node lacks", blocks(), []string{v4}, `
global as 64512 id 10.0.0.10 port 179 listen []
origin 172.17.1.0/24
problem block fd01::100/122: this node has no IPv6 address that would be its next hop; not advertised, so other nodes can't reach its pods: start korat-node with --ip6
`},
		{"a colliding router ID", new(world).
			node6("b", v6).node6("x", "fd00::6/64").node("y", hashOf("x")+"/24", 0).node("z", hashOf("b")+"/24", 0).
			config(api.BGPConfigurationSpec{NodeToNodeMeshEnabled: new(false)}), []string{v6}, `
global as 64512 id 63.35.232.22 port 179 listen []
problem Node/y: its BGP router ID 46.113.22.66 is Node/x's too, so that they get no session with each other: give those without an IPv4 address one, or another name
problem Node/z: its BGP router ID 63.35.232.22 is Node/b's too, so that they get no session with each other: give those without an IPv4 address one, or another name
`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := plan.Input{Snapshot: tc.world.s, Node: "b", Addresses: addresses(t, tc.own...)}
			got := "\n" + render(plan.Plan(in))
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("plan differs (-want +got):\n%s", d)
			}
		})
	}
}

// hashOf gives the router ID of a node without IPv4.
func hashOf(node string) string {
	p, _ := plan.Plan(plan.Input{Node: node, Addresses: api.Addresses{IPv6: netip.MustParsePrefix("fd00::1/64")}})
	return p.Global.RouterID.String()
}

// A router ID is never 0 (RFC 6286), multicast or of class E, and seldom another node's.
func TestRouterIDs(t *testing.T) {
	seen := map[string]bool{}
	const nodes = 5000
	for i := range nodes {
		id := netip.MustParseAddr(hashOf(fmt.Sprintf("node-%d", i)))
		if first := id.As4()[0]; first == 0 || first > 223 {
			t.Errorf("router ID %s is no unicast address", id)
		}
		seen[id.String()] = true
	}
	if len(seen) < nodes-5 {
		t.Errorf("%d nodes have %d router IDs", nodes, len(seen))
	}
}

// For each family just one end connects, whatever the other family says.
func TestOneEndConnectsPerFamily(t *testing.T) {
	s := new(world).node("a", "10.0.0.9/24", 0).node6("a", "fd00::10/64").node("b", "10.0.0.10/24", 0).node6("b", "fd00::9/64").s
	waits := map[netip.Addr]bool{} // by the end's own address
	for node, own := range map[string]api.Addresses{
		"a": addresses(t, "10.0.0.9/24", "fd00::10/64"), "b": addresses(t, "10.0.0.10/24", "fd00::9/64"),
	} {
		p, problems := plan.Plan(plan.Input{Snapshot: s, Node: node, Addresses: own})
		if len(problems) > 0 {
			t.Errorf("%s: %v", node, problems)
		}
		for _, peer := range p.Peers {
			waits[peer.LocalAddress] = peer.Passive
		}
	}
	want := map[netip.Addr]bool{
		netip.MustParseAddr("10.0.0.9"): false, netip.MustParseAddr("10.0.0.10"): true,
		netip.MustParseAddr("fd00::9"): false, netip.MustParseAddr("fd00::10"): true,
	}
	if !maps.Equal(waits, want) {
		t.Errorf("who waits: %v, want %v", waits, want)
	}
}
