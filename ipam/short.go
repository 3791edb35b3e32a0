// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Way is how a need can be met.
type Way uint8

// The ways, in the order in which they are tried.
const (
	// ByClaim: this node claims a block.
	ByClaim Way = iota
	// ByLease: a block of this node that lends has addresses to lease.
	ByLease
	// ByBorrowing: another node's block has some.
	ByBorrowing
)

func holdAny(ps []Pool, b netip.Prefix) bool {
	return slices.ContainsFunc(ps, func(p Pool) bool { return p.holds(b) })
}

// again gives an address that the handle gave back and that still cools down: it may have it at once.
func (a *Allocator) again(handle string, ps []Pool) (netip.Addr, bool) {
	for _, o := range a.blocks.open() {
		if !holdAny(ps, o.prefix) {
			continue
		}
		for addr := range o.idle.since {
			if al, ok := o.block.At(addr); ok && al.Cooling() && al.Handle == handle && o.usable(addr) && (a.reserved == nil || !a.reserved(addr)) {
				return addr, true
			}
		}
	}
	return netip.Addr{}, false
}

// leasable says whether a block of the pools has a free address that this node needs a lease for.
func (a *Allocator) leasable(ps []Pool) bool {
	return slices.ContainsFunc(a.blocks.open(), func(o *owned) bool {
		if !holdAny(ps, o.prefix) || o.lease.terms.lending == "" {
			return false
		}
		_, ok := o.block.Next(a.reserved)
		return ok
	})
}

// short says what a request has to wait for that finds no free address in the pools; the error says why there is
// nothing to wait for, or just time.
func (a *Allocator) short(ps []Pool) (Need, error) {
	if a.leasable(ps) {
		return Need{Pools: ps, Way: ByLease}, nil
	}
	why := a.barred()
	if why == nil && !a.allExhausted(ps) {
		return Need{Pools: ps}, nil
	}
	if from, _ := a.lenders(ps); len(from) > 0 {
		return Need{Pools: ps, Way: ByBorrowing}, nil
	}
	if n, until := a.cooling(ps); n > 0 {
		return Need{}, &NeedError{Reason: fmt.Sprintf("all addresses of this node's blocks are in use or were released less than %s ago, and no block can be claimed: "+
			"%d are cooling down, the first until %s", a.blocks.rules.cooldown, n, until.UTC().Format(time.TimeOnly)+" UTC")}
	}
	if why == nil {
		why = a.full(ps)
	}
	return Need{}, why
}

// waiting gives the needs of requests that wait for something else than a claim, one for each request.
func (a *Allocator) waiting(by Way) []Need {
	var needs []Need
	for _, d := range a.demand {
		if age := a.now().Sub(d.at); age > demandLife || age < -demandLife {
			continue
		}
		for _, n := range d.needs {
			if n.Way == by && by != ByClaim {
				needs = append(needs, n)
			}
		}
	}
	return needs
}
