// SPDX-License-Identifier: Apache-2.0

// Package dataplane holds this node's kernel as plain values: State is what we want, Host is what
// the kernel reported of things that are not ours. It knows names, never interface indexes.
package dataplane

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// State is everything that the node's kernel should hold of ours.
type State struct {
	Links      map[string]Link
	Sysctls    map[string]SysctlValue
	Neighbours map[NeighbourKey]Neighbour
	Routes     map[RouteKey]Route
	Filter     Filter
	// HoldLearned keeps learned routes that are in the kernel but not in Routes: set while BGP has
	// not yet told us everything (before End-of-RIB, or while the speaker is away).
	HoldLearned bool
	// Settled are gateways whose neighbour has told us everything: a route only via these may be
	// pruned although HoldLearned is set.
	Settled map[netip.Addr]bool
}

// Keep says whether a route that is in the kernel but not wanted must stay for now.
func (s State) Keep(_ RouteKey, have Route) bool {
	return s.HoldLearned && slices.ContainsFunc(have.NextHops, func(h NextHop) bool {
		return h.Gateway.IsValid() && !s.Settled[h.Gateway]
	})
}

// Link is what we want of the host's side of a pod's veth pair, keyed by interface name. Links are
// made and removed by the CNI plugin; a wanted link that does not exist is left alone.
type Link struct {
	// Up is the administrative state.
	Up bool
	// MTU in bytes; 0 leaves it as it is.
	MTU int
	// Group is the link group (ip link set group), by which the packet filter knows which policies apply; 0, the
	// kernel's default, is no pod's.
	Group uint32
}

// Equal reports whether a link that has what o says is as l wants it. It is not symmetric: a wanted
// MTU of 0 is content with any.
func (l Link) Equal(o Link) bool {
	return l.Up == o.Up && l.Group == o.Group && (l.MTU == 0 || l.MTU == o.MTU)
}

// SysctlValue is a sysctl's content, keyed by its path below /proc/sys, with slashes:
// "net/ipv4/conf/cali0ef24b1b5c5/proxy_arp". (Interface names may hold dots, never slashes.)
type SysctlValue string

// Equal reports whether both are the same.
func (v SysctlValue) Equal(o SysctlValue) bool { return v == o }

// NeighbourKey identifies a permanent neighbour entry.
type NeighbourKey struct {
	Device  string
	Address netip.Addr
}

// Neighbour is a permanent ARP or NDP entry.
type Neighbour struct {
	// MAC in the form "ee:ee:ee:ee:ee:ee".
	MAC string
}

// Equal reports whether both are the same.
func (n Neighbour) Equal(o Neighbour) bool { return n == o }

// RouteKey is what the kernel holds one route of ours for, in the main table with metric 0 (IPv6:
// the kernel's default of 1024).
type RouteKey struct {
	Prefix netip.Prefix
}

// RouteType is the kernel's route type.
type RouteType uint8

// The route types that we use.
const (
	Unicast RouteType = iota
	Blackhole
)

// Route is where packets for a prefix go.
type Route struct {
	Type RouteType
	// NextHops is empty for a blackhole, and ordered by SortNextHops.
	NextHops []NextHop
	// Source is the address that locally made packets get, or invalid for the kernel's choice.
	Source netip.Addr
	// Shadowed is reported of a route that is in the kernel but out of effect: another one with the same
	// prefix and metric stands before it, or may. It is never wanted, so that such a route is set again.
	Shadowed bool
}

// NextHop is one way out.
type NextHop struct {
	// Device is the interface's name.
	Device string
	// Gateway is invalid for what is directly on the link (scope link). With a Gateway the route is
	// onlink: the kernel does not check that a route to the gateway exists. An IPv6 one to which a route
	// other than the default one leads out of another interface it refuses.
	Gateway netip.Addr
}

// Equal reports whether both routes are the same.
func (r Route) Equal(o Route) bool {
	return r.Type == o.Type && r.Source == o.Source && r.Shadowed == o.Shadowed && slices.Equal(r.NextHops, o.NextHops)
}

// Learned says whether the route has the shape of one learned over BGP: a gateway. A freshly
// started agent tells learned routes by it.
func (r Route) Learned() bool {
	return slices.ContainsFunc(r.NextHops, func(h NextHop) bool { return h.Gateway.IsValid() })
}

// SortNextHops orders next hops so that Equal is independent of the order they came in.
func SortNextHops(hops []NextHop) {
	slices.SortFunc(hops, func(a, b NextHop) int {
		if c := a.Gateway.Compare(b.Gateway); c != 0 {
			return c
		}
		if a.Device < b.Device {
			return -1
		}
		if a.Device > b.Device {
			return 1
		}
		return 0
	})
}

// Host is what the kernel reported of its links and addresses, keyed by interface name.
type Host struct {
	Links map[string]HostLink
	// DefaultRoute says whether a route of somebody else's covers 0.0.0.0/0 (IPv4).
	DefaultRoute bool
}

// HostLink is one interface as the kernel has it.
type HostLink struct {
	Index int
	// Type is the kernel's kind: "veth", "bridge", "device" for hardware, ...
	Type string
	MTU  int
	// Up means administratively up; Running that it has carrier as well.
	Up, Running bool
	MAC         string
	// Alias is the interface's alias (ip link set alias).
	Alias string
	// Addresses with their prefix lengths, in the kernel's order, secondary ones included. Of IPv6's
	// those are left out that nothing may hang on: link-local, temporary (RFC 8981) and duplicate ones.
	Addresses []netip.Prefix
	// Unsettled are those of IPv6's that nothing new is to hang on: tentative and deprecated ones (RFC 4862).
	Unsettled []netip.Addr
	// IPv6 says whether the kernel has IPv6 on the link at all: net/ipv6/conf/NAME exists.
	IPv6 bool
	// AcceptRA is net/ipv6/conf/NAME/accept_ra, and Forwards whether net/ipv6/conf/NAME/forwarding is on.
	AcceptRA AcceptRA
	Forwards bool
}

// AcceptRA says when a link configures itself by router advertisements (RFC 4861). The kernel's values.
type AcceptRA int32

// The values of accept_ra.
const (
	AcceptRANever AcceptRA = iota
	// AcceptRAHost stands for: not while the link forwards.
	AcceptRAHost
	AcceptRAAlways
)

// Equal reports whether both pictures are the same.
func (h Host) Equal(o Host) bool {
	return h.DefaultRoute == o.DefaultRoute && maps.EqualFunc(h.Links, o.Links, HostLink.Equal)
}

// Equal reports whether both are the same.
func (l HostLink) Equal(o HostLink) bool {
	return l.Index == o.Index && l.Type == o.Type && l.MTU == o.MTU && l.Up == o.Up && l.Running == o.Running &&
		l.MAC == o.MAC && l.Alias == o.Alias && slices.Equal(l.Addresses, o.Addresses) && slices.Equal(l.Unsettled, o.Unsettled) &&
		l.IPv6 == o.IPv6 && l.AcceptRA == o.AcceptRA && l.Forwards == o.Forwards
}

// HasIPv6 says whether the kernel has IPv6 at all.
func (h Host) HasIPv6() bool {
	for _, link := range h.Links {
		if link.IPv6 {
			return true
		}
	}
	return false
}

// Subnets gives the connected subnets with the interface of each, the first by name where several have
// it. A single address is no subnet: nothing else is reached through it.
func (h Host) Subnets() map[netip.Prefix]string {
	subnets := map[netip.Prefix]string{}
	for dev, link := range h.Links {
		for _, p := range link.Addresses {
			if p.Bits() == 0 || p.IsSingleIP() {
				continue
			}
			if first, dup := subnets[p.Masked()]; !dup || dev < first {
				subnets[p.Masked()] = dev
			}
		}
	}
	return subnets
}

// DeviceFor gives the interface that is up and whose connected subnet holds addr, the longest match
// first, then one with carrier. A link without carrier counts: the kernel keeps routes over it.
func (h Host) DeviceFor(addr netip.Addr) (name string, ok bool) {
	best, running := -1, false
	for dev, link := range h.Links {
		if !link.Up {
			continue
		}
		for _, p := range link.Addresses {
			if !p.Contains(addr) {
				continue
			}
			order := cmp.Or(p.Bits()-best, compare(link.Running, running), cmp.Compare(name, dev))
			if order > 0 {
				best, running, name = p.Bits(), link.Running, dev
			}
		}
	}
	return name, best >= 0
}

// compare orders false before true.
func compare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
