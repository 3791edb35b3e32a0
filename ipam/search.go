// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"korat/api"
	"korat/ipam/block"
)

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
	start := p.start(node)
	if b, ok := p.search(start, netip.Addr{}, obs); ok {
		return b, true
	}
	return p.search(p.CIDR.Addr(), start, obs)
}

// start gives the first address of the block that a node looks at first: what the pool and its block size leave open of
// it are the last bits of a hash.
func (p Pool) start(node string) netip.Addr {
	sum := sha256.Sum256([]byte(node + " " + p.CIDR.String()))
	low, high := binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:])
	raw := p.CIDR.Addr().AsSlice()
	for at := p.BlockBits - 1; at >= p.CIDR.Bits(); at-- {
		raw[at/8] |= byte(low&1) << (7 - at%8)
		low, high = low>>1|high<<63, high>>1
	}
	start, _ := netip.AddrFromSlice(raw)
	return start
}

// search looks at the blocks from one that begins with an address to before another; to the pool's end without
// that.
func (p Pool) search(from, until netip.Addr, obs obstacles) (netip.Prefix, bool) {
	for a := from; p.CIDR.Contains(a) && (!until.IsValid() || a.Less(until)); {
		b := netip.PrefixFrom(a, p.BlockBits)
		r, useless := obs.useless(b)
		if !useless {
			return b, true
		}
		a = last(r).Next() // r is as large as a block or larger, and aligned
	}
	return netip.Prefix{}, false
}

// last gives a range's last address.
func last(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for at := p.Bits(); at < len(raw)*8; at++ {
		raw[at/8] |= 1 << (7 - at%8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}
