// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"korat/api"
)

// maxLowWater is the number of free addresses below which another block is claimed ahead of use;
// for small blocks it is a quarter of one.
const maxLowWater = 16

// demandLife is how long a failed request counts if it is not repeated.
const demandLife = 2 * time.Minute

// Need is one block to claim, or what else a request waits for.
type Need struct {
	// Pools to claim it from, the first that has one left.
	Pools []Pool
	// Block is the very block that is needed; the zero Prefix leaves the choice.
	Block netip.Prefix
	Way   Way
}

// reason says what a request waits for that has the need.
func (n Need) reason() string {
	switch {
	case n.Way == ByLease:
		return "an address has to be leased in a block of this node, as its other addresses may be lent: " + list(n.Pools)
	case n.Way == ByBorrowing:
		return "an address has to be borrowed from another node's block of " + list(n.Pools)
	case n.Block.IsValid():
		return fmt.Sprintf("block %s has to be claimed first", n.Block)
	default:
		return "a block has to be claimed from " + list(n.Pools)
	}
}

// key is equal for equal needs.
func (n Need) key() string { return fmt.Sprint(n.Block, n.Pools, n.Way) }

// demand is what a failed request asked for.
type demand struct {
	needs []Need
	at    time.Time
}

// Needs gives the blocks that this node should claim now: what failed requests wait for, what
// addresses in use belong to that the datastore has lost, and for each family that the node has one before
// the first pod and another when free addresses run low.
func (a *Allocator) Needs() []Need {
	if !a.snap.InSync {
		return nil
	}
	needs := a.demanded()
	barred := a.barred() != nil
	if barred {
		clear(needs)
	}
	for addr := range a.holders.byAddr {
		if n, _ := a.missing(addr); n != nil { // why it can't be claimed is among the Problems
			needs[n.key()] = *n
		}
	}
	for _, f := range api.Families() {
		if ps := of(automatic(a.enabled, nil), f); len(ps) > 0 && !barred && a.blocks.rules.reached(f) && a.low(ps) {
			n := Need{Pools: ps}
			needs[n.key()] = n
		}
	}
	return ordered(needs)
}

// demanded gives what failed requests still wait for.
func (a *Allocator) demanded() map[string]Need {
	needs := map[string]Need{}
	for handle, d := range a.demand {
		if age := a.now().Sub(d.at); age > demandLife || age < -demandLife {
			delete(a.demand, handle)
			continue
		}
		for _, n := range d.needs {
			if n.Way == ByClaim && a.unmet(n) {
				needs[n.key()] = n
			}
		}
	}
	return needs
}

// ordered puts specific blocks first: another need may be met by one of them.
func ordered(needs map[string]Need) []Need {
	var list []Need
	for _, n := range needs {
		list = append(list, n)
	}
	slices.SortFunc(list, func(x, y Need) int {
		if x.Block.IsValid() != y.Block.IsValid() {
			if x.Block.IsValid() {
				return -1
			}
			return 1
		}
		return slices.Compare([]byte(x.key()), []byte(y.key()))
	})
	return list
}

// unmet says whether a request's need still stands after later Snapshots.
func (a *Allocator) unmet(n Need) bool {
	for _, p := range n.Pools {
		if !slices.Contains(a.enabled, p) {
			return false // the request will be judged anew
		}
	}
	if n.Block.IsValid() {
		o := a.blocks.all[n.Block]
		return o == nil || !o.confirmed || a.blocks.leaving[n.Block]
	}
	_, ok := a.idlest(n.Pools)
	return !ok
}

// low says whether the node should have another block of the pools.
func (a *Allocator) low(ps []Pool) bool {
	s := a.stock(ps, func(netip.Prefix) bool { return true })
	return s.blocks == 0 || s.free < s.water
}

// Wants is all that the Keeper has to know.
type Wants struct {
	Snapshot api.Snapshot
	Needs    []Need
	Changes  []Change
	Loans    []Loan
	// Obstacles are those of SetObstacles that overlap a pool.
	Obstacles []Obstacle
	// Idle and Closed are blocks to give back: those that the node could do without, and those that nothing is
	// assigned of any more.
	Idle   []Idle
	Closed []netip.Prefix
	// Used are the addresses of this node's pods.
	Used []netip.Addr
	// Reserved says which addresses are not to be borrowed; it may be nil.
	Reserved func(netip.Addr) bool
}

// Wants gives Needs and Changes with the Snapshot that they were worked out from.
func (a *Allocator) Wants() Wants {
	return Wants{
		Snapshot: a.snap, Needs: a.Needs(), Changes: a.Changes(), Loans: a.Loans(), Obstacles: a.hosts.near, Reserved: a.reserved,
		Idle: a.Idle(), Closed: a.closed(), Used: slices.Collect(maps.Keys(a.holders.byAddr)),
	}
}

// SetExhausted tells which pools have no block left to claim, as Keeper.Exhausted says. While
// all usable pools are among them, Assign fails with ErrNoAddress instead of ErrNeedBlock.
func (a *Allocator) SetExhausted(pools []string) { a.exhausted = pools }

func (a *Allocator) allExhausted(ps []Pool) bool {
	return !slices.ContainsFunc(ps, func(p Pool) bool { return !slices.Contains(a.exhausted, p.Name) })
}

// full works out how full the pools are, for the error.
func (a *Allocator) full(ps []Pool) error {
	e := &FullError{}
	own := a.blocks.usable()
	for _, p := range ps {
		use := PoolUse{Pool: p, Obstacles: a.hosts.of(p)}
		for _, obj := range a.snap.IPAMBlocks.All() {
			if b, err := netip.ParsePrefix(obj.Spec.CIDR); err == nil && p.holds(b) {
				use.Taken++
			}
		}
		for _, o := range own {
			if p.holds(o.prefix) {
				use.Own++
				use.Size += o.block.Size()
				use.Held += o.block.Held()
				use.Reserved += o.block.Free(nil) - o.block.Free(a.reserved)
			}
		}
		e.Pools = append(e.Pools, use)
	}
	return e
}
