// SPDX-License-Identifier: Apache-2.0

// Package calc computes what this node's kernel should hold. It is pure: facts go in, a
// dataplane.State comes out, one file per field of State. When two producers want one prefix, the
// precedence is decided in routes.go.
package calc

import (
	"cmp"
	"net/netip"
	"slices"

	"korat/api"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
)

// Inputs are the facts that State depends on.
type Inputs struct {
	// Endpoints are the node's attachments by the CNI record, the authority on local pods.
	Endpoints map[endpoint.ID]endpoint.Endpoint
	// Blocks are the node's own confirmed blocks.
	Blocks []netip.Prefix
	// Addresses are the node's own.
	Addresses api.Addresses
	// Learned are the routes that BGP gave.
	Learned map[dataplane.RouteKey]dataplane.Route
	// Host is what the kernel reported.
	Host dataplane.Host
	// Uplink is the interface that carries the node's IPv4 address; empty while unknown.
	Uplink string
	// HoldLearned and Settled are passed on to State.
	HoldLearned bool
	Settled     map[netip.Addr]bool
}

// State computes everything.
func State(in Inputs) dataplane.State {
	live := liveEndpoints(in.Endpoints, in.Host)
	return dataplane.State{
		Links:       Links(live),
		Sysctls:     Sysctls(in, live),
		Neighbours:  Neighbours(live),
		Routes:      Routes(in, live),
		HoldLearned: in.HoldLearned,
		Settled:     in.Settled,
	}
}

// liveEndpoints picks the attachments whose pair exists, the newest first: should two have one address,
// the older one's routes come later, and win. The others have nothing in the kernel to hang anything
// on: the kernel took all of it away together with the interface.
func liveEndpoints(all map[endpoint.ID]endpoint.Endpoint, host dataplane.Host) []endpoint.Endpoint {
	live := make([]endpoint.Endpoint, 0, len(all))
	for _, ep := range all {
		if _, exists := host.Links[ep.Interface]; exists && ep.Ready {
			live = append(live, ep)
		}
	}
	slices.SortFunc(live, func(x, y endpoint.Endpoint) int {
		return cmp.Or(y.Since.Compare(x.Since), cmp.Compare(y.ContainerID, x.ContainerID), cmp.Compare(y.IfName, x.IfName))
	})
	return live
}
