// SPDX-License-Identifier: Apache-2.0

package block

import (
	"maps"
	"net/netip"
)

// leaseAgent is the attribute that says which run of a node's agent took a lease. No pod has it.
const leaseAgent = "agent"

// Lease is the holder of an address that a node has taken for pods to come: whoever reads the block sees it as
// taken. Agent tells apart the runs of the node's agent.
func Lease(node, agent string) Holder {
	return Holder{Handle: leaseHandle(node), Attrs: map[string]string{"node": node, leaseAgent: agent}}
}

func leaseHandle(node string) string { return "lease-" + node }

// Leased says whether the address is a node's for pods to come, but no pod's yet.
func (al Allocation) Leased() bool {
	return !al.Cooling() && al.Attrs[leaseAgent] != "" && al.Handle == leaseHandle(al.Attrs["node"])
}

// LeasedBy says whether the address was leased by that very run of the node's agent.
func (al Allocation) LeasedBy(node, agent string) bool {
	return al.Leased() && al.Attrs["node"] == node && al.Attrs[leaseAgent] == agent
}

// Entitle passes an address that its node has leased on to a pod. It stays the same assignment, with the
// number that it has.
func (b *Block) Entitle(a netip.Addr, h Holder) {
	if al, ok := b.At(a); ok && !al.Cooling() {
		al.Holder = Holder{h.Handle, maps.Clone(h.Attrs)}
		b.held[b.ordinal(a)] = al
		b.sequence++
	}
}
