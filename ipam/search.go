// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"korat/api"
	"korat/ipam/block"
)

// maxIndexBits bounds the blocks of a pool that are ever looked at; only IPv6 pools have more.
const maxIndexBits = 62

// obstacles are what a new block must not touch.
type obstacles struct {
	// exact are taken blocks of the pool's size; larger are taken ranges of more.
	exact  map[netip.Prefix]bool
	larger []netip.Prefix
	// ranges are the reservations that cover whole blocks.
	ranges []netip.Prefix
	// reserved says whether an address is reserved; nil if none is.
	reserved func(netip.Addr) bool
}

// obstaclesIn collects what a Snapshot says about a pool: blocks, and claims of other nodes that
// have no block yet.
func obstaclesIn(snap api.Snapshot, pool Pool, node string) obstacles {
	obs := obstacles{exact: map[netip.Prefix]bool{}}
	for _, obj := range snap.IPAMBlocks.All() {
		obs.add(pool, obj.Spec.CIDR)
	}
	for _, obj := range snap.BlockAffinities.All() {
		if obj.Spec.Node != node {
			obs.add(pool, obj.Spec.CIDR)
		}
	}
	reserved, _ := readReservations(snap.IPReservations)
	obs.reserved = within(reserved)
	for _, r := range reserved {
		if r.Bits() <= pool.BlockBits {
			obs.ranges = append(obs.ranges, r)
		}
	}
	return obs
}

// obstacles gives what a new block of the pool must not touch.
func (c *claims) obstacles(pool Pool) obstacles {
	obs := obstaclesIn(c.snap, pool, c.node)
	for _, o := range c.hosts {
		obs.take(pool, o.Range)
	}
	return obs
}

// add notes a taken range as an object has it.
func (obs *obstacles) add(pool Pool, cidr string) {
	if p, err := netip.ParsePrefix(cidr); err == nil {
		obs.take(pool, p)
	}
}

// take notes a taken range. One smaller than the pool's blocks takes the whole block around it.
func (obs *obstacles) take(pool Pool, p netip.Prefix) {
	switch {
	case !p.Overlaps(pool.CIDR):
	case p.Bits() < pool.BlockBits:
		obs.larger = append(obs.larger, p)
	default:
		obs.exact[pool.blockOf(p.Addr())] = true
	}
}

// taken gives the range that keeps anybody from claiming a block: the block itself or a larger one.
func (obs *obstacles) taken(b netip.Prefix) (netip.Prefix, bool) {
	if obs.exact[b] {
		return b, true
	}
	return overlapping(b, obs.larger)
}

func overlapping(b netip.Prefix, ranges []netip.Prefix) (netip.Prefix, bool) {
	for _, r := range ranges {
		if r.Overlaps(b) {
			return r, true
		}
	}
	return b, false
}

// useless gives the range that keeps a block from being chosen: taken or wholly reserved.
func (obs *obstacles) useless(b netip.Prefix) (netip.Prefix, bool) {
	if r, ok := obs.taken(b); ok {
		return r, true
	}
	if r, ok := overlapping(b, obs.ranges); ok {
		return r, true
	}
	if obs.reserved == nil {
		return b, false
	}
	empty, err := block.New(b, "")
	return b, err != nil || empty.Free(obs.reserved) == 0
}

// free gives the node's next block of the pool that nothing stands in the way of. Each node looks
// from a place of its own, derived from its name, so that nodes that start together don't ask
// for the same block. The order never changes, so that a claim cut short is found again.
func (p Pool) free(node string, obs obstacles) (netip.Prefix, bool) {
	total := uint64(1) << min(p.BlockBits-p.CIDR.Bits(), maxIndexBits)
	sum := sha256.Sum256([]byte(node + " " + p.CIDR.String()))
	start := binary.BigEndian.Uint64(sum[:]) & (total - 1)
	if b, ok := p.search(start, total, obs); ok {
		return b, true
	}
	return p.search(0, start, obs)
}

// search looks at the blocks with index from to below to.
func (p Pool) search(from, to uint64, obs obstacles) (netip.Prefix, bool) {
	for i := from; i < to; {
		b := p.block(i)
		r, useless := obs.useless(b)
		if !useless {
			return b, true
		}
		if p.BlockBits-r.Bits() > maxIndexBits {
			break
		}
		// A range of 2^n blocks is aligned to as many: go on behind it.
		i = i | (1<<(p.BlockBits-r.Bits()) - 1) + 1
	}
	return netip.Prefix{}, false
}

// block gives the pool's block with an index.
func (p Pool) block(index uint64) netip.Prefix {
	base := p.CIDR.Addr()
	shift := base.BitLen() - p.BlockBits
	if base.Is4() {
		raw := base.As4()
		binary.BigEndian.PutUint32(raw[:], binary.BigEndian.Uint32(raw[:])|uint32(index<<shift))
		return netip.PrefixFrom(netip.AddrFrom4(raw), p.BlockBits)
	}
	raw := base.As16()
	high, low := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	binary.BigEndian.PutUint64(raw[:8], high|index>>(64-shift))
	binary.BigEndian.PutUint64(raw[8:], low|index<<shift)
	return netip.PrefixFrom(netip.AddrFrom16(raw), p.BlockBits)
}
