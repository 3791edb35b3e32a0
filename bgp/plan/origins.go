// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"korat/api"
)

// origins gives the node's own confirmed blocks: those whose affinity and whose block both say so; and the
// addresses that it has borrowed, each by itself: they are inside of what their block's owner advertises.
// A claim that is under way in either direction is not advertised: another node may yet win it. Nor is
// a block outside every pool: whether its pool was to be advertised is not known any more.
func (b *builder) origins() map[netip.Prefix]struct{} {
	origins := map[netip.Prefix]struct{}{}
	exported, hidden := b.pools()
	for name, a := range b.in.Snapshot.AffinitiesOf(b.in.Node) {
		if a.Spec.State != api.AffinityConfirmed {
			continue
		}
		block, err := netip.ParsePrefix(a.Spec.CIDR)
		if err != nil || block != block.Masked() {
			b.report(fmt.Errorf("BlockAffinity/%s: spec.cidr %q is not a prefix without host bits; not advertised", name, a.Spec.CIDR))
			continue
		}
		blk, owned := b.owned(block)
		switch subnet, cut := overlapping(block, b.in.Connected); {
		case !owned || within(block, hidden):
		case !within(block, exported) && inUse(blk):
			b.report(fmt.Errorf("block %s is in no IPPool; not advertised, so other nodes can't reach its pods: create the IPPool again, or remove them", block))
		case !within(block, exported): // of no use any more
		case !b.in.Addresses.For(block.Addr()).IsValid():
			b.report(fmt.Errorf("block %s: this node has no %s address that would be its next hop; not advertised, so other nodes can't reach its pods: %s",
				block, api.FamilyOf(block.Addr()), remedy(block.Addr())))
		case cut:
			b.report(fmt.Errorf("block %s overlaps %s, a subnet that this node is connected to; neither advertised nor routed: move its pods to an IPPool with another range", block, subnet))
		default:
			origins[block] = struct{}{}
		}
	}
	for _, addr := range b.in.Borrowed {
		host := netip.PrefixFrom(addr, addr.BitLen())
		switch subnet, cut := overlapping(host, b.in.Connected); {
		case within(host, hidden):
		case !within(host, exported):
			b.report(fmt.Errorf("borrowed address %s is in no IPPool; not advertised, so other nodes can't reach its pod: create the IPPool again, or remove it", addr))
		case !b.in.Addresses.For(addr).IsValid():
			b.report(fmt.Errorf("borrowed address %s: this node has no %s address that would be its next hop; not advertised, so other nodes can't reach its pod: %s",
				addr, api.FamilyOf(addr), remedy(addr)))
		case cut:
			b.report(fmt.Errorf("borrowed address %s is in %s, a subnet that this node is connected to; not advertised: move its pod to an IPPool with another range", addr, subnet))
		default:
			origins[host] = struct{}{}
		}
	}
	return origins
}

// pools gives the ranges of the pools that are advertised and of those that must not be.
func (b *builder) pools() (exported, hidden []netip.Prefix) {
	for _, pool := range b.in.Snapshot.IPPools.All() {
		p, err := netip.ParsePrefix(pool.Spec.CIDR)
		switch {
		case err != nil: // the allocator reports it
		case pool.Spec.DisableBGPExport:
			hidden = append(hidden, p)
		default:
			exported = append(exported, p)
		}
	}
	return exported, hidden
}

// owned gives the block's object if it says that the block is this node's.
func (b *builder) owned(block netip.Prefix) (*api.IPAMBlock, bool) {
	o, ok := b.in.Snapshot.IPAMBlocks.Get(api.BlockName(block))
	return o, ok && o.Spec.Affinity != nil && *o.Spec.Affinity == api.AffinityHost+":"+b.in.Node
}

// inUse says whether a pod may have an address of the block: one that cools down is nobody's.
func inUse(block *api.IPAMBlock) bool {
	attributes := block.Spec.Attributes
	return slices.ContainsFunc(block.Spec.Allocations, func(attribute *int) bool {
		return attribute != nil && (*attribute < 0 || *attribute >= len(attributes) || attributes[*attribute].ReleasedAt == nil)
	})
}

func within(block netip.Prefix, pools []netip.Prefix) bool {
	for _, p := range pools {
		if p.Bits() <= block.Bits() && p.Contains(block.Addr()) {
			return true
		}
	}
	return false
}

// overlapping gives the first of the subnets that overlaps the block.
func overlapping(block netip.Prefix, subnets []netip.Prefix) (netip.Prefix, bool) {
	i := slices.IndexFunc(subnets, block.Overlaps)
	if i < 0 {
		return netip.Prefix{}, false
	}
	return subnets[i], true
}

// remedy says how a node gets an address of the family that addr has.
func remedy(addr netip.Addr) string {
	if addr.Is4() {
		return "start korat-node with --ip"
	}
	return "start korat-node with --ip6"
}
