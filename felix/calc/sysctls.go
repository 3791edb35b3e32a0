// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"net/netip"
	"slices"

	"korat/felix/dataplane"
	"korat/felix/endpoint"
)

// Sysctls wants forwarding on the host, and for each pod's interface:
//
//   - forwarding, without which neither packets nor proxied ARP pass;
//   - proxy_arp, so that the host answers for 169.254.1.1 (and for whatever else the pod believes to be
//     on its link) wherever it has a route out of another interface;
//   - proxy_delay 0: the kernel otherwise waits up to 0.8 s, at random, before such an answer;
//   - rp_filter 1 (strict, RFC 3704): a pod sends from no address but its own. The kernel applies
//     the greater of this and conf/all.
//
// What it wants of IPv6 is in ipv6Sysctls.
func Sysctls(in Inputs, live []endpoint.Endpoint) map[string]dataplane.SysctlValue {
	sysctls := make(map[string]dataplane.SysctlValue, 2+6*len(live))
	sysctls["net/ipv4/ip_forward"] = "1"
	for _, ep := range live {
		conf := "net/ipv4/conf/" + ep.Interface + "/"
		sysctls[conf+"forwarding"] = "1"
		sysctls[conf+"proxy_arp"] = "1"
		sysctls[conf+"rp_filter"] = "1"
		sysctls["net/ipv4/neigh/"+ep.Interface+"/proxy_delay"] = "0"
	}
	ipv6Sysctls(in, live, sysctls)
	return sysctls
}

// ipv6Sysctls wants forwarding on the host as soon as the node has a pod, a block or an address of IPv6, and
// not before: it changes how a host behaves. For the interface of a pod with an IPv6 address it wants
//
//   - IPv6, which may be off for new interfaces;
//   - accept_dad 0: its link-local address, the pod's gateway, is tentative for a second otherwise (RFC 4862);
//   - forwarding, and proxy_ndp, so that neighbour proxy entries that somebody adds are heeded.
//
// Any pod's interface is to heed no router advertisement (accept_ra 0): the host's default route is not the
// pod's to say. It has no settings where the kernel has no IPv6.
func ipv6Sysctls(in Inputs, live []endpoint.Endpoint, sysctls map[string]dataplane.SysctlValue) {
	if wantsIPv6(in, live) {
		sysctls["net/ipv6/conf/all/forwarding"] = "1"
		for name, link := range in.Host.Links {
			if in.heedsRouters(name, link) {
				sysctls["net/ipv6/conf/"+name+"/accept_ra"] = "2"
			}
		}
	}
	for _, ep := range live {
		conf := "net/ipv6/conf/" + ep.Interface + "/"
		has := slices.ContainsFunc(ep.Addresses, netip.Addr.Is6)
		if has || in.Host.Links[ep.Interface].IPv6 {
			sysctls[conf+"accept_ra"] = "0"
		}
		if has {
			sysctls[conf+"disable_ipv6"] = "0"
			sysctls[conf+"accept_dad"] = "0"
			sysctls[conf+"forwarding"] = "1"
			sysctls[conf+"proxy_ndp"] = "1"
		}
	}
}

func wantsIPv6(in Inputs, live []endpoint.Endpoint) bool {
	return in.Addresses.IPv6.IsValid() ||
		slices.ContainsFunc(in.Blocks, func(p netip.Prefix) bool { return p.Addr().Is6() }) ||
		slices.ContainsFunc(live, func(ep endpoint.Endpoint) bool { return slices.ContainsFunc(ep.Addresses, netip.Addr.Is6) })
}

// heedsRouters says whether a link of the host's is to go on heeding router advertisements, which accept_ra 1
// does only while the link doesn't forward: an uplink of which accept_ra is not 0, and any other link in use for
// IPv6 that heeds them now. One that did not may lead to guests of the host, which could give it a default
// route. The kernel.Sysctls are written in such an order that none loses a route meanwhile.
func (in Inputs) heedsRouters(name string, link dataplane.HostLink) bool {
	switch {
	case name == "lo" || link.AcceptRA == dataplane.AcceptRANever:
		return false
	case name == in.Uplink || slices.Contains(link.Addresses, in.Addresses.IPv6):
		return true
	}
	used := slices.ContainsFunc(link.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() })
	return used && (link.AcceptRA == dataplane.AcceptRAAlways || !link.Forwards)
}
