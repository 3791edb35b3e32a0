// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"maps"
	"net/netip"

	"korat/felix/dataplane"
	"korat/felix/endpoint"
)

// Routes wants, in rising precedence where two of them claim one prefix:
//
//  1. what BGP gave;
//  2. a blackhole for each own confirmed block, so that packets to its unassigned addresses don't
//     follow the default route out and back (none for a block of a single address: that is the pod's;
//     and none where the block overlaps a subnet that the host is connected to, which it would cut off);
//  3. a route to each pod: to the older one where two claim an address, which ipam reports.
//
// Without a default route it also wants one to the IPv4 gateway out of the uplink: the kernel proxies ARP
// for an address only while it would route it out of another interface. The IPv6 gateway is the host's own
// link-local address.
func Routes(in Inputs, live []endpoint.Endpoint) map[dataplane.RouteKey]dataplane.Route {
	routes := make(map[dataplane.RouteKey]dataplane.Route, len(in.Learned)+len(in.Blocks)+len(live)+1)
	maps.Copy(routes, in.Learned)
	subnets := in.Host.Subnets()
	for _, block := range in.Blocks {
		if !block.IsSingleIP() && !overlaps(block, subnets) {
			routes[dataplane.RouteKey{Prefix: block}] = dataplane.Route{Type: dataplane.Blackhole}
		}
	}
	for _, ep := range live {
		if !in.Host.Links[ep.Interface].Up {
			continue // the kernel refuses routes over an interface that is down; links come first
		}
		for _, addr := range ep.Addresses {
			key := dataplane.RouteKey{Prefix: netip.PrefixFrom(addr, addr.BitLen())}
			routes[key] = dataplane.Route{NextHops: []dataplane.NextHop{{Device: ep.Interface}}}
		}
	}
	if uplink, ok := in.Host.Links[in.Uplink]; ok && uplink.Up && !in.Host.DefaultRoute {
		key := dataplane.RouteKey{Prefix: netip.PrefixFrom(endpoint.Gateway(), 32)}
		routes[key] = dataplane.Route{NextHops: []dataplane.NextHop{{Device: in.Uplink}}}
	}
	return routes
}

func overlaps(block netip.Prefix, subnets map[netip.Prefix]string) bool {
	for subnet := range subnets {
		if subnet.Overlaps(block) {
			return true
		}
	}
	return false
}
