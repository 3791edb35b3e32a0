// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"net/netip"
	"slices"
	"time"

	"korat/api"
	"korat/ipam/block"
)

// The annotations of an IPAMBlock by which its owner lends addresses; see docs/decisions/0009.
const (
	// lendingAnnotation is lendingPrepared once the owner assigns nothing but what it has leased, and lendingOpen
	// once all that it has assigned is leased as well: only then may others take what is unallocated.
	lendingAnnotation = "korat.io/lending"
	lendingPrepared   = "prepared"
	lendingOpen       = "true"
	// lenderAnnotation says which run of the owner's agent has written the block last. A write of an earlier run
	// that is still under way can't succeed any more.
	lenderAnnotation = "korat.io/lending-agent"
)

// terms are what a block's object says about lending. The zero terms: the whole block is its owner's, but for
// what is lent.
type terms struct{ lending, agent string }

func termsOf(obj *api.IPAMBlock) terms {
	return terms{obj.Annotations[lendingAnnotation], obj.Annotations[lenderAnnotation]}
}

// write makes the object say them.
func (t terms) write(obj *api.IPAMBlock) {
	for key, value := range map[string]string{lendingAnnotation: t.lending, lenderAnnotation: t.agent} {
		if value == "" {
			delete(obj.Annotations, key)
			continue
		}
		if obj.Annotations == nil {
			obj.Annotations = map[string]string{}
		}
		obj.Annotations[key] = value
	}
}

// lease is how much of its own block a node may assign from.
type lease struct {
	// terms are those of the newest copy.
	terms terms
	// given are addresses that this node has given up, until a copy shows that they are free. Each is given up for
	// good: the write that does it may be under way at any time until then.
	given map[netip.Addr]bool
	// asked are those that were asked for by name, and when.
	asked map[netip.Addr]time.Time
	// lent are those that other nodes' pods may have.
	lent []netip.Addr
}

func newLease() lease {
	return lease{given: map[netip.Addr]bool{}, asked: map[netip.Addr]time.Time{}}
}

// wanted are the terms that the block ought to have next.
func (o *owned) wanted() terms {
	switch r := o.idle.rules; {
	case r.strict:
		return terms{}
	case o.lease.terms.lending == "":
		return terms{lending: lendingPrepared}
	default:
		return terms{lendingOpen, r.agent}
	}
}

// usable says whether a free address may be assigned: while the block's object lends, only what it says is this
// node's, by a write of this very run.
func (o *owned) usable(addr netip.Addr) bool {
	r := o.idle.rules
	switch {
	case o.lease.terms.lending == "":
		return true
	case o.lease.terms != terms{lendingOpen, r.agent}:
		return false
	}
	return o.ours(addr)
}

// ours says whether the newest copy has the address as this node's, and it was not given up since.
func (o *owned) ours(addr netip.Addr) bool {
	if o.newest == nil || o.lease.given[addr] {
		return false
	}
	_, held := o.newest.At(addr)
	return held && !foreignAt(o.newest, addr)
}

// next is the longest-idle address that may be assigned.
func (o *owned) next(reserved func(netip.Addr) bool) (netip.Addr, bool) {
	if o.lease.terms.lending == "" {
		return o.block.Next(reserved)
	}
	return o.block.Next(func(addr netip.Addr) bool { return reserved != nil && reserved(addr) || !o.usable(addr) })
}

// want is what the datastore ought to have of the block: what is known here, and leases on addresses for pods to
// come. It gives up the surplus of them.
func (o *owned) want(waiting int, reserved func(netip.Addr) bool) *block.Block {
	if o.wanted().lending != lendingOpen || o.newest == nil {
		return o.block
	}
	b := o.block.Clone()
	r := o.idle.rules
	for _, addr := range o.leases(waiting, reserved) {
		if al, _ := o.newest.At(addr); al.LeasedBy(r.node, r.agent) {
			b.Match(addr, o.newest)
		} else {
			_ = b.Hold(addr, block.Lease(r.node, r.agent)) // it is in the block
		}
	}
	return b
}

// leases gives the free addresses to lease: those that are leased, more if they run low, and fewer
// if they are many.
func (o *owned) leases(waiting int, reserved func(netip.Addr) bool) []netip.Addr {
	have, more := o.leasable(reserved)
	return o.withAsked(o.level(have, more, waiting), more)
}

// leasable gives the free addresses that are leased, and those that could be. It gives up what is leased and
// reserved by now.
func (o *owned) leasable(reserved func(netip.Addr) bool) (have, more []netip.Addr) {
	for addr := range o.block.Idle() {
		switch barred := reserved != nil && reserved(addr); {
		case o.ours(addr) && barred:
			o.lease.given[addr] = true
		case o.ours(addr):
			have = append(have, addr)
		case o.lease.given[addr] || barred && o.lease.asked[addr].IsZero():
		case o.free(addr):
			more = append(more, addr)
		}
	}
	return have, more
}

// level adds to the leases if they run low for the requests that wait, and gives up some if they are many.
func (o *owned) level(have, more []netip.Addr, waiting int) []netip.Addr {
	water := min(maxLowWater, max(1, o.block.Size()/4))
	low, high := water+waiting, 2*water+waiting
	switch n := len(have); {
	case n < low:
		have = append(have, more[:min(len(more), high-n)]...)
	case n > high+water:
		for _, addr := range have[high:] {
			o.lease.given[addr] = true
		}
		have = have[:high]
	}
	return have
}

// withAsked adds to the leases what was asked for by name, and forgets what was asked for long ago.
func (o *owned) withAsked(have, more []netip.Addr) []netip.Addr {
	for addr, at := range o.lease.asked {
		if age := o.idle.rules.now().Sub(at); age > demandLife || age < -demandLife {
			delete(o.lease.asked, addr)
		} else if slices.Contains(more, addr) && !slices.Contains(have, addr) {
			have = append(have, addr)
		}
	}
	return have
}

// free says whether anybody could take the address by the newest copy.
func (o *owned) free(addr netip.Addr) bool {
	return o.newest != nil && free(o.newest, addr)
}

// see takes in the newest copy's terms and what became of the addresses that were given up.
func (l *lease) see(t terms, newest *block.Block) {
	l.terms, l.lent = t, nil
	for addr := range l.given {
		if _, held := newest.At(addr); !held || foreignAt(newest, addr) {
			delete(l.given, addr)
		}
	}
	for addr, al := range newest.All() {
		if foreignAt(newest, addr) && !al.Leased() {
			l.lent = append(l.lent, addr)
		}
	}
}

// Lent gives the addresses of this node's blocks that pods of other nodes have: they are there, not here.
func (a *Allocator) Lent() []netip.Addr {
	var lent []netip.Addr
	for _, o := range a.blocks.own() {
		lent = append(lent, o.lease.lent...)
	}
	return lent
}
