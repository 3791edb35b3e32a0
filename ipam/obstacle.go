// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"slices"
)

// Obstacle is a range that belongs to hosts. A block there would divert the hosts' own traffic.
type Obstacle struct {
	Range netip.Prefix
	// What says whose it is, e.g. "the subnet of eth0".
	What string
}

// String gives "192.168.100.0/24, the subnet of eth0".
func (o Obstacle) String() string { return fmt.Sprintf("%s, %s", o.Range, o.What) }

// hosts is what pods must keep off.
type hosts struct {
	all []Obstacle
	// near are those that overlap a pool; as a rule there are none.
	near []Obstacle
	// reservations are the ranges of IPReservations, which pods keep off as well.
	reservations []netip.Prefix
}

// SetObstacles replaces the ranges that belong to hosts. No block that overlaps one is claimed, and no address
// of one is assigned, by name or not. In a block that this node has already, a single
// address is kept off alone and a subnet together with the whole block.
func (a *Allocator) SetObstacles(all []Obstacle) {
	a.hosts.all = all
	a.approach()
	a.keepOff()
}

// approach picks the obstacles that matter.
func (a *Allocator) approach() {
	a.hosts.near = nil
	pools := slices.Concat(a.enabled, a.disabled)
	for _, o := range a.hosts.all {
		if slices.ContainsFunc(pools, func(p Pool) bool { return p.CIDR.Overlaps(o.Range) }) {
			a.hosts.near = append(a.hosts.near, o)
		}
	}
}

// keepOff works out what is never assigned automatically.
func (a *Allocator) keepOff() {
	ranges := slices.Clone(a.hosts.reservations)
	for _, o := range a.hosts.near {
		ranges = append(ranges, o.Range)
	}
	if len(a.hosts.near) > 0 {
		for p := range a.blocks.all {
			if _, barred := a.hosts.subnetIn(p); barred {
				ranges = append(ranges, p)
			}
		}
	}
	a.reserved = within(ranges)
}

// in gives an obstacle that a range overlaps.
func (h *hosts) in(p netip.Prefix) (Obstacle, bool) {
	i := slices.IndexFunc(h.near, func(o Obstacle) bool { return o.Range.Overlaps(p) })
	if i < 0 {
		return Obstacle{}, false
	}
	return h.near[i], true
}

// subnetIn gives an obstacle of more than one address that a range overlaps.
func (h *hosts) subnetIn(p netip.Prefix) (Obstacle, bool) {
	i := slices.IndexFunc(h.near, func(o Obstacle) bool { return !o.Range.IsSingleIP() && o.Range.Overlaps(p) })
	if i < 0 {
		return Obstacle{}, false
	}
	return h.near[i], true
}

// offLimits says why no pod may have an address that was asked for by name; nil if one may.
func (a *Allocator) offLimits(addr netip.Addr, pool Pool) error {
	what := "address " + addr.String()
	if o, ok := a.hosts.in(netip.PrefixFrom(addr, addr.BitLen())); ok {
		return &PoolError{what, fmt.Sprintf("it is in %s: ask for one that no host can have", o)}
	}
	block, find := pool.blockOf(addr), a.hosts.in
	if o := a.blocks.containing(addr); o != nil && o.confirmed {
		block, find = o.prefix, a.hosts.subnetIn
	}
	if o, ok := find(block); ok {
		return &PoolError{what, fmt.Sprintf("its block %s overlaps %s: ask for one of another block", block, o)}
	}
	return nil
}

// problems names the pools that overlap what belongs to hosts.
func (h *hosts) problems(pools []Pool) []error {
	var problems []error
	for _, p := range pools {
		near := h.of(p)
		if len(near) == 0 {
			continue
		}
		more := ""
		if len(near) > 1 {
			more = fmt.Sprintf(" (and %d more)", len(near)-1)
		}
		problems = append(problems, fmt.Errorf("IPPool/%s: spec.cidr %s overlaps %s%s: no pod gets an address there: disable the IPPool, create one with a range of its own, and move the pods",
			p.Name, p.CIDR, near[0], more))
	}
	return problems
}

// of gives the obstacles in a pool.
func (h *hosts) of(p Pool) []Obstacle {
	var in []Obstacle
	for _, o := range h.near {
		if o.Range.Overlaps(p.CIDR) {
			in = append(in, o)
		}
	}
	return in
}
