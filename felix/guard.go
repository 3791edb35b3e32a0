// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"maps"
	"net/netip"
	"slices"

	"korat/felix/dataplane"
)

// trust takes what the kernel has routes to for attachments whose policy has been in the kernel: an earlier run made none
// before that.
func (at *attachments) trust(routes map[dataplane.RouteKey]dataplane.Route) {
	for id, ep := range at.endpoints {
		if ep.Ready && slices.ContainsFunc(ep.Addresses, func(a netip.Addr) bool { return leadsTo(routes, a, ep.Interface) }) {
			at.guarded[id] = true
		}
	}
}

// police notes that the policies of all attachments that have some are in the kernel.
func (at *attachments) police() {
	if len(at.guarded) == len(at.endpoints) { // of which they are a part
		return
	}
	for _, id := range byInterface(at.endpoints) {
		at.guarded[id] = true
	}
}

// policed gives the state without what would make those pods reachable of which the policy has never been in the
// kernel, and whether that is less.
func (at *attachments) policed(s dataplane.State) (dataplane.State, bool) {
	closed := map[string]bool{}
	for id, ep := range at.endpoints {
		if ep.Ready && !at.guarded[id] {
			closed[ep.Interface] = true
		}
	}
	if len(closed) == 0 {
		return s, false
	}
	s.Routes, s.Neighbours = maps.Clone(s.Routes), maps.Clone(s.Neighbours)
	maps.DeleteFunc(s.Routes, func(_ dataplane.RouteKey, r dataplane.Route) bool {
		return slices.ContainsFunc(r.NextHops, func(h dataplane.NextHop) bool { return closed[h.Device] })
	})
	maps.DeleteFunc(s.Neighbours, func(k dataplane.NeighbourKey, _ dataplane.Neighbour) bool { return closed[k.Device] })
	return s, true
}
