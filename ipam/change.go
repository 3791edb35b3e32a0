// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"net/netip"

	"korat/api"
	"korat/ipam/block"
)

// Change is what the datastore's copy of an own confirmed block ought to be.
type Change struct {
	Block netip.Prefix
	// UID is that of the object to change.
	UID  string
	Spec api.IPAMBlockSpec
	// Urgent: requests wait for it.
	Urgent bool
	// base is the copy that Spec was made from.
	base *block.Block
	// seen are the terms of that copy, and terms what they ought to be next.
	seen, terms terms
}

// Changes gives the blocks whose copy in the Snapshot differs from what is known here.
func (a *Allocator) Changes() []Change {
	a.thaw()
	leasing := a.waiting(ByLease)
	var cs []Change
	for _, o := range a.blocks.own() {
		if o.block == nil || o.same && o.lease.terms == o.wanted() {
			continue
		}
		waiting := 0
		for _, n := range leasing {
			if n.Block == o.prefix || !n.Block.IsValid() && holdAny(n.Pools, o.prefix) {
				waiting++
			}
		}
		if want, differs := o.differs(waiting, a.reserved); differs {
			cs = append(cs, Change{o.prefix, o.uid, want.Spec(), waiting > 0, o.newest, o.lease.terms, o.wanted()})
		}
	}
	return cs
}

// differs says whether the datastore's copy has to be written, and what it ought to be.
func (o *owned) differs(waiting int, reserved func(netip.Addr) bool) (want *block.Block, differs bool) {
	want = o.want(waiting, reserved)
	if o.copied == nil {
		return want, true
	}
	settled := o.lease.terms == o.wanted()
	merged := merge(want, o.newest, o.copied)
	if settled && merged.Equal(o.copied) {
		o.same = o.lease.terms == terms{} // leases depend on more than what is in the block
		return want, false
	}
	return want, !settled || !o.patient(merged)
}
