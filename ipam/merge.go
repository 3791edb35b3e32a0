// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"net/netip"

	"korat/ipam/block"
)

// foreignAt says whether the address is held by another node than the one that the block belongs to.
// Such an address is that node's to release.
func foreignAt(b *block.Block, addr netip.Addr) bool {
	al, _ := b.At(addr)
	node := al.Attrs["node"]
	return node != "" && affinityOf(node) != b.Affinity()
}

// merge gives what the datastore ought to hold, where it holds have: what this node's memory (ours) says, but
// of other nodes' addresses what they have made of them since base, the copy that ours knew.
func merge(ours, base, have *block.Block) *block.Block {
	merged := ours.Clone()
	for addr := range have.All() {
		if foreignAt(have, addr) {
			merged.Match(addr, have)
		}
	}
	for addr := range ours.All() {
		if foreignAt(ours, addr) && !foreignAt(have, addr) && base != nil && foreignAt(base, addr) {
			merged.Match(addr, have)
		}
	}
	return merged
}
