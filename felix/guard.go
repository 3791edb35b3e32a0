// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"maps"
	"slices"
	"strings"

	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/kernel"
)

// police notes that the policies of all attachments are in the kernel.
func (at *attachments) police() {
	if !at.changed && len(at.guarded) == len(at.endpoints) {
		return
	}
	clear(at.guarded)
	for _, ep := range at.endpoints {
		at.guarded[ep.Interface] = true
	}
}

// policed gives the state without what would make those pods reachable of which the policy has never been in the
// kernel.
func (at *attachments) policed(s dataplane.State) dataplane.State {
	open := func(device string) bool {
		return strings.HasPrefix(device, kernel.InterfacePrefix) && !at.guarded[device]
	}
	s.Routes, s.Neighbours = maps.Clone(s.Routes), maps.Clone(s.Neighbours)
	maps.DeleteFunc(s.Routes, func(_ dataplane.RouteKey, r dataplane.Route) bool {
		return slices.ContainsFunc(r.NextHops, func(h dataplane.NextHop) bool { return open(h.Device) })
	})
	maps.DeleteFunc(s.Neighbours, func(k dataplane.NeighbourKey, _ dataplane.Neighbour) bool { return open(k.Device) })
	return s
}

// unguarded says whether the endpoint's policy has never been in the kernel.
func (at *attachments) unguarded(ep endpoint.Endpoint) bool { return !at.guarded[ep.Interface] }
