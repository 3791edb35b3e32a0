// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"net/netip"

	"korat/felix/dataplane"
)

// Notice is what others changed since the last one, as far as it may concern us. What was written
// through the Handle to routes and neighbours is not in it.
//
// The Touches… methods for one entry fit reconcile's Step.Touch. They are of use only if Lost is not
// set; if it is, everything must be read again.
type Notice struct {
	// Lost says that notices were lost, or came faster than they were taken.
	Lost bool
	// Err says that there will be no more notices.
	Err error
	// Links names those that were made, changed or removed. The value is true if the link went down or
	// away, got another name, lost an IPv4 address or IPv6: the kernel then takes the routes and neighbour
	// entries on it away. It sends no notices of the IPv4 routes, and need not send those of IPv6
	// (net.ipv6.route.skip_notify_on_dev_down).
	Links map[string]bool
	// Addresses says that an address was added or removed that is not an IPv6 link-local one.
	Addresses bool
	// RemovedAddresses are those of which routes may have been the source: the kernel takes these away.
	RemovedAddresses map[netip.Addr]bool
	// DefaultRoute says that somebody else's IPv4 default route changed.
	DefaultRoute bool
	// Routes are the prefixes of other changed routes in the main table with our metric.
	Routes map[netip.Prefix]bool
	// Planted says that somebody else made a route with our protocol number. It may be for a prefix that nobody
	// remembers, and which no Touch… method therefore finds.
	Planted bool
	// Neighbours are the changed entries that are, or were, ours.
	Neighbours map[dataplane.NeighbourKey]bool
	// Sysctls names the interfaces, or "all" or "default", of which one of the settings changed that
	// the kernel sends notices of: forwarding, rp_filter, proxy_arp.
	Sysctls map[string]bool
	// Chains says that somebody else changed chains of ours, or one of the kernel's own. Only the nft backend tells.
	Chains bool
}

// loopback is the loopback interface's name, in every network namespace.
const loopback = "lo"

// maxNoticed bounds the entries of a Notice that nobody takes.
const maxNoticed = 4096

// Everything is the Notice after which everything must be read again.
func Everything() Notice { return Notice{Lost: true} }

// Host says whether Observe would give something new.
func (n Notice) Host() bool {
	return n.Lost || len(n.Links) > 0 || n.Addresses || n.DefaultRoute
}

// TouchesLinks says whether any link is touched.
func (n Notice) TouchesLinks() bool { return n.Lost || len(n.Links) > 0 }

// TouchesSysctls says whether any sysctl is touched.
func (n Notice) TouchesSysctls() bool { return n.TouchesLinks() || len(n.Sysctls) > 0 }

// TouchesNeighbours says whether any neighbour entry is touched.
func (n Notice) TouchesNeighbours() bool { return n.Lost || len(n.Neighbours) > 0 || n.flushed() }

// TouchesRoutes says whether any route is touched.
func (n Notice) TouchesRoutes() bool {
	return n.Lost || len(n.Routes) > 0 || len(n.RemovedAddresses) > 0 || n.flushed()
}

// TouchesChains says whether any chain is touched.
func (n Notice) TouchesChains() bool { return n.Lost || n.Chains }

// TouchesLink says whether a link is touched.
func (n Notice) TouchesLink(name string, _ dataplane.Link) bool {
	_, ok := n.Links[name]
	return ok
}

// TouchesSysctl says whether a sysctl is touched: an interface that is made anew has the defaults.
func (n Notice) TouchesSysctl(key string, _ dataplane.SysctlValue) bool {
	name := sysctlInterface(key)
	if name == "" {
		return n.Sysctls["all"] // net/ipv4/ip_forward among others
	}
	_, link := n.Links[name]
	return link || n.Sysctls[name]
}

// TouchesNeighbour says whether a neighbour entry is touched.
func (n Notice) TouchesNeighbour(k dataplane.NeighbourKey, _ dataplane.Neighbour) bool {
	return n.Neighbours[k] || n.Links[k.Device]
}

// TouchesRoute says whether a route is touched.
func (n Notice) TouchesRoute(k dataplane.RouteKey, r dataplane.Route) bool {
	if n.Routes[k.Prefix] || n.RemovedAddresses[r.Source] {
		return true
	}
	if r.Type == dataplane.Blackhole && k.Prefix.Addr().Is6() {
		return n.Links[loopback] // IPv6 hangs them on it
	}
	for _, h := range r.NextHops {
		if n.Links[h.Device] {
			return true
		}
	}
	return false
}

// UnknownRoutes says whether there may be routes of ours that only a Read finds.
func (n Notice) UnknownRoutes() bool { return n.Lost || n.Planted }

func (n Notice) flushed() bool {
	for _, f := range n.Links {
		if f {
			return true
		}
	}
	return false
}

// size counts the entries.
func (n Notice) size() int {
	return len(n.Links) + len(n.RemovedAddresses) + len(n.Routes) + len(n.Neighbours) + len(n.Sysctls)
}

// empty says whether there is nothing to tell.
func (n Notice) empty() bool {
	return !n.Lost && n.Err == nil && !n.Addresses && !n.DefaultRoute && !n.Chains && n.size() == 0
}

func newNotice() Notice {
	return Notice{
		Links: map[string]bool{}, RemovedAddresses: map[netip.Addr]bool{}, Routes: map[netip.Prefix]bool{},
		Neighbours: map[dataplane.NeighbourKey]bool{}, Sysctls: map[string]bool{},
	}
}
