// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/bgp"
	"korat/felix/autodetect"
	"korat/felix/dataplane"
)

const (
	four = "192.168.100.100/24"
	six  = "fd00:192::100/64"
)

// carry gives eth0 these addresses.
func (w *testWorld) carry(addresses ...string) {
	link := dataplane.HostLink{Index: 2, MTU: 1400, Up: true, Running: true, IPv6: true}
	for _, a := range addresses {
		link.Addresses = append(link.Addresses, netip.MustParsePrefix(a))
	}
	w.kernel.addLink("eth0", link)
}

// detect sets the families that the agent is to find addresses of.
func (w *testWorld) detect(families ...api.Family) {
	w.ipv4, w.ipv6 = Source{}, Source{}
	for _, f := range families {
		s := Source{Method: autodetect.FirstFound(f)}
		if f == api.IPv4 {
			w.ipv4 = s
		} else {
			w.ipv6 = s
		}
	}
}

// registration gives the Node's addresses: those that its peers see, and its list.
func (w *testWorld) registration() string {
	obj, err := w.store.Get(w.t.Context(), api.Key{Kind: api.KindNode, Name: "a"})
	if err != nil {
		return err.Error()
	}
	node := obj.(*api.Node)
	words := []string{node.Spec.BGPAddresses().String() + ":"}
	for _, a := range node.Spec.Addresses {
		words = append(words, a.Address)
	}
	return strings.Join(words, " ")
}

func (n *node) reasons() string { return strings.Join(n.report.notReady(), "; ") }

// A node has the addresses of the families that its agent is started with, from one start to the next.
func TestFamiliesOfANode(t *testing.T) {
	w := newWorld(t)
	w.carry(four, six)
	for _, tt := range []struct {
		families []api.Family
		want     string
		routerID string
	}{
		{[]api.Family{api.IPv4, api.IPv6}, four + ", " + six + ": 192.168.100.100 fd00:192::100", "192.168.100.100"},
		{[]api.Family{api.IPv4}, four + ": 192.168.100.100", "192.168.100.100"},
		{[]api.Family{api.IPv6}, six + ": fd00:192::100", ""},
		{[]api.Family{api.IPv4, api.IPv6}, four + ", " + six + ": 192.168.100.100 fd00:192::100", "192.168.100.100"},
	} {
		w.detect(tt.families...)
		n := w.start()
		w.until(tt.want, func() bool { return w.registration() == tt.want })
		n.untilReady()
		s := n.status()
		if have := strings.Trim(s.Address+", "+s.AddressIPv6, ", "); !strings.HasPrefix(tt.want, have+":") {
			t.Errorf("status has %s, want %s", have, tt.want)
		}
		p, _ := w.speaker.wanted()
		if have := p.Global.RouterID; !have.Is4() || tt.routerID != "" && have.String() != tt.routerID {
			t.Errorf("%s: router ID %s", tt.want, have)
		}
		n.stop()
	}
}

// Trouble with the address of one family is told, and keeps pods away, but costs the other family no session.
func TestAnAddressOfOneFamilyIsMissing(t *testing.T) {
	w := newWorld(t)
	w.carry(four, six)
	w.detect(api.IPv4, api.IPv6)
	n := w.start()
	n.untilReady()
	w.until("both are registered", func() bool { return strings.HasPrefix(w.registration(), four+", "+six) })
	peers := func() string {
		p, _ := w.speaker.wanted()
		var all []string
		for _, addr := range sortedPeers(p) {
			all = append(all, addr.String())
		}
		return strings.Join(all, " ")
	}
	for _, tt := range []struct{ left, gone, peer string }{
		{four, "fd00:192::100", "192.168.100.101"},
		{six, "192.168.100.100", "192.168.100.102"},
	} {
		w.carry(tt.left)
		w.until("that is told", func() bool {
			return strings.Contains(n.reasons(), "node address: address "+tt.gone+", with which this node is registered, is on no interface")
		})
		if _, err := n.ask(request("c2", "other")); !strings.Contains(describeReply(err), "code 11") {
			t.Errorf("ADD: %s", describeReply(err))
		}
		w.create(nodeObject("peer-"+tt.peer, tt.peer+"/24"))
		w.until("the new node is a peer", func() bool { return strings.Contains(peers(), tt.peer) })
		w.carry(four, six)
		n.untilReady()
	}
	if have := w.registration(); !strings.HasPrefix(have, four+", "+six+":") {
		t.Errorf("registered %s", have)
	}

	// Both are missed for a minute each, and then there are others.
	w.carry(four, "fd00:193::1/64")
	w.until("that is told", func() bool { return strings.Contains(n.reasons(), "fd00:192::100") })
	w.later(addressPatience)
	w.until("there is another", func() bool { return w.registration() == four+", fd00:193::1/64: 192.168.100.100 fd00:193::1" })
	n.untilReady()
}

// An address that is not there yet, as where a router has still to advertise the prefix, is waited for.
func TestAnAddressThatComesLater(t *testing.T) {
	w := newWorld(t)
	w.detect(api.IPv4, api.IPv6)
	w.carry(four)
	n := w.start()
	n.untilNotReady("node address: no address found by method first-found: no IPv6 address on any running interface")
	tentative := w.kernel.host.Links["eth0"]
	tentative.Addresses = append(slices.Clone(tentative.Addresses), netip.MustParsePrefix(six))
	tentative.Unsettled = []netip.Addr{netip.MustParsePrefix(six).Addr()}
	w.kernel.addLink("eth0", tentative)
	n.untilNotReady("tentative")
	w.carry(four, six)
	n.untilReady()
	w.until("both are registered", func() bool { return strings.HasPrefix(w.registration(), four+", "+six+":") })
}

func TestConflictsOfEitherFamily(t *testing.T) {
	w := newWorld(t)
	other := nodeObject("b", "192.168.100.101/24")
	other.Spec.BGP.IPv6Address = six
	w.create(other)
	w.create(poolObject("pods", "fd00:193::/32", 122))
	w.carry(four, six)
	w.detect(api.IPv4, api.IPv6)
	n := w.start()
	n.untilNotReady(`node address: address fd00:192::100 is held by node "b" in the datastore: delete that Node if it is gone, or give this node another address with --ip6`)
	w.carry(four, "fd00:193::1/64")
	n.untilNotReady("node address: the subnet of address fd00:193::1/64 overlaps IPPool/pods (fd00:193::/32): give this node another address with --ip6")
	if have := w.registration(); !strings.Contains(have, "not found") {
		t.Errorf("registered %s", have)
	}
	w.carry(four, "fd00:194::1/64")
	n.untilReady()
}

// An agent that restarts while the address of one family is in question goes on with it, as it would have without the
// restart: its sessions and routes of that family stay.
func TestRestartWithAnAddressInQuestion(t *testing.T) {
	for name, c := range map[string]struct {
		trouble func(*testWorld)
		reason  string
	}{
		"claimed by another node": {func(w *testWorld) {
			ghost := nodeObject("ghost", "192.168.100.109/24")
			ghost.Spec.BGP.IPv6Address = six
			w.create(ghost)
		}, `address fd00:192::100 is held by node "ghost"`},
		"no carrier": {func(w *testWorld) {
			w.kernel.addLink("eth1", dataplane.HostLink{Index: 3, Up: true, IPv6: true, Addresses: []netip.Prefix{netip.MustParsePrefix(six)}})
		}, "address fd00:192::100 given by --ip6 is on no running interface"},
	} {
		w := newWorld(t)
		w.carry(four, six)
		w.detect(api.IPv4)
		w.ipv6 = Source{Address: netip.MustParseAddr("fd00:192::100")}
		peer := nodeObject("peer", "192.168.100.101/24")
		peer.Spec.BGP.IPv6Address = "fd00:192::101/64"
		w.create(peer)
		n := w.start()
		n.untilReady()
		w.until("the node is registered", func() bool { return strings.HasPrefix(w.registration(), four+", "+six+":") })
		n.stop()
		if name == "no carrier" {
			w.carry(four)
		}
		c.trouble(w)
		w.speaker.Want(bgp.Plan{}, false)
		n = w.start()
		n.untilNotReady("node address: " + c.reason)
		planned := func(addr string) bool {
			p, _ := w.speaker.wanted()
			_, is := p.Peers[netip.MustParseAddr(addr)]
			return is
		}
		w.until(name+": a plan", func() bool { return planned("192.168.100.101") })
		if !planned("fd00:192::101") {
			t.Errorf("%s: the session of IPv6 is given up", name)
		}
		n.stop()
	}
}

// Two hosts with one name, of which each has a family that the other has not, would take it from the Node for ever.
func TestTwoHostsWithOneNameAndAFamilyEach(t *testing.T) {
	first := newWorld(t)
	first.detect(api.IPv6)
	first.carry(six)
	n1 := first.start()
	first.until("the first has registered", func() bool { return first.registration() == six+": fd00:192::100" })
	second := newWorld(t)
	second.store = first.store
	n2 := second.start()
	n2.untilReady()
	n1.untilNotReady(`node address: another host (address 192.168.100.100) runs as node "a": give one of the two another --node-name`)
	node, _ := first.store.Get(t.Context(), api.Key{Kind: api.KindNode, Name: "a"})
	if have := first.registration(); have != four+": 192.168.100.100" {
		t.Errorf("registered %s", have)
	}
	n2.attach("web")
	if again, _ := first.store.Get(t.Context(), node.Key()); again.GetResourceVersion() != node.GetResourceVersion() {
		t.Error("the Node has been written again")
	}
}
