// SPDX-License-Identifier: Apache-2.0

package change

import (
	"cmp"
	"slices"

	"korat/api"
)

// agentAddress is the type of the addresses that a node's agent writes.
const agentAddress = "InternalIP"

// keepAgents gives the manifest's object with what an agent has written into the stored one and the
// manifest leaves out: the addresses of a Node. Without them the other nodes drop their sessions with it.
func keepAgents(obj, have api.Object) api.Object {
	given, isNode := obj.(*api.Node)
	stored, exists := have.(*api.Node)
	if !isNode || !exists {
		return obj
	}
	node := given.DeepCopy()
	if had := stored.Spec.BGP; had != nil && (had.IPv4Address != "" || had.IPv6Address != "") {
		if node.Spec.BGP == nil {
			node.Spec.BGP = &api.NodeBGPSpec{}
		}
		bgp := node.Spec.BGP
		bgp.IPv4Address, bgp.IPv6Address = cmp.Or(bgp.IPv4Address, had.IPv4Address), cmp.Or(bgp.IPv6Address, had.IPv6Address)
	}
	node.Spec.Addresses = keepAddresses(node.Spec.Addresses, stored.Spec.Addresses)
	return node
}

// keepAddresses adds the agent's addresses to a list that has none of their type, in the agent's order.
func keepAddresses(given, stored []api.NodeAddress) []api.NodeAddress {
	if len(given) == 0 {
		return slices.Clone(stored)
	}
	if slices.ContainsFunc(given, isAgents) {
		return given
	}
	for _, a := range stored {
		if isAgents(a) {
			given = append(given, a)
		}
	}
	slices.SortFunc(given, func(a, b api.NodeAddress) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Address, b.Address))
	})
	return given
}

func isAgents(a api.NodeAddress) bool { return a.Type == agentAddress }
