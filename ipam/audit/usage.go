// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"math"
	"net/netip"
	"slices"
)

// Usage counts a range's addresses. Those of an IPv6 pool are more than any integer holds.
type Usage struct {
	Total float64 `json:"total"`
	// InUse are held by pods, Cooling were released a moment ago.
	InUse   int `json:"inUse"`
	Cooling int `json:"cooling"`
	// Reserved are kept back by an IPReservation; one that a pod has all the same counts as in use.
	Reserved float64 `json:"reserved"`
	// Free is the rest. Leased are those among it that a node keeps for its pods to come.
	Free   float64 `json:"free"`
	Leased int     `json:"leased"`
	// Borrowed are those in use that another node has than the one of the block.
	Borrowed int `json:"borrowed"`
}

// PoolUsage is how full a pool is.
type PoolUsage struct {
	// Name is empty for what no pool has.
	Name string `json:"name"`
	CIDR string `json:"cidr,omitempty"`
	// State is "enabled", "disabled" or "terminating".
	State string `json:"state,omitempty"`
	Usage Usage  `json:"usage"`
	// BlockCount is that of Blocks, which may be left out.
	BlockCount int          `json:"blockCount"`
	Blocks     []BlockUsage `json:"blocks,omitempty"`
}

// BlockUsage is how full a block is.
type BlockUsage struct {
	CIDR string `json:"cidr"`
	Node string `json:"node,omitempty"`
	// State is that of the node's affinity; empty if it has none.
	State string `json:"state,omitempty"`
	Usage Usage  `json:"usage"`
}

// Usage gives the pools in order of their names, each with its blocks in order, and last the blocks that
// no pool has, if any.
func (b *Book) Usage() []PoolUsage {
	all := make([]PoolUsage, 0, len(b.pools)+1)
	index := map[string]int{}
	for i, p := range b.pools {
		index[p.Name] = i
		u := PoolUsage{Name: p.Name, CIDR: p.prefix.String(), State: p.state()}
		u.Usage.Total, u.Usage.Reserved = addresses(p.prefix), b.reservedIn(p.prefix)
		all = append(all, u)
	}
	outside := PoolUsage{}
	for _, x := range b.blocks {
		u := b.blockUsage(x)
		if p, ok := b.poolOf(x.prefix); ok {
			in := &all[index[p.Name]]
			in.Usage.Reserved -= b.reservedIn(x.prefix) // what of it is in use counts as that
			in.add(u)
			continue
		}
		outside.Usage.Total += u.Usage.Total
		outside.add(u)
	}
	if len(outside.Blocks) > 0 {
		all = append(all, outside)
	}
	for i := range all {
		all[i].Usage.settle()
	}
	return all
}

// add counts a block in.
func (p *PoolUsage) add(u BlockUsage) {
	p.Blocks = append(p.Blocks, u)
	p.BlockCount++
	p.Usage.InUse += u.Usage.InUse
	p.Usage.Cooling += u.Usage.Cooling
	p.Usage.Leased += u.Usage.Leased
	p.Usage.Borrowed += u.Usage.Borrowed
	p.Usage.Reserved += u.Usage.Reserved
}

func (u *Usage) settle() {
	u.Free = max(0, u.Total-float64(u.InUse)-float64(u.Cooling)-u.Reserved)
}

func (b *Book) blockUsage(x *blk) BlockUsage {
	u := BlockUsage{CIDR: x.prefix.String(), Node: x.owner}
	if aff := b.affinityTo(x); aff != nil {
		u.State = aff.Spec.State
	}
	u.Usage.Total, u.Usage.Reserved = addresses(x.prefix), b.reservedIn(x.prefix)
	for _, a := range x.allocations {
		switch a.Use {
		case InUse:
			u.Usage.InUse++
		case Cooling:
			u.Usage.Cooling++
		case Leased:
			u.Usage.Leased++
			continue
		}
		if a.Borrowed() {
			u.Usage.Borrowed++
		}
		if b.isReserved(a.Address) {
			u.Usage.Reserved--
		}
	}
	u.Usage.settle()
	return u
}

// reservedIn counts the reserved addresses of a range.
func (b *Book) reservedIn(p netip.Prefix) float64 {
	n := 0.0
	for _, r := range b.reserved {
		switch {
		case !r.Overlaps(p):
		case r.Bits() <= p.Bits():
			return addresses(p)
		default:
			n += addresses(r)
		}
	}
	return n
}

// addresses counts those of a range: exactly, as a power of two.
func addresses(p netip.Prefix) float64 { return math.Ldexp(1, p.Addr().BitLen()-p.Bits()) }

// Borrowed gives the addresses that nodes have from other nodes' blocks, in order.
func (b *Book) Borrowed() []Allocation {
	return slices.DeleteFunc(b.Allocations(), func(a Allocation) bool { return !a.Borrowed() })
}

// Allocations gives every address that is not free, in order.
func (b *Book) Allocations() []Allocation {
	all := []Allocation{}
	for _, x := range b.blocks {
		all = append(all, x.allocations...)
	}
	return sorted(all)
}
