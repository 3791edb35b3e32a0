// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/dataplane"
	"korat/ipam/block"
)

func poolObject(name, cidr string, blockSize int) *api.IPPool {
	p := &api.IPPool{}
	p.Name, p.Spec.CIDR, p.Spec.BlockSize = name, cidr, blockSize
	api.Default(p)
	return p
}

// ownBlock gives node a a confirmed block.
func (w *testWorld) ownBlock(cidr string) {
	w.t.Helper()
	p := netip.MustParsePrefix(cidr)
	aff := &api.BlockAffinity{Spec: api.BlockAffinitySpec{State: api.AffinityConfirmed, Node: "a", CIDR: cidr}}
	aff.Name = api.AffinityName("a", p)
	b, err := block.New(p, "host:a")
	if err != nil {
		w.t.Fatal(err)
	}
	blk := &api.IPAMBlock{Spec: b.Spec()}
	blk.Name = api.BlockName(p)
	w.create(aff)
	w.create(blk)
}

func (n *node) untilNotReady(why string) {
	n.w.t.Helper()
	n.w.until("not ready: "+why, func() bool { return strings.Contains(strings.Join(n.report.notReady(), "\n"), why) })
}

func TestNoDefaultPoolInAHostsSubnet(t *testing.T) {
	w := newWorld(t)
	w.kernel.addLink("docker0", dataplane.HostLink{Index: 9, Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}})
	n := w.start()
	n.untilNotReady("default pool: 172.17.0.0/16 overlaps 172.17.0.0/16, the subnet of this host's docker0: " +
		"start with another --default-pool-cidr, or create an IPPool with a range that no host has")
	if pools, _, err := w.store.List(t.Context(), api.KindIPPool); err != nil || len(pools) > 0 {
		t.Errorf("pools %v, %v", pools, err)
	}
	w.create(poolObject("pods", "10.32.0.0/16", 24))
	n.untilReady()
	if ep := n.attach("web"); !netip.MustParsePrefix("10.32.0.0/16").Contains(ep.Addresses[0]) {
		t.Errorf("addresses %v", ep.Addresses)
	}
}

// A pool that covers the hosts' subnet, as Calico's own 192.168.0.0/16 often does, costs no host its
// network, be it in the datastore before the agent looks.
func TestAPoolOverTheHostsSubnet(t *testing.T) {
	w := newWorld(t)
	w.create(nodeObject("a", "192.168.100.100/24"))
	w.create(nodeObject("b", "192.168.101.1/24"))
	w.create(poolObject("calico", "192.168.0.0/16", 24))
	w.ownBlock("192.168.100.0/24")
	n := w.start()
	n.untilReady()
	for address, want := range map[string]string{
		"192.168.100.9":   "address 192.168.100.9: it is in 192.168.100.0/24, the subnet of this host's eth0",
		"192.168.100.100": "address 192.168.100.100: it is in 192.168.100.0/24, the subnet of this host's eth0",
		"192.168.101.9":   "address 192.168.101.9: it is in 192.168.101.0/24, the subnet of Node/b",
	} {
		r := request("c-"+address, "fixed")
		r.Addresses = []netip.Addr{netip.MustParseAddr(address)}
		_, err := n.add(r)
		if text := describeReply(err); !strings.Contains(text, fmt.Sprintf("code %d", socket.CodeNoAddress)) || !strings.Contains(text, want) {
			t.Errorf("%s: %s", address, text)
		}
	}
	ep := n.attach("web")
	for _, no := range []string{"192.168.100.0/24", "192.168.101.0/24"} {
		if netip.MustParsePrefix(no).Contains(ep.Addresses[0]) || w.hasRoute(no) {
			t.Errorf("pod %v; routes:\n%s", ep.Addresses, w.routes.Dump())
		}
		if plan, _ := w.speaker.wanted(); len(plan.Origins) != 1 {
			t.Errorf("origins %v: want the one block that is not the hosts'", plan.Origins)
		}
	}
	problems := strings.Join(n.status().Problems, "\n")
	for _, want := range []string{
		"IPPool/calico: spec.cidr 192.168.0.0/16 overlaps 192.168.100.0/24, the subnet of this host's eth0 (and 1 more)",
		"block 192.168.100.0/24 overlaps 192.168.100.0/24, a subnet that this node is connected to",
	} {
		if !strings.Contains(problems, want) {
			t.Errorf("want %q in\n%s", want, problems)
		}
	}
}

// The same of IPv6.
func TestAnIPv6PoolOverTheHostsSubnet(t *testing.T) {
	w := newWorld(t)
	w.dual()
	b := nodeObject("b", "192.168.100.101/24")
	b.Spec.BGP.IPv6Address = "fd00:193::1/64"
	w.create(b)
	a := nodeObject("a", "192.168.100.100/24")
	a.Spec.BGP.IPv6Address = "fd00:192::100/64"
	w.create(a)
	w.create(poolObject("wide", "fd00::/16", 122))
	w.ownBlock("fd00:192::/122")
	n := w.start()
	n.untilReady()
	for address, want := range map[string]string{
		"fd00:192::9": "address fd00:192::9: it is in fd00:192::/64, the subnet of this host's eth0",
		"fd00:193::9": "address fd00:193::9: it is in fd00:193::/64, the subnet of Node/b",
	} {
		r := asking("fixed-"+address[6:8], 6)
		r.Addresses = []netip.Addr{netip.MustParseAddr(address)}
		_, err := n.add(r)
		if text := describeReply(err); !strings.Contains(text, fmt.Sprintf("code %d", socket.CodeNoAddress)) || !strings.Contains(text, want) {
			t.Errorf("%s: %s", address, text)
		}
	}
	ep := n.attachWeb(6)
	for _, no := range []string{"fd00:192::/64", "fd00:193::/64"} {
		if netip.MustParsePrefix(no).Contains(ep.Addresses[0]) {
			t.Errorf("pod %v", ep.Addresses)
		}
	}
	const theirs = "fd00:192::/122"
	plan, _ := w.speaker.wanted()
	if _, told := plan.Origins[netip.MustParsePrefix(theirs)]; told || w.hasRoute(theirs) {
		t.Errorf("origins %v; routes:\n%s", plan.Origins, w.routes.Dump())
	}
	if problems := strings.Join(n.status().Problems, "\n"); !strings.Contains(problems, "IPPool/wide: spec.cidr fd00::/16 overlaps fd00:192::/64, the subnet of this host's eth0 (and 1 more)") {
		t.Errorf("problems:\n%s", problems)
	}
}

// A new node in the range of a pool would take it from the cluster: it stays out. One that is registered stays in.
func TestANodeInThePoolsRange(t *testing.T) {
	w := newWorld(t)
	w.create(poolObject("calico", "192.168.0.0/16", 24))
	n := w.start()
	n.untilNotReady("node address: the subnet of address 192.168.100.100/24 overlaps IPPool/calico (192.168.0.0/16): give this node another address with --ip")
	if nodes, _, err := w.store.List(t.Context(), api.KindNode); err != nil || len(nodes) > 0 {
		t.Errorf("nodes %v, %v", nodes, err)
	}
}

func TestObstacles(t *testing.T) {
	var nodes api.Table[*api.Node]
	for name, address := range map[string]string{"a": "10.0.0.1/24", "b": "10.0.0.2/24", "c": "10.0.1.1/32", "off": ""} {
		nodes = nodes.With(nodeObject(name, address))
	}
	more := nodeObject("d", "10.0.0.4/24")
	more.Spec.Addresses = []api.NodeAddress{{Address: "10.0.0.4"}, {Address: "192.0.2.1/24", Type: "CalicoNodeIP"}, {Address: "name"}}
	nodes = nodes.With(more)
	dual := nodeObject("e", "10.0.0.5/24")
	dual.Spec.BGP.IPv6Address = "fd00:192::5/64"
	dual.Spec.Addresses = []api.NodeAddress{{Address: "fd00:192::5"}, {Address: "2001:db8::5"}}
	nodes = nodes.With(dual)
	distant := nodeObject("f", "")
	distant.Spec.BGP.IPv6Address = "fd00:193::5/64"
	nodes = nodes.With(distant)
	host := dataplane.Host{Links: map[string]dataplane.HostLink{
		"eth0": {Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00:192::1/64")}},
		"lo":   {Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.9/32"), netip.MustParsePrefix("2001:db8::9/128")}},
	}}
	var lines []string
	for _, o := range obstacles(localRanges(host), nodes) {
		lines = append(lines, o.String())
	}
	const want = `10.0.0.0/24, the subnet of this host's eth0
192.0.2.9/32, an address of this host's lo
2001:db8::9/128, an address of this host's lo
fd00:192::/64, the subnet of this host's eth0
10.0.1.1/32, an address of Node/c
192.0.2.1/32, an address of Node/d
2001:db8::5/128, an address of Node/e
fd00:193::/64, the subnet of Node/f`
	if have := strings.Join(lines, "\n"); have != want {
		t.Errorf("have\n%s\nwant\n%s", have, want)
	}
}
