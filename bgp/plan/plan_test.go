// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/bgp"
	"korat/bgp/plan"
)

// world is what a test case adds to an otherwise empty datastore.
type world struct{ s api.Snapshot }

func (w *world) node(name, addr string, as api.ASNumber) *world {
	n := &api.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if addr != "" {
		n.Spec.BGP = &api.NodeBGPSpec{IPv4Address: addr}
		if as != 0 {
			n.Spec.BGP.ASNumber = &as
		}
	}
	w.s.Nodes = w.s.Nodes.With(n)
	return w
}

// node6 gives a node an IPv6 address, beside the IPv4 one that it may have.
func (w *world) node6(name, addr string) *world {
	n, ok := w.s.Nodes.Get(name)
	if !ok || n.Spec.BGP == nil {
		n = &api.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: api.NodeSpec{BGP: &api.NodeBGPSpec{}}}
	}
	n = n.DeepCopy()
	n.Spec.BGP.IPv6Address = addr
	w.s.Nodes = w.s.Nodes.With(n)
	return w
}

func (w *world) peer(name string, spec api.BGPPeerSpec) *world {
	w.s.BGPPeers = w.s.BGPPeers.With(&api.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec})
	return w
}

func (w *world) config(spec api.BGPConfigurationSpec) *world {
	w.s.BGPConfigurations = w.s.BGPConfigurations.With(&api.BGPConfiguration{ObjectMeta: metav1.ObjectMeta{Name: api.DefaultName}, Spec: spec})
	return w
}

func (w *world) pool(cidr string, hidden bool) *world {
	w.s.IPPools = w.s.IPPools.With(&api.IPPool{ObjectMeta: metav1.ObjectMeta{Name: cidr}, Spec: api.IPPoolSpec{CIDR: cidr, DisableBGPExport: hidden}})
	return w
}

func (w *world) block(cidr, claimant, state, owner string) *world {
	w.s.BlockAffinities = w.s.BlockAffinities.With(&api.BlockAffinity{
		ObjectMeta: metav1.ObjectMeta{Name: claimant + "-" + cidr},
		Spec:       api.BlockAffinitySpec{State: state, Node: claimant, CIDR: cidr},
	})
	if owner != "" {
		affinity := "host:" + owner
		name := api.BlockName(netip.MustParsePrefix(cidr))
		w.s.IPAMBlocks = w.s.IPAMBlocks.With(&api.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: api.IPAMBlockSpec{CIDR: cidr, Affinity: &affinity}})
	}
	return w
}

// pods puts an address of a block in use.
func (w *world) pods(cidr string) *world {
	name := api.BlockName(netip.MustParsePrefix(cidr))
	blk, _ := w.s.IPAMBlocks.Get(name)
	blk = blk.DeepCopy()
	blk.Spec.Allocations = []*int{nil, new(0)}
	w.s.IPAMBlocks = w.s.IPAMBlocks.With(blk)
	return w
}

func render(p bgp.Plan, problems []error) string {
	var b strings.Builder
	fmt.Fprintf(&b, "global as %d id %s port %d listen %v\n", p.Global.AS, p.Global.RouterID, p.Global.ListenPort, p.Global.ListenAddresses)
	for _, addr := range slices.SortedFunc(maps.Keys(p.Peers), netip.Addr.Compare) {
		q := p.Peers[addr]
		end := "connects"
		if q.Passive {
			end = "waits"
		}
		fmt.Fprintf(&b, "peer %s:%d as %d %s from %s hold %s/%s restart %s (%s %s)\n", q.Address, q.Port, q.AS, end,
			q.LocalAddress, q.HoldTime, q.Keepalive, q.RestartTime, q.Kind, q.Name)
	}
	for _, o := range slices.SortedFunc(maps.Keys(p.Origins), func(x, y netip.Prefix) int { return x.Addr().Compare(y.Addr()) }) {
		fmt.Fprintf(&b, "origin %s\n", o)
	}
	for _, err := range problems {
		fmt.Fprintf(&b, "problem %s\n", err)
	}
	return b.String()
}

func TestPlan(t *testing.T) {
	mesh := func() *world {
		return new(world).node("a", "10.0.0.9/24", 0).node("b", "10.0.0.10/24", 0).node("c", "10.0.0.11/24", 65001).node("off", "", 0)
	}
	dur := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	for _, tc := range []struct {
		name  string
		world *world
		held  map[netip.Addr]string
		want  string
	}{
		{name: "mesh: 10.0.0.9 is below 10.0.0.10 as a number, above it as text", world: mesh(), want: `
global as 64512 id 10.0.0.10 port 179 listen []
peer 10.0.0.9:179 as 64512 waits from 10.0.0.10 hold 1m30s/30s restart 2m0s (node-to-node mesh a)
peer 10.0.0.11:179 as 65001 connects from 10.0.0.10 hold 1m30s/30s restart 2m0s (node-to-node mesh c)
`},
		{name: "configuration", world: mesh().config(api.BGPConfigurationSpec{
			ASNumber: new(api.ASNumber(65000)), ListenPort: 1179,
			BindMode: "NodeIP", NodeMeshMaxRestartTime: dur(5 * time.Hour),
		}), want: `
global as 65000 id 10.0.0.10 port 1179 listen [10.0.0.10]
peer 10.0.0.9:1179 as 65000 waits from 10.0.0.10 hold 1m30s/30s restart 1h8m15s (node-to-node mesh a)
peer 10.0.0.11:1179 as 65001 connects from 10.0.0.10 hold 1m30s/30s restart 1h8m15s (node-to-node mesh c)
problem BGPConfiguration/default: spec.nodeMeshMaxRestartTime is 5h0m0s: BGP carries 1s to 1h8m15s; using 1h8m15s
`},
		{name: "no mesh, own AS", world: mesh().node("b", "10.0.0.10/24", 65002).config(api.BGPConfigurationSpec{NodeToNodeMeshEnabled: new(false)}), want: `
global as 65002 id 10.0.0.10 port 179 listen []
`},
		{name: "this node takes no part in the mesh", world: mesh().node("b", "", 0), want: `
global as 64512 id 10.0.0.10 port 179 listen []
`},
		{name: "bad and duplicate nodes", world: mesh().node("d", "10.0.0.9/24", 0).node("e", "10.0.0.10/16", 0).node("f", "10.0.0.300/24", 0).
			node("g", "fd00::1/64", 0).node("h", "0.0.0.0/0", 0), want: `
global as 64512 id 10.0.0.10 port 179 listen []
peer 10.0.0.9:179 as 64512 waits from 10.0.0.10 hold 1m30s/30s restart 2m0s (node-to-node mesh a)
peer 10.0.0.11:179 as 65001 connects from 10.0.0.10 hold 1m30s/30s restart 2m0s (node-to-node mesh c)
problem Node/d: spec.bgp.ipv4Address 10.0.0.9 is Node/a's too; only the latter gets a session: give one of them another address
problem Node/e: spec.bgp.ipv4Address 10.0.0.10 is Node/b's too; no session between them: give one of them another address
problem Node/f: spec.bgp.ipv4Address: "10.0.0.300/24" is not an address with its subnet's length, as in 192.0.2.1/24; no session to it
problem Node/g: spec.bgp.ipv4Address: fd00::1 is IPv6: set it as spec.bgp.ipv6Address; no session to it
problem Node/h: spec.bgp.ipv4Address: 0.0.0.0 is no host's address; no session to it
`},
		{name: "BGPPeers", world: mesh().config(api.BGPConfigurationSpec{ListenPort: 1179}).
			peer("g1", api.BGPPeerSpec{PeerIP: "10.0.0.1", ASNumber: 65100, KeepaliveTime: dur(3 * time.Second), MaxRestartTime: dur(time.Minute)}).
			peer("g2", api.BGPPeerSpec{PeerIP: "10.0.0.1:1790", ASNumber: 65101}).
			peer("mine", api.BGPPeerSpec{Node: "b", PeerIP: "10.0.0.2:1790", ASNumber: 65102}).
			peer("mine-g", api.BGPPeerSpec{PeerIP: "10.0.0.2", ASNumber: 65103}).
			peer("other", api.BGPPeerSpec{Node: "a", PeerIP: "10.0.0.3", ASNumber: 65104}).
			peer("over-mesh", api.BGPPeerSpec{PeerIP: "10.0.0.9", ASNumber: 64512, KeepaliveTime: dur(time.Second)}).
			peer("slow", api.BGPPeerSpec{PeerIP: "10.0.0.4", ASNumber: 65105, KeepaliveTime: dur(10 * time.Hour)}).
			peer("self", api.BGPPeerSpec{PeerIP: "10.0.0.10", ASNumber: 64512}), want: `
global as 64512 id 10.0.0.10 port 1179 listen []
peer 10.0.0.1:179 as 65100 connects from 10.0.0.10 hold 9s/3s restart 1m0s (global g1)
peer 10.0.0.2:1790 as 65102 connects from 10.0.0.10 hold 1m30s/30s restart 2m0s (node specific mine)
peer 10.0.0.4:179 as 65105 connects from 10.0.0.10 hold 18h12m15s/6h4m5s restart 2m0s (global slow)
peer 10.0.0.9:1179 as 64512 waits from 10.0.0.10 hold 3s/1s restart 2m0s (global over-mesh)
peer 10.0.0.11:1179 as 65001 connects from 10.0.0.10 hold 1m30s/30s restart 2m0s (node-to-node mesh c)
problem BGPPeer/g2: spec.peerIP 10.0.0.1 is BGPPeer/g1's too, whose settings are used: delete one of them
problem BGPPeer/slow: spec.keepaliveTime is 10h0m0s: BGP carries 1s to 6h4m5s; using 6h4m5s
`},
		{name: "bad BGPPeers", world: new(world).
			peer("p1", api.BGPPeerSpec{PeerIP: "router", ASNumber: 1}).
			peer("p2", api.BGPPeerSpec{PeerIP: "10.0.0.1"}).
			peer("p3", api.BGPPeerSpec{PeerIP: "[fe80::1]:179", ASNumber: 1}).
			peer("p4", api.BGPPeerSpec{PeerIP: "10.0.0.1:0", ASNumber: 1}).
			peer("p5", api.BGPPeerSpec{PeerIP: "10.0.0.10", ASNumber: 1, Node: "b"}).
			peer("p6", api.BGPPeerSpec{PeerIP: "224.0.0.5", ASNumber: 1}), want: `
global as 64512 id 10.0.0.10 port 179 listen []
problem BGPPeer/p5: spec.peerIP 10.0.0.10 is this node's own address; no session to it
problem BGPPeer/p1: spec.peerIP: "router" is neither an address (192.0.2.1, 2001:db8::1) nor one with a port (192.0.2.1:179, [2001:db8::1]:179); no session to it
problem BGPPeer/p2: spec.asNumber is 0: set the neighbour's AS number; no session to it
problem BGPPeer/p3: spec.peerIP: fe80::1 is link-local, which is not supported: use an address of a wider scope; no session to it
problem BGPPeer/p4: spec.peerIP: "10.0.0.1:0" has port 0: leave the port out for 179; no session to it
problem BGPPeer/p6: spec.peerIP: 224.0.0.5 is no host's address; no session to it
`},
		{name: "held peers", world: mesh(), held: map[netip.Addr]string{netip.MustParseAddr("10.0.0.9"): "its session crashed the speaker twice"}, want: `
global as 64512 id 10.0.0.10 port 179 listen []
peer 10.0.0.11:179 as 65001 connects from 10.0.0.10 hold 1m30s/30s restart 2m0s (node-to-node mesh c)
problem node-to-node mesh peer a (10.0.0.9) is held down: its session crashed the speaker twice
`},
		{name: "origins", world: new(world).pool("172.17.0.0/16", false).pool("172.18.0.0/16", true).
			block("172.17.1.0/24", "b", "confirmed", "b").
			block("172.17.2.0/24", "b", "pending", "b").
			block("172.17.3.0/24", "b", "pendingDeletion", "b").
			block("172.17.4.0/24", "b", "confirmed", "").
			block("172.17.5.0/24", "b", "confirmed", "a").
			block("172.17.6.0/24", "a", "confirmed", "a").
			block("172.18.1.0/24", "b", "confirmed", "b").
			block("172.17.9.1/32", "b", "confirmed", "b").
			block("172.17.7.1/24", "b", "confirmed", ""), want: `
global as 64512 id 10.0.0.10 port 179 listen []
origin 172.17.1.0/24
origin 172.17.9.1/32
problem BlockAffinity/b-172.17.7.1/24: spec.cidr "172.17.7.1/24" is not a prefix without host bits; not advertised
`},
		{name: "a block whose pool is gone is not advertised: the pool may have been a hidden one", world: new(world).
			pool("172.17.0.0/16", false).
			block("172.19.1.0/24", "b", "confirmed", "b").pods("172.19.1.0/24").
			block("172.19.2.0/24", "b", "confirmed", "b"), want: `
global as 64512 id 10.0.0.10 port 179 listen []
problem block 172.19.1.0/24 is in no IPPool; not advertised, so other nodes can't reach its pods: create the IPPool again, or remove them
`},
		{name: "nor is one that overlaps a connected subnet", world: new(world).pool("10.0.0.0/16", false).
			block("10.0.0.0/23", "b", "confirmed", "b").
			block("10.0.0.16/28", "b", "confirmed", "b").
			block("10.0.1.0/28", "b", "confirmed", "b"), want: `
global as 64512 id 10.0.0.10 port 179 listen []
origin 10.0.1.0/28
problem block 10.0.0.0/23 overlaps 10.0.0.0/24, a subnet that this node is connected to; neither advertised nor routed: move its pods to an IPPool with another range
problem block 10.0.0.16/28 overlaps 10.0.0.0/24, a subnet that this node is connected to; neither advertised nor routed: move its pods to an IPPool with another range
`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := plan.Input{
				Snapshot: tc.world.s, Node: "b", Addresses: api.Addresses{IPv4: netip.MustParsePrefix("10.0.0.10/24")}, Held: tc.held,
				Connected: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
			}
			got := "\n" + render(plan.Plan(in))
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("plan differs (-want +got):\n%s", d)
			}
		})
	}
}

// Both ends must agree on who connects, whatever the addresses look like as text.
func TestOneEndConnects(t *testing.T) {
	s := new(world).node("a", "10.0.0.9/24", 0).node("b", "10.0.0.10/24", 0).s
	ends := map[bool]int{}
	for node, addr := range map[string]string{"a": "10.0.0.9/24", "b": "10.0.0.10/24"} {
		p, _ := plan.Plan(plan.Input{Snapshot: s, Node: node, Addresses: api.Addresses{IPv4: netip.MustParsePrefix(addr)}})
		for _, peer := range p.Peers {
			ends[peer.Passive]++
		}
	}
	if ends[true] != 1 || ends[false] != 1 {
		t.Errorf("passive ends %d, active ends %d; want one of each", ends[true], ends[false])
	}
}

func TestNoAddress(t *testing.T) {
	p, problems := plan.Plan(plan.Input{Node: "b"})
	if p.Global.AS != 0 || len(problems) != 1 {
		t.Errorf("got %+v with %v; want an empty plan with one problem", p, problems)
	}
}
