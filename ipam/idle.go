// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"net/netip"
	"slices"

	"korat/api"
)

// spareFactor keeps a node from giving a block back that it would soon claim again: it keeps so many times as many
// free addresses as those below which it claims one.
const spareFactor = 2

// Idle is an own block of which nothing is in use, and which this node can do without.
type Idle struct {
	Block netip.Prefix
	// Useless blocks are of no pool that gives this node addresses, or of a family that it is not reached by: there
	// is no use in keeping one for a while.
	Useless bool
}

// Idle gives the blocks that may be given back. Never is the last block of a family among them that pods get
// addresses of, nor one without which too few addresses would be left.
func (a *Allocator) Idle() []Idle {
	if !a.snap.InSync {
		return nil
	}
	var all []Idle
	gone := map[netip.Prefix]bool{}
	none := limitsIn(a.snap).none
	for _, o := range a.blocks.empty() {
		useless := o.rival != nil || !a.blocks.rules.reached(api.FamilyOf(o.prefix.Addr())) ||
			!slices.ContainsFunc(a.enabled, func(p Pool) bool { return p.holds(o.prefix) })
		// Blocks that this node couldn't claim again stay.
		if !useless && (none || !a.dispensable(o, gone)) {
			continue
		}
		gone[o.prefix] = true
		all = append(all, Idle{o.prefix, useless})
	}
	return all
}

// dispensable says whether the node has enough addresses without a block, and without those that are gone already.
func (a *Allocator) dispensable(o *owned, gone map[netip.Prefix]bool) bool {
	ps := of(automatic(a.enabled, nil), api.FamilyOf(o.prefix.Addr()))
	if !slices.ContainsFunc(ps, func(p Pool) bool { return p.holds(o.prefix) }) {
		return true // those who ask for one of its addresses by name wait for a claim
	}
	s := a.stock(ps, func(b netip.Prefix) bool { return b != o.prefix && !gone[b] })
	return s.blocks > 0 && s.free >= spareFactor*s.water
}

// stock is what this node has to give out.
type stock struct {
	// free counts addresses; fewer than water are too few.
	free, water, blocks int
}

// stock counts the blocks of the pools that can be assigned from and are to be counted.
func (a *Allocator) stock(ps []Pool, counts func(netip.Prefix) bool) stock {
	s := stock{}
	for _, o := range a.blocks.open() {
		if counts(o.prefix) && slices.ContainsFunc(ps, func(p Pool) bool { return p.holds(o.prefix) }) {
			s.blocks++
			s.free += o.block.Free(a.reserved)
			s.water = max(s.water, min(maxLowWater, o.block.Size()/4), 1)
		}
	}
	return s
}

// SetLeaving says which blocks are being given back, as Keeper.Leaving says. Nothing more is assigned of those
// that nothing is in use of; the others are told by being absent from Wants.Closed.
func (a *Allocator) SetLeaving(list []netip.Prefix) {
	a.blocks.leaving = map[netip.Prefix]bool{}
	for _, o := range a.blocks.empty() {
		if slices.Contains(list, o.prefix) {
			a.blocks.leaving[o.prefix] = true
		}
	}
}

// closed gives the blocks that are being given back and still have nothing in use.
func (a *Allocator) closed() []netip.Prefix {
	var all []netip.Prefix
	for _, o := range a.blocks.empty() {
		if a.blocks.leaving[o.prefix] {
			all = append(all, o.prefix)
		}
	}
	return all
}

// empty gives the confirmed blocks of which nothing is in use or cools down, by this node's knowledge. What another node
// has borrowed only the datastore knows for sure.
func (bs *blocks) empty() []*owned {
	return slices.DeleteFunc(bs.usable(), func(o *owned) bool { return o.block.Held() > 0 })
}
