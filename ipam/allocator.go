// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"korat/api"
)

// Allocator knows which addresses of this node's blocks are held, and by whom. It belongs to one
// goroutine, blocks on nothing and writes nothing.
type Allocator struct {
	node string
	now  func() time.Time
	snap api.Snapshot
	pools
	// reserved is never assigned automatically; nil if nothing is reserved.
	reserved      func(netip.Addr) bool
	reservedError error
	hosts         hosts
	blocks        blocks
	holders       holders
	loans         loans
	// demand is what failed requests asked for, by handle.
	demand    map[string]demand
	exhausted []string
}

// NewAllocator gives an allocator that holds nothing yet.
func NewAllocator(node string, now func() time.Time) *Allocator {
	a := &Allocator{
		node: node, now: now, demand: map[string]demand{},
		blocks:  blocks{all: map[netip.Prefix]*owned{}, rules: rules{node: node, agent: rand.Text(), now: now}},
		loans:   loans{all: map[netip.Prefix]*loan{}},
		holders: holders{byHandle: map[string]*holding{}, byAddr: map[netip.Addr][]string{}, gone: map[string]bool{}},
	}
	a.blocks.rules.read(api.Table[*api.IPAMConfiguration]{})
	a.loans.rules = &a.blocks.rules
	return a
}

// Restore takes over addresses that were in use before this process: from the CNI record at
// start, or as known from the kernel. They stay in use whatever the datastore says, in a block of
// ours or not, until Release.
func (a *Allocator) Restore(handle string, attrs map[string]string, addrs []netip.Addr) {
	a.hold(handle, attrs, addrs)
}

// hold makes the handle hold the addresses, in memory and in the blocks.
func (a *Allocator) hold(handle string, attrs map[string]string, addrs []netip.Addr) {
	a.holders.add(handle, attrs, addrs)
	for _, addr := range addrs {
		for _, o := range a.blocks.all {
			if o.prefix.Contains(addr) {
				o.hold(addr, a.holders.holder(addr))
			}
		}
	}
}

// Update takes in a Snapshot: pools, reservations and the confirmed blocks of this node. One that is
// not in sync changes nothing.
func (a *Allocator) Update(snap api.Snapshot) {
	if !snap.InSync {
		return
	}
	first := !a.snap.InSync
	labels := nodeLabels(snap, a.node)
	if first || !snap.IPPools.Same(a.snap.IPPools) || !maps.Equal(labels, nodeLabels(a.snap, a.node)) {
		a.pools = readPools(snap.IPPools, labels)
		a.approach()
	}
	if first || !snap.IPReservations.Same(a.snap.IPReservations) {
		a.hosts.reservations, a.reservedError = readReservations(snap.IPReservations)
	}
	if first || !snap.BlockAffinities.Same(a.snap.BlockAffinities) {
		a.blocks.claimed = confirmed(snap, a.node)
	}
	a.blocks.rules.read(snap.IPAMConfigurations)
	a.blocks.update(snap.IPAMBlocks, a.holders.has, a.overlay)
	// Whoever takes or gives up a block changes the affinities as well.
	if first || !snap.BlockAffinities.Same(a.snap.BlockAffinities) || snap.IPAMBlocks.Len() != a.snap.IPAMBlocks.Len() {
		a.blocks.contest(snap.IPAMBlocks)
	}
	a.keepOff()
	a.snap = snap
	a.thaw()
	a.borrow(first)
}

// overlay brings a block that was read from the datastore up to what is known here.
func (a *Allocator) overlay(o *owned) {
	for handle := range a.holders.gone {
		o.release(handle)
	}
	for addr := range a.holders.byAddr {
		if o.prefix.Contains(addr) {
			o.hold(addr, a.holders.holder(addr))
		}
	}
}

// Release frees all that the handle holds, and forgets its unmet request. Releasing the unknown is
// success. The addresses become the last ones to be assigned again.
func (a *Allocator) Release(handle string) []netip.Addr {
	delete(a.demand, handle)
	freed := a.holders.remove(handle)
	known := a.snap.InSync
	for _, addr := range freed {
		o := a.blocks.containing(addr)
		l := a.loans.containing(addr)
		known = known && (o != nil && o.block != nil || l != nil && l.newest != nil)
	}
	if !known {
		a.holders.gone[handle] = true // a block that is read later may still list it
	}
	for _, o := range a.blocks.all {
		for _, addr := range o.release(handle) {
			if a.holders.has(addr) { // two handles had it: the other one keeps it
				o.hold(addr, a.holders.holder(addr))
			} else if !slices.Contains(freed, addr) {
				freed = append(freed, addr)
			}
		}
	}
	a.loans.release(handle, freed, a.holders.has)
	return freed
}

// Blocks gives the confirmed blocks of this node, in order.
func (a *Allocator) Blocks() []netip.Prefix {
	var ps []netip.Prefix
	for _, o := range a.blocks.own() {
		ps = append(ps, o.prefix)
	}
	return ps
}

// Orphan is an address, of a block of this node or borrowed, that is in use by the datastore's word alone: the
// CNI record does not have it. It may belong to a pod that lost its record, so it stays in use. What another node
// holds of a block is none, nor what is leased.
type Orphan struct {
	Address  netip.Addr
	Handle   string
	Attrs    map[string]string
	Sequence uint64
}

// Orphans lists them in order.
func (a *Allocator) Orphans() []Orphan {
	var all []Orphan
	for _, o := range a.blocks.usable() {
		for addr, al := range o.block.All() {
			if !a.holders.has(addr) && !foreignAt(o.block, addr) && !al.Cooling() {
				all = append(all, Orphan{addr, al.Handle, maps.Clone(al.Attrs), al.Sequence})
			}
		}
	}
	for _, l := range a.loans.sorted() {
		for _, addr := range l.ours(a.node) {
			if al, _ := l.at(addr, a.node); !a.holders.has(addr) && !al.Leased() {
				all = append(all, Orphan{addr, al.Handle, maps.Clone(al.Attrs), al.Sequence})
			}
		}
	}
	return all
}

// ReleaseOrphans frees orphans that the caller knows to be gone for good. One that has been
// released, assigned anew or restored since it was listed is left alone, and named in the error.
func (a *Allocator) ReleaseOrphans(orphans ...Orphan) error {
	var errs []error
	for _, orphan := range orphans {
		o := a.blocks.containing(orphan.Address)
		switch {
		case a.holders.has(orphan.Address):
			errs = append(errs, fmt.Errorf("release orphan %s: it is in use by handle %q", orphan.Address, a.holders.holder(orphan.Address).Handle))
		case o == nil || o.block == nil:
			errs = append(errs, a.loans.releaseOne(orphan.Address, orphan.Sequence))
		default:
			errs = append(errs, o.releaseOne(orphan.Address, orphan.Sequence))
		}
	}
	return errors.Join(errs...)
}
