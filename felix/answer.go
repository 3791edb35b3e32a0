// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"korat/cni-plugin/socket"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/reconcile"
)

// answer replies to the calls that waited for the kernel. After a failed pass those whose own entries
// are in the kernel are answered all the same: one bad route must not hold up other pods. A pod without
// a route is not in the kernel, whatever has failed or not: its interface may have been down.
func (a *Agent) answer(after []programmed, err error) {
	for _, p := range after {
		switch broken := cmp.Or(failure(p.reply.Endpoint, err), unrouted(p.reply.Endpoint, a.world.want.Routes)); {
		case broken == nil:
			p.call.answer(p.reply)
		case p.req.Verb == socket.VerbCheck || time.Since(p.since) > maxWait:
			p.call.answer(tryAgain("pod is not in the kernel", broken.Error()))
		default:
			a.queue = append(a.queue, p.call)
			a.soon()
		}
	}
}

// unrouted says which address of an endpoint no route leads to. A nil endpoint needs none.
func unrouted(ep *endpoint.Endpoint, want map[dataplane.RouteKey]dataplane.Route) error {
	if ep == nil {
		return nil
	}
	for _, addr := range ep.Addresses {
		if r := want[dataplane.RouteKey{Prefix: netip.PrefixFrom(addr, addr.BitLen())}]; !slices.Contains(r.NextHops, dataplane.NextHop{Device: ep.Interface}) {
			return fmt.Errorf("no route to %s: interface %s is down or gone, or another pod has the address", addr, ep.Interface)
		}
	}
	return nil
}

// failure picks from a pass's error what concerns an endpoint: the failed entries of its own, or a
// failure of a whole table. A nil endpoint is concerned by nothing.
func failure(ep *endpoint.Endpoint, err error) error {
	if ep == nil || err == nil {
		return nil
	}
	var all []error
	for _, step := range unjoin(err) {
		all = append(all, concerning(ep, step)...)
	}
	return errors.Join(all...)
}

// concerning gives the part of one step's error that concerns an endpoint.
func concerning(ep *endpoint.Endpoint, step error) []error {
	routes, ofRoutes := reconcile.Failures[dataplane.RouteKey](step)
	neighbours, ofNeighbours := reconcile.Failures[dataplane.NeighbourKey](step)
	named, ofNamed := reconcile.Failures[string](step)
	var all []error
	switch {
	case ofRoutes:
		for _, addr := range ep.Addresses {
			all = append(all, routes[dataplane.RouteKey{Prefix: netip.PrefixFrom(addr, addr.BitLen())}])
		}
	case ofNeighbours:
		for _, addr := range ep.Addresses {
			all = append(all, neighbours[dataplane.NeighbourKey{Device: ep.Interface, Address: addr}])
		}
	case ofNamed:
		all = ofInterface(ep, named)
	case ofEntries(step):
		// What a pod lacks of the packet filter drops its packets, and the status names it.
	default:
		all = []error{step}
	}
	return all
}

// ofInterface picks the errors of links and sysctls that are the endpoint's interface's or, like those of
// ip_forward and of net/ipv6/conf/all, every pod's that has an address of the family.
func ofInterface(ep *endpoint.Endpoint, failed map[string]error) []error {
	var all []error
	for key, err := range failed {
		if key == ep.Interface || strings.Contains(key, "/"+ep.Interface+"/") || ofEveryPod(key, ep.Addresses) {
			all = append(all, err)
		}
	}
	return all
}

// ofEveryPod says whether a key is that of a sysctl of the whole host, of the family of one of the addresses.
func ofEveryPod(key string, addrs []netip.Addr) bool {
	family, name, sysctl := strings.Cut(strings.TrimPrefix(key, "net/"), "/")
	if !sysctl || strings.Contains(name, "/") && !strings.HasPrefix(name, "conf/all/") {
		return false
	}
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return a.Is4() == (family == "ipv4") })
}

func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
