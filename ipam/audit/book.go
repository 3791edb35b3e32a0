// SPDX-License-Identifier: Apache-2.0

// Package audit compares what the datastore says of addresses: blocks and their allocations, affinities,
// endpoints, nodes and pools. It finds what contradicts itself, counts what is in use, tells whose an address is,
// and plans what can be released. It is pure: one Snapshot in, values out; what it plans, others carry out.
//
// Open book.go first, then finding.go and release.go.
package audit

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"korat/api"
)

// Book is one Snapshot, opened up so that addresses can be looked up.
type Book struct {
	snap   api.Snapshot
	pools  []pool
	blocks []*blk
	// blockAt finds blocks by their range, blockBits has the lengths that there are.
	blockAt   map[netip.Prefix]*blk
	blockBits []int
	// held has every address that is not free, byHandle those of each handle; both in order of address.
	held     map[netip.Addr][]Allocation
	byHandle map[string][]Allocation
	// endpoints are those that have an address, in order of their keys.
	endpoints map[netip.Addr][]*api.WorkloadEndpoint
	reserved  []netip.Prefix
	// unread is what could not be read.
	unread []Finding
}

// pool is an IPPool that could be read.
type pool struct {
	*api.IPPool
	prefix netip.Prefix
}

// blk is an IPAMBlock with a range.
type blk struct {
	*api.IPAMBlock
	prefix netip.Prefix
	// owner is the node that it belongs to, or empty.
	owner       string
	allocations []Allocation
}

// Read opens a Snapshot that has IPPool, IPReservation, IPAMBlock, BlockAffinity, WorkloadEndpoint and Node.
func Read(snap api.Snapshot) *Book {
	b := &Book{
		snap: snap, blockAt: map[netip.Prefix]*blk{}, held: map[netip.Addr][]Allocation{},
		byHandle: map[string][]Allocation{}, endpoints: map[netip.Addr][]*api.WorkloadEndpoint{},
	}
	b.readPools()
	b.readBlocks()
	b.readEndpoints()
	return b
}

func (b *Book) readPools() {
	for _, obj := range b.snap.IPPools.All() {
		p, err := netip.ParsePrefix(obj.Spec.CIDR)
		if err != nil {
			b.cannotRead(obj, err)
			continue
		}
		b.pools = append(b.pools, pool{obj, p.Masked()})
	}
	for _, obj := range b.snap.IPReservations.All() {
		for _, text := range obj.Spec.ReservedCIDRs {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				b.cannotRead(obj, err)
				continue
			}
			b.reserved = append(b.reserved, p.Masked())
		}
	}
	b.reserved = outermost(b.reserved)
}

func (b *Book) readBlocks() {
	for _, obj := range b.snap.IPAMBlocks.All() {
		p, err := netip.ParsePrefix(obj.Spec.CIDR)
		if err == nil {
			err = readable(obj, p)
		}
		if err != nil {
			b.cannotRead(obj, err)
		}
		if !p.IsValid() || p != p.Masked() || b.blockAt[p] != nil {
			continue
		}
		x := &blk{IPAMBlock: obj, prefix: p, owner: nodeOf(obj)}
		x.allocations = allocations(x)
		b.blocks = append(b.blocks, x)
		b.blockAt[p] = x
		if !slices.Contains(b.blockBits, p.Bits()) {
			b.blockBits = append(b.blockBits, p.Bits())
		}
	}
	slices.SortFunc(b.blocks, func(x, y *blk) int { return x.prefix.Compare(y.prefix) })
	b.index()
}

// index fills held and byHandle.
func (b *Book) index() {
	for _, x := range b.blocks {
		for _, a := range x.allocations {
			b.held[a.Address] = append(b.held[a.Address], a)
			if a.Use == InUse {
				b.byHandle[a.Handle] = append(b.byHandle[a.Handle], a)
			}
		}
	}
}

func (b *Book) readEndpoints() {
	for _, obj := range b.snap.WorkloadEndpoints.All() {
		if reason := api.Unreadable(obj); reason != "" {
			b.cannotRead(obj, errors.New(reason))
		}
		for _, text := range obj.Spec.IPNetworks {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				b.cannotRead(obj, err)
				continue
			}
			b.endpoints[p.Addr()] = append(b.endpoints[p.Addr()], obj)
		}
	}
}

// blockOf gives the smallest block that an address belongs to, or nil.
func (b *Book) blockOf(addr netip.Addr) *blk {
	var found *blk
	for _, bits := range b.blockBits {
		if p, err := addr.Prefix(bits); err == nil && b.blockAt[p] != nil && (found == nil || bits > found.prefix.Bits()) {
			found = b.blockAt[p]
		}
	}
	return found
}

// poolOf gives the pool that has a whole range.
func (b *Book) poolOf(p netip.Prefix) (pool, bool) {
	i := slices.IndexFunc(b.pools, func(x pool) bool { return x.prefix.Contains(p.Addr()) && x.prefix.Bits() <= p.Bits() })
	if i < 0 {
		return pool{}, false
	}
	return b.pools[i], true
}

// hasNode says whether there is a Node of the name.
func (b *Book) hasNode(name string) bool {
	_, ok := b.snap.Nodes.Get(name)
	return ok
}

// isReserved says whether an IPReservation has the address.
func (b *Book) isReserved(addr netip.Addr) bool {
	return slices.ContainsFunc(b.reserved, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// nodeOf gives the node of a block's "host:<node>".
func nodeOf(obj *api.IPAMBlock) string {
	if obj.Spec.Affinity == nil {
		return ""
	}
	node, ok := strings.CutPrefix(*obj.Spec.Affinity, api.AffinityHost+":")
	if !ok {
		return ""
	}
	return node
}

// single gives the range of one address.
func single(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

// outermost gives the ranges in order, without those within another.
func outermost(ranges []netip.Prefix) []netip.Prefix {
	slices.SortFunc(ranges, netip.Prefix.Compare)
	var all []netip.Prefix
	for _, p := range ranges {
		if n := len(all); n == 0 || !all[n-1].Overlaps(p) {
			all = append(all, p)
		}
	}
	return all
}
