// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	"korat/api"
)

// Pool is a range of pods' addresses.
type Pool struct {
	Prefix netip.Prefix
	// NATOutgoing says that what its pods send to addresses in no pool gets the address of their node.
	NATOutgoing bool
}

// Pools gives the ranges of all IPPools, disabled ones too, whose pods may run on. Each is there once, in order.
func Pools(snap api.Snapshot) []Pool {
	var all []Pool
	for _, o := range snap.IPPools.All() {
		if p, err := netip.ParsePrefix(o.Spec.CIDR); err == nil && p.Bits() > 0 && !p.Addr().Is4In6() {
			all = append(all, Pool{p.Masked(), o.Spec.NATOutgoing})
		}
	}
	slices.SortStableFunc(all, func(a, b Pool) int { return a.Prefix.Compare(b.Prefix) })
	return slices.CompactFunc(all, func(a, b Pool) bool { return a.Prefix == b.Prefix })
}
