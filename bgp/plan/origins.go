// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"

	"korat/api"
)

// origins gives the node's own confirmed blocks: those whose affinity and whose block both say so.
// A claim that is under way in either direction is not advertised: another node may yet win it.
func (b *builder) origins() map[netip.Prefix]struct{} {
	origins := map[netip.Prefix]struct{}{}
	var hidden []netip.Prefix
	for _, pool := range b.in.Snapshot.IPPools.All() {
		if p, err := netip.ParsePrefix(pool.Spec.CIDR); err == nil && pool.Spec.DisableBGPExport {
			hidden = append(hidden, p)
		}
	}
	for name, a := range b.in.Snapshot.BlockAffinities.All() {
		if a.Spec.Node != b.in.Node || a.Spec.State != api.AffinityConfirmed {
			continue
		}
		block, err := netip.ParsePrefix(a.Spec.CIDR)
		if err != nil || block != block.Masked() {
			b.report(fmt.Errorf("BlockAffinity/%s: spec.cidr %q is not a prefix without host bits; not advertised", name, a.Spec.CIDR))
			continue
		}
		if b.owns(block) && !within(block, hidden) {
			origins[block] = struct{}{}
		}
	}
	return origins
}

func (b *builder) owns(block netip.Prefix) bool {
	o, ok := b.in.Snapshot.IPAMBlocks.Get(api.BlockName(block))
	return ok && o.Spec.Affinity != nil && *o.Spec.Affinity == api.AffinityHost+":"+b.in.Node
}

func within(block netip.Prefix, pools []netip.Prefix) bool {
	for _, p := range pools {
		if p.Bits() <= block.Bits() && p.Contains(block.Addr()) {
			return true
		}
	}
	return false
}
