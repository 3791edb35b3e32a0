// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
)

// asking is a request for addresses of the versions.
func asking(pod string, versions ...int) socket.Request {
	r := request("container-of-"+pod, pod)
	for _, v := range versions {
		r.Families = append(r.Families, socket.Family{Version: v})
	}
	return r
}

// dual makes the world one of both families.
func (w *testWorld) dual() {
	w.ipv6 = Source{Address: netip.MustParseAddr("fd00:192::100")}
	w.bootstrap.IPv6 = DefaultPool{CIDR: netip.MustParsePrefix("fd00:172::/64"), BlockSize: 122}
	w.kernel.change(func(k *fakeKernel) {
		link := k.host.Links["eth0"]
		link.IPv6 = true
		link.Addresses = append(slices.Clone(link.Addresses), netip.MustParsePrefix("fd00:192::100/64"))
		k.host.Links["eth0"] = link
	})
}

// attachWeb plays the whole ADD of pod web with addresses of the versions.
func (n *node) attachWeb(versions ...int) endpoint.Endpoint {
	n.w.t.Helper()
	ep, err := n.add(asking("web", versions...))
	if err == nil {
		err = n.ready(ep.ID)
	}
	if err != nil {
		n.w.t.Fatalf("attach web: %v", err)
	}
	return ep
}

// A pod of both families has both, keeps both when the journal is lost, and gives both back.
func TestPodsOfBothFamilies(t *testing.T) {
	for _, versions := range [][]int{{4}, {6}, {4, 6}} {
		t.Run(fmt.Sprint(versions), func(t *testing.T) {
			w := newWorld(t)
			w.dual()
			n := w.start()
			n.untilReady()
			ep := n.attachWeb(versions...)
			if len(ep.Addresses) != len(versions) {
				t.Fatalf("have %v", ep.Addresses)
			}
			for i, a := range ep.Addresses {
				if a.Is4() != (versions[i] == 4) || !w.hasRoute(fmt.Sprintf("%s dev %s", netip.PrefixFrom(a, a.BitLen()), ep.Interface)) {
					t.Errorf("address %s, routes:\n%s", a, w.routes.Dump())
				}
			}
			w.alias(ep)
			w.published(len(versions))
			w.mirrored(ep)
			w.until("each family's block has its route", func() bool { return strings.Count(w.routes.Dump(), " blackhole") == 2 })
			n.stop()
			w.writes()
			w.dir = t.TempDir()
			n = w.start()
			n.untilReady()
			if text := w.writes(); text != "" {
				t.Errorf("the kernel was as it should be, yet written:\n%s", text)
			}
			if again, err := n.ask(asking("web", versions...)); err != nil || !slices.Equal(again.Addresses, ep.Addresses) {
				t.Errorf("ADD again: %v, %v, want %v", again.Addresses, err, ep.Addresses)
			}
			w.published(len(versions))
			if err := n.detach(ep.ID); err != nil {
				t.Fatal(err)
			}
			w.published(0)
		})
	}
}

// What the kernel tells of a pod may be of one family only: the other's route or neighbour entry may be lost.
func TestEvidenceOfEitherFamily(t *testing.T) {
	const mac = "02:00:00:00:00:01"
	v4, v6 := netip.MustParseAddr("172.17.8.2"), netip.MustParseAddr("fd00::2")
	for _, tt := range []struct {
		name       string
		alias      string
		routes     []netip.Addr
		neighbours []netip.Addr
		want       string
		claims     string
	}{
		{"both", "172.17.8.2,fd00::2", []netip.Addr{v4, v6}, []netip.Addr{v4, v6}, "[172.17.8.2 fd00::2] routed true " + mac, "[172.17.8.2 fd00::2]"},
		{"IPv6 is left", "172.17.8.2,fd00::2", []netip.Addr{v6}, []netip.Addr{v6}, "[172.17.8.2 fd00::2] routed true " + mac, "[172.17.8.2 fd00::2]"},
		{"IPv4 is left", "172.17.8.2,fd00::2", []netip.Addr{v4}, []netip.Addr{v4}, "[172.17.8.2 fd00::2] routed true " + mac, "[172.17.8.2 fd00::2]"},
		{"IPv6 alone", "fd00::2", []netip.Addr{v6}, []netip.Addr{v6}, "[fd00::2] routed true " + mac, "[fd00::2]"},
		{"never ready", "fd00::2", nil, nil, "[fd00::2] routed false ", "[fd00::2]"},
		{"no alias", "", []netip.Addr{v6}, nil, "", "[fd00::2]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			link := dataplane.HostLink{Index: 7, Type: "veth"}
			if tt.alias != "" {
				link.Alias = "korat ns/web c1/eth0 " + tt.alias
			}
			host := dataplane.Host{Links: map[string]dataplane.HostLink{"cali1": link}}
			routes := map[dataplane.RouteKey]dataplane.Route{}
			for _, a := range tt.routes {
				routes[dataplane.RouteKey{Prefix: netip.PrefixFrom(a, a.BitLen())}] = dataplane.Route{NextHops: []dataplane.NextHop{{Device: "cali1"}}}
			}
			neighbours := map[dataplane.NeighbourKey]dataplane.Neighbour{}
			for _, a := range tt.neighbours {
				neighbours[dataplane.NeighbourKey{Device: "cali1", Address: a}] = dataplane.Neighbour{MAC: mac}
			}
			have := ""
			for _, f := range find(host, routes, neighbours) {
				have += fmt.Sprintf("%v routed %t %s", f.Addresses, f.routed, f.MAC)
			}
			if have != tt.want {
				t.Errorf("have %s, want %s", have, tt.want)
			}
			var claims []netip.Addr
			for a, c := range gather(host, routes) {
				if c.device == "cali1" && c.index == 7 {
					claims = append(claims, a)
				}
			}
			slices.SortFunc(claims, netip.Addr.Compare)
			if have := fmt.Sprint(claims); have != tt.claims {
				t.Errorf("claims: have %s, want %s", have, tt.claims)
			}
		})
	}
}

// A family that the node has no address of is refused by the field's name, and so is a change of families.
func TestFamiliesRefused(t *testing.T) {
	own := api.Addresses{IPv4: netip.MustParsePrefix("192.168.100.100/24")}
	six := api.Addresses{IPv6: netip.MustParsePrefix("fd00:192::1/64")}
	both := api.Addresses{IPv4: own.IPv4, IPv6: six.IPv6}
	for _, tt := range []struct {
		r    socket.Request
		own  api.Addresses
		want string
	}{
		{asking("web", 4), own, ""},
		{asking("web", 4, 6), both, ""},
		{asking("web", 6), six, ""},
		{asking("web", 4, 6), own, `ipam.assign_ipv6: the network configuration asks for an IPv6 address, but this node has none itself: start korat-node with --ip6, or set ipam.assign_ipv6 to "false"`},
		{asking("web", 4), six, `ipam.assign_ipv4: the network configuration asks for an IPv4 address, but this node has none itself: start korat-node with --ip, or set ipam.assign_ipv4 to "false"`},
	} {
		if have := text(servable(tt.r, tt.own)); have != tt.want {
			t.Errorf("%v on a node with %v: have %s, want %s", tt.r.Families, tt.own, have, tt.want)
		}
	}

	ep := endpoint.Endpoint{ID: asking("web").ID, Namespace: "ns", Pod: "web", Addresses: []netip.Addr{netip.MustParseAddr("172.17.8.2")}}
	for _, tt := range []struct {
		versions []int
		want     string
	}{
		{nil, ""},
		{[]int{4}, ""},
		{[]int{4, 6}, "attachment exists: container-of-web/eth0 has [172.17.8.2], but ipam.assign_ipv6 is now true: DEL it first"},
		{[]int{6}, "attachment exists: container-of-web/eth0 has [172.17.8.2], but ipam.assign_ipv4 is now false: DEL it first"},
	} {
		if have := text(sameRequest(ep, asking("web", tt.versions...))); have != tt.want {
			t.Errorf("ADD again for %v: have %s, want %s", tt.versions, have, tt.want)
		}
	}
	if _, err := wanted(ep, asking("web", 5)); !strings.Contains(text(err), "IPv5 is unknown") {
		t.Errorf("IPv5: %v", err)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A node that has IPv6 no more gives back the block that it had of it, claims no other, and reports
// nothing.
func TestNoBlocksOfAFamilyThatTheNodeLacks(t *testing.T) {
	w := newWorld(t)
	w.dual()
	blocks := func() string {
		var all []string
		for _, obj := range w.list(api.KindIPAMBlock) {
			all = append(all, obj.(*api.IPAMBlock).Spec.CIDR)
		}
		return strings.Join(all, " ")
	}
	n := w.start()
	w.until("blocks of both families", func() bool { return len(strings.Fields(blocks())) == 2 })
	n.stop()
	w.ipv6, w.bootstrap.IPv6 = Source{}, DefaultPool{}
	n = w.start()
	n.untilReady()
	w.until("the block of IPv6 to go back", func() bool { return !strings.Contains(blocks(), ":") && len(n.status().Problems) == 0 })
	n.attachWeb(4)
	if have := blocks(); strings.Contains(have, ":") || !strings.Contains(have, ".") {
		t.Errorf("blocks %s", have)
	}
}
