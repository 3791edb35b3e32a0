// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"net/netip"
	"strings"

	"korat/api"
	"korat/ipam/block"
)

// foreignAt says whether the address is held by another node than the one that the block belongs to.
// Such an address is that node's to release. Once it is released it is the block's owner's again.
func foreignAt(b *block.Block, addr netip.Addr) bool {
	al, _ := b.At(addr)
	return foreign(b, al) && !al.Cooling()
}

func foreign(b *block.Block, al block.Allocation) bool {
	node := al.Attrs["node"]
	if node == "" {
		return false
	}
	own, is := strings.CutPrefix(b.Affinity(), api.AffinityHost+":") // affinityOf would make a string each time
	return !is || own != node
}

// merge gives what the datastore ought to hold, where it holds have: what this node's memory (ours) says, but
// what others have made of their own addresses, and of those that nobody here has changed, since base, the
// copy that ours knew.
func merge(ours, base, have *block.Block) *block.Block {
	merged := ours.Clone()
	for addr, al := range have.All() {
		switch {
		case foreignAt(have, addr),
			base != nil && foreign(have, al) && !same(base, have, addr),
			base != nil && al.Leased() && free(base, addr) && free(ours, addr):
			merged.Match(addr, have)
		}
	}
	if base == nil {
		return merged
	}
	for addr, al := range ours.All() {
		now, still := have.At(addr)
		gone := !still || now.Cooling()
		switch {
		case foreignAt(have, addr):
		case foreignAt(ours, addr) && foreignAt(base, addr),
			gone && !al.Cooling() && same(ours, base, addr):
			merged.Match(addr, have)
		}
	}
	return merged
}

func free(b *block.Block, addr netip.Addr) bool {
	_, held := b.At(addr)
	return !held
}

// same says whether both have the address held by the same assignment, in the same state.
func same(x, y *block.Block, addr netip.Addr) bool {
	one, held := x.At(addr)
	other, also := y.At(addr)
	return held && also && one.Sequence == other.Sequence && one.Handle == other.Handle && one.Released.Equal(other.Released)
}
