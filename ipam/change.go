// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"net/netip"

	"korat/ipam/block"
)

// Change is what the datastore's copy of an own confirmed block ought to be.
type Change struct {
	Block netip.Prefix
	// UID is that of the object to change.
	UID string
	// Want is what it ought to hold. It is not changed afterwards.
	Want *block.Block
	// Urgent: requests wait for it.
	Urgent bool
	// base is the copy that Want was made from.
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
		if o.block == nil {
			continue
		}
		waiting := 0
		for _, n := range leasing {
			if n.Block == o.prefix || !n.Block.IsValid() && holdAny(n.Pools, o.prefix) {
				waiting++
			}
		}
		if c := o.change(waiting, a.reserved); c.Want != nil {
			cs = append(cs, c)
		}
	}
	return cs
}

// change says what is to be written of the block; nothing if its Want is nil. As whole blocks are compared for that, it is
// remembered, unless it depends on more than these: leases do, and addresses of which the cooling down is over.
func (o *owned) change(waiting int, reserved func(netip.Addr) bool) Change {
	plain := waiting == 0 && o.lease.terms == terms{} && o.wanted() == terms{} && len(o.idle.thawed) == 0
	if plain && o.found != nil {
		return *o.found
	}
	c := Change{Block: o.prefix, UID: o.uid, Urgent: waiting > 0, base: o.newest, seen: o.lease.terms, terms: o.wanted()}
	if want, differs := o.differs(waiting, reserved); differs {
		c.Want = want.Clone()
	}
	if plain {
		o.found = &c
	}
	return c
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
		return want, false
	}
	return want, !settled || !o.patient(merged)
}
