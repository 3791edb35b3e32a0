// SPDX-License-Identifier: Apache-2.0

package fib_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/bgp"
	"korat/bgp/fib"
	"korat/felix/dataplane"
)

// paths parses lines of "prefix next-hop next-hop ...".
func paths(text string) map[netip.Prefix][]bgp.Path {
	rib := map[netip.Prefix][]bgp.Path{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		p := netip.MustParsePrefix(f[0])
		rib[p] = nil
		for _, hop := range f[1:] {
			a := netip.MustParseAddr(hop)
			rib[p] = append(rib[p], bgp.Path{NextHop: a, Peer: a})
		}
	}
	return rib
}

func render(routes map[dataplane.RouteKey]dataplane.Route, left []fib.Unresolved) string {
	var b strings.Builder
	keys := slices.SortedFunc(maps.Keys(routes), func(x, y dataplane.RouteKey) int { return x.Prefix.Addr().Compare(y.Prefix.Addr()) })
	for _, k := range keys {
		b.WriteString(k.Prefix.String())
		for _, h := range routes[k].NextHops {
			fmt.Fprintf(&b, " via %s dev %s", h.Gateway, h.Device)
		}
		b.WriteByte('\n')
	}
	for _, u := range left {
		fmt.Fprintf(&b, "%s\n", u)
	}
	return b.String()
}

func TestRoutes(t *testing.T) {
	link := func(running bool, addrs ...string) dataplane.HostLink {
		l := dataplane.HostLink{Up: true, Running: running}
		for _, a := range addrs {
			l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
		}
		return l
	}
	host := dataplane.Host{Links: map[string]dataplane.HostLink{
		"lo":    link(true, "127.0.0.1/8", "198.51.100.7/32", "::1/128", "2001:db8::7/128"),
		"eth0":  link(true, "10.0.0.1/24", "fd00::1/64", "fe80::1/64"),
		"eth1":  link(true, "10.1.0.1/24", "fd00:1::1/64", "fe80::2/64"),
		"eth2":  link(false, "10.2.0.1/24", "fd00:2::1/64"),
		"eth3":  {Addresses: []netip.Prefix{netip.MustParsePrefix("10.3.0.1/24")}},
		"calia": link(true),
	}}
	own := fib.Own{
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")},
		Blocks:    []netip.Prefix{netip.MustParsePrefix("172.17.8.0/24"), netip.MustParsePrefix("fd01::80/122")},
		Lent:      []netip.Addr{netip.MustParseAddr("172.17.8.9"), netip.MustParseAddr("fd01::89")},
	}
	for _, tc := range []struct{ name, rib, want string }{
		{"one next hop", "172.17.9.0/24 10.0.0.2", `
172.17.9.0/24 via 10.0.0.2 dev eth0
`},
		{"ECMP is sorted, the same next hop counts once", "172.17.9.0/24 10.1.0.3 10.0.0.2 10.1.0.3", `
172.17.9.0/24 via 10.0.0.2 dev eth0 via 10.1.0.3 dev eth1
`},
		{"a link without carrier is used, but not beside one that has it", "172.17.9.0/24 10.2.0.2\n172.17.10.0/24 10.2.0.2 10.0.0.2", `
172.17.9.0/24 via 10.2.0.2 dev eth2
172.17.10.0/24 via 10.0.0.2 dev eth0
`},
		{"next hops that can't be used", "172.17.9.0/24 10.3.0.2 10.0.0.2 192.0.2.1\n172.17.10.0/24 10.0.0.1\n172.17.11.0/24 127.0.0.5\n172.17.12.0/24 0.0.0.0", `
172.17.9.0/24 via 10.0.0.2 dev eth0
path to 172.17.9.0/24 via 10.3.0.2 not used: next hop is on no connected subnet of an interface that is up
path to 172.17.9.0/24 via 192.0.2.1 not used: next hop is on no connected subnet of an interface that is up
path to 172.17.10.0/24 via 10.0.0.1 not used: next hop is no neighbour's address
path to 172.17.11.0/24 via 127.0.0.5 not used: next hop is no neighbour's address
path to 172.17.12.0/24 via 0.0.0.0 not used: next hop is no neighbour's address
`},
		{"prefixes that are refused", `
			0.0.0.0/0 10.0.0.2
			10.0.0.0/24 10.0.0.2
			10.0.0.1/32 10.0.0.2
			10.0.0.128/25 10.0.0.2
			10.1.0.9/32 10.0.0.2
			10.2.0.0/25 10.0.0.2
			127.1.0.0/16 10.0.0.2
			169.254.1.1/32 10.0.0.2
			172.17.8.0/24 10.0.0.2
			172.17.8.128/25 10.0.0.2
			198.51.100.7/32 10.0.0.2
			224.0.0.0/4 10.0.0.2`, `
prefix 0.0.0.0/0 refused: default route: not accepted from peers
prefix 10.0.0.0/24 refused: in a subnet that this node is connected to
prefix 10.0.0.1/32 refused: this node's own address
prefix 10.0.0.128/25 refused: in a subnet that this node is connected to
prefix 10.1.0.9/32 refused: in a subnet that this node is connected to
prefix 10.2.0.0/25 refused: in a subnet that this node is connected to
prefix 127.1.0.0/16 refused: loopback, link-local or multicast range
prefix 169.254.1.1/32 refused: loopback, link-local or multicast range
prefix 172.17.8.0/24 refused: inside a block of this node
prefix 172.17.8.128/25 refused: inside a block of this node
prefix 198.51.100.7/32 refused: this node's own address
prefix 224.0.0.0/4 refused: loopback, link-local or multicast range
`},
		{"what we have lent is accepted, by itself", `
			172.17.8.9/32 10.0.0.2
			172.17.8.10/32 10.0.0.2
			172.17.8.8/31 10.0.0.2
			fd01::89/128 fd00::2
			fd01::8a/128 fd00::2`, `
172.17.8.9/32 via 10.0.0.2 dev eth0
fd01::89/128 via fd00::2 dev eth0
prefix 172.17.8.8/31 refused: inside a block of this node
prefix 172.17.8.10/32 refused: inside a block of this node
prefix fd01::8a/128 refused: inside a block of this node
`},
		{"what only covers our own is accepted", "172.17.0.0/16 10.0.0.2\n10.0.0.0/8 10.0.0.2", `
10.0.0.0/8 via 10.0.0.2 dev eth0
172.17.0.0/16 via 10.0.0.2 dev eth0
`},
		{"IPv6, ECMP and a link without carrier", "fd01::40/122 fd00:1::3 fd00::2 fd00:1::3\nfd01::c0/122 fd00:2::2\nfd02::/48 fd00:2::2 fd00::2", `
fd01::40/122 via fd00::2 dev eth0 via fd00:1::3 dev eth1
fd01::c0/122 via fd00:2::2 dev eth2
fd02::/48 via fd00::2 dev eth0
`},
		{"IPv6 next hops that can't be used", `
			fd01::/122 2001:db8::1 fd00::2
			fd01::40/122 fe80::9
			fd01::c0/122 fd00::1
			fd02::/122 ::1
			fd03::/122 ::
			fd04::/122 ff02::1
			fd05::/122 10.0.0.2
			172.17.9.0/24 fd00::2`, `
fd01::/122 via fd00::2 dev eth0
path to 172.17.9.0/24 via fd00::2 not used: next hop is not of the prefix's family
path to fd01::/122 via 2001:db8::1 not used: next hop is on no connected subnet of an interface that is up
path to fd01::40/122 via fe80::9 not used: next hop is link-local: which interface it is behind is not known
path to fd01::c0/122 via fd00::1 not used: next hop is no neighbour's address
path to fd02::/122 via ::1 not used: next hop is no neighbour's address
path to fd03::/122 via :: not used: next hop is no neighbour's address
path to fd04::/122 via ff02::1 not used: next hop is no neighbour's address
path to fd05::/122 via 10.0.0.2 not used: next hop is not of the prefix's family
`},
		{"IPv6 prefixes that are refused", `
			::/0 fd00::2
			::/96 fd00::2
			::1/128 fd00::2
			::ffff:10.0.0.0/120 fd00::2
			2001:db8::7/128 fd00::2
			fd00::/64 fd00::2
			fd00::1/128 fd00::2
			fd00::8000/113 fd00::2
			fd00:1::9/128 fd00::2
			fd01::80/122 fd00::2
			fd01::81/128 fd00::2
			fe80::/64 fd00::2
			fe80::/10 fd00::2
			ff00::/8 fd00::2`, `
prefix ::/0 refused: default route: not accepted from peers
prefix ::/96 refused: loopback, link-local or multicast range
prefix ::1/128 refused: loopback, link-local or multicast range
prefix ::ffff:10.0.0.0/120 refused: loopback, link-local or multicast range
prefix 2001:db8::7/128 refused: this node's own address
prefix fd00::/64 refused: in a subnet that this node is connected to
prefix fd00::1/128 refused: this node's own address
prefix fd00::8000/113 refused: in a subnet that this node is connected to
prefix fd00:1::9/128 refused: in a subnet that this node is connected to
prefix fd01::80/122 refused: inside a block of this node
prefix fd01::81/128 refused: inside a block of this node
prefix fe80::/10 refused: loopback, link-local or multicast range
prefix fe80::/64 refused: loopback, link-local or multicast range
prefix ff00::/8 refused: loopback, link-local or multicast range
`},
		{"what only covers our own, link-local subnets too, is accepted", "fd00::/16 fd00::2\nfd01::/64 fd00::2\nfc00::/6 fd00::2", `
fc00::/6 via fd00::2 dev eth0
fd00::/16 via fd00::2 dev eth0
fd01::/64 via fd00::2 dev eth0
`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := "\n" + render(fib.Routes(bgp.RIB{Paths: paths(tc.rib)}, host, own))
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("routes differ (-want +got):\n%s", d)
			}
		})
	}
}
