// SPDX-License-Identifier: Apache-2.0

// Package fib turns what the speaker learned into routes. It is pure. The speaker does no next hop
// resolution of its own, so it happens here: a next hop must be on a connected subnet. That leaves IPv6's
// link-local next hops out: their subnet is on every interface.
package fib

import (
	"fmt"
	"net/netip"
	"slices"

	"korat/bgp"
	"korat/felix/dataplane"
)

// Own is what belongs to this node and what no neighbour may therefore divert.
type Own struct {
	// Addresses are the node's own.
	Addresses []netip.Prefix
	// Blocks are the node's own confirmed blocks.
	Blocks []netip.Prefix
	// Lent are addresses of those blocks that pods of other nodes have.
	Lent []netip.Addr
}

// Unresolved is a learned path that became no route, or no member of one.
type Unresolved struct {
	Prefix netip.Prefix
	// NextHop is invalid when the prefix is refused whatever its next hop.
	NextHop netip.Addr
	Reason  string
}

// String says what was left out and why.
func (u Unresolved) String() string {
	if !u.NextHop.IsValid() {
		return fmt.Sprintf("prefix %s refused: %s", u.Prefix, u.Reason)
	}
	return fmt.Sprintf("path to %s via %s not used: %s", u.Prefix, u.NextHop, u.Reason)
}

// The reasons why a path is left out.
const (
	ReasonDefault   = "default route: not accepted from peers"
	ReasonSpecial   = "loopback, link-local or multicast range"
	ReasonOwnBlock  = "inside a block of this node"
	ReasonOwnAddr   = "this node's own address"
	ReasonConnected = "in a subnet that this node is connected to"
	ReasonNoSubnet  = "next hop is on no connected subnet of an interface that is up"
	ReasonBadHop    = "next hop is no neighbour's address"
	ReasonLinkLocal = "next hop is link-local: which interface it is behind is not known"
	ReasonFamily    = "next hop is not of the prefix's family"
)

// Routes gives one route for each accepted prefix, with a next hop for each usable path, and what
// was left out, in order of prefix and next hop.
func Routes(rib bgp.RIB, host dataplane.Host, own Own) (map[dataplane.RouteKey]dataplane.Route, []Unresolved) {
	f := newFilter(host, own)
	routes := make(map[dataplane.RouteKey]dataplane.Route, len(rib.Paths))
	var left []Unresolved
	for prefix, paths := range rib.Paths {
		if reason := f.refusePrefix(prefix); reason != "" {
			left = append(left, Unresolved{Prefix: prefix, Reason: reason})
			continue
		}
		hops, unusable := f.nextHops(prefix, paths)
		left = append(left, unusable...)
		if len(hops) > 0 {
			routes[dataplane.RouteKey{Prefix: prefix}] = dataplane.Route{NextHops: hops}
		}
	}
	slices.SortFunc(left, compareUnresolved)
	return routes, slices.Compact(left)
}

func compareUnresolved(a, b Unresolved) int {
	if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
		return c
	}
	if c := a.Prefix.Bits() - b.Prefix.Bits(); c != 0 {
		return c
	}
	return a.NextHop.Compare(b.NextHop)
}

type filter struct {
	host      dataplane.Host
	own       Own
	connected map[netip.Prefix]string
	addresses map[netip.Addr]bool
	// devices remembers resolved next hops: many prefixes share few of them.
	devices map[netip.Addr]string
}

func newFilter(host dataplane.Host, own Own) *filter {
	f := &filter{
		host: host, own: own,
		connected: host.Subnets(), addresses: map[netip.Addr]bool{}, devices: map[netip.Addr]string{},
	}
	for _, p := range own.Addresses {
		f.addresses[p.Addr()] = true
	}
	for _, link := range host.Links {
		for _, p := range link.Addresses {
			f.addresses[p.Addr()] = true
		}
	}
	return f
}

// nextHops gives the ways to a prefix in their order, and the paths that are none.
func (f *filter) nextHops(prefix netip.Prefix, paths []bgp.Path) (hops []dataplane.NextHop, left []Unresolved) {
	for _, p := range paths {
		device, reason := f.resolve(p.NextHop)
		if p.NextHop.IsValid() && p.NextHop.Is4() != prefix.Addr().Is4() {
			reason = ReasonFamily
		}
		if reason != "" {
			left = append(left, Unresolved{prefix, p.NextHop, reason})
			continue
		}
		hops = append(hops, dataplane.NextHop{Device: device, Gateway: p.NextHop})
	}
	hops = f.running(hops)
	dataplane.SortNextHops(hops)
	// Two peers (route reflectors) may give the same next hop: it is one way, not two.
	return slices.Compact(hops), left
}

// running leaves out the ways over links without carrier, unless there are no others. The kernel keeps
// a route whose link has lost its carrier: if that comes back, nothing has to be written. But it goes on
// to use such a way beside others.
func (f *filter) running(hops []dataplane.NextHop) []dataplane.NextHop {
	dead := func(h dataplane.NextHop) bool { return !f.host.Links[h.Device].Running }
	live := slices.DeleteFunc(slices.Clone(hops), dead)
	if len(live) == 0 {
		return hops
	}
	return live
}

// refusePrefix gives the reason why a prefix is not accepted at all, or "". A route for a connected
// subnet would replace the kernel's own, one for a part of it would divert that part's hosts, and one
// for the node's address the node.
func (f *filter) refusePrefix(p netip.Prefix) string {
	addr := p.Addr()
	switch {
	case p.Bits() == 0:
		return ReasonDefault
	case addr.IsLoopback(), addr.IsLinkLocalUnicast(), addr.IsMulticast(), addr.IsUnspecified(), addr.Is4In6():
		return ReasonSpecial
	case p.IsSingleIP() && f.addresses[addr]:
		return ReasonOwnAddr
	}
	for subnet := range f.connected {
		if subnet.Bits() <= p.Bits() && subnet.Contains(addr) {
			return ReasonConnected
		}
	}
	if p.IsSingleIP() && slices.Contains(f.own.Lent, addr) {
		return "" // whoever has borrowed it says so
	}
	for _, block := range f.own.Blocks {
		if block.Bits() <= p.Bits() && block.Contains(addr) {
			return ReasonOwnBlock
		}
	}
	return ""
}

func (f *filter) resolve(hop netip.Addr) (device, reason string) {
	if !hop.IsValid() || hop.IsUnspecified() || hop.IsLoopback() || hop.IsMulticast() || f.addresses[hop] {
		return "", ReasonBadHop
	}
	if hop.Is6() && hop.IsLinkLocalUnicast() {
		return "", ReasonLinkLocal
	}
	device, known := f.devices[hop]
	if !known {
		device, _ = f.host.DeviceFor(hop)
		f.devices[hop] = device
	}
	if device == "" {
		return "", ReasonNoSubnet
	}
	return device, ""
}
