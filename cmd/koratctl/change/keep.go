// SPDX-License-Identifier: Apache-2.0

package change

import (
	"cmp"
	"slices"

	"korat/api"
)

// agentAddress is the type of the address that a node's agent writes.
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
	if stored.Spec.BGP != nil && stored.Spec.BGP.IPv4Address != "" {
		if node.Spec.BGP == nil {
			node.Spec.BGP = &api.NodeBGPSpec{}
		}
		node.Spec.BGP.IPv4Address = cmp.Or(node.Spec.BGP.IPv4Address, stored.Spec.BGP.IPv4Address)
	}
	node.Spec.Addresses = keepAddresses(node.Spec.Addresses, stored.Spec.Addresses)
	return node
}

// keepAddresses adds the agent's address to a list that has none of its type, in the agent's order.
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
