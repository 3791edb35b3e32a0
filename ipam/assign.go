// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"korat/api"
	"korat/ipam/block"
)

// Request asks for addresses for one handle.
type Request struct {
	// Handle identifies the holder, for Release.
	Handle string
	// Attrs say who it is: namespace, pod. Node and timestamp are added if absent.
	Attrs map[string]string
	// Pools limits a family's addresses to these pools, by name or CIDR; none means all of the family's.
	Pools map[api.Family][]string
	// Addresses asks for exactly these.
	Addresses []netip.Addr
	// Families asks for one address of each that Addresses has none of. Without either it means IPv4 if
	// there is a pool of it, else IPv6.
	Families []api.Family
}

// Assign gives the handle its addresses, all that it asks for or none. A known handle gets what it
// has.
func (a *Allocator) Assign(r Request) ([]netip.Addr, error) {
	if r.Handle == "" {
		return nil, errors.New("assign: the request has no handle")
	}
	if have := a.has(r.Handle); len(have) > 0 {
		return have, sameRequest(r, have)
	}
	addrs, err := a.choose(r)
	var need *NeedError
	if errors.As(err, &need) {
		a.demand[r.Handle] = demand{need.Needs, a.now()}
	}
	if err != nil {
		return nil, fmt.Errorf("assign to %q: %w", r.Handle, err)
	}
	delete(a.demand, r.Handle)
	a.hold(r.Handle, a.attrs(r), addrs)
	return slices.Clone(addrs), nil
}

// has gives what the handle holds. By the datastore's word alone (the record was lost, and the
// runtime asks again) is good enough: nobody else has been given it.
func (a *Allocator) has(handle string) []netip.Addr {
	if have, ok := a.holders.byHandle[handle]; ok {
		return slices.Clone(have.addrs)
	}
	var found []netip.Addr
	var attrs map[string]string
	for _, o := range a.blocks.usable() {
		for addr, al := range o.block.All() {
			if al.Handle == handle && !al.Cooling() && !foreignAt(o.block, addr) {
				found, attrs = append(found, addr), al.Attrs
			}
		}
	}
	for _, l := range a.loans.sorted() {
		for _, addr := range l.ours(a.node) {
			if al, _ := l.at(addr, a.node); al.Handle == handle {
				found, attrs = append(found, addr), al.Attrs
			}
		}
	}
	if len(found) > 0 {
		a.hold(handle, attrs, found)
	}
	return slices.Clone(found)
}

// sameRequest refuses a repeated request that asks for other addresses, or for those of other families.
func sameRequest(r Request, have []netip.Addr) error {
	for _, want := range r.Addresses {
		if !slices.Contains(have, want.Unmap()) {
			return fmt.Errorf("assign to %q: %w: it holds %v, not %s: release it first", r.Handle, ErrNoAddress, have, want)
		}
	}
	for _, f := range api.Families() {
		held := anyOf(have, f)
		if len(r.Families) > 0 && held != (slices.Contains(r.Families, f) || anyOf(r.Addresses, f)) {
			return fmt.Errorf("assign to %q: %w: it holds %v, and is asked for %v: release it first", r.Handle, ErrNoAddress, have, r.Families)
		}
	}
	return nil
}

func (a *Allocator) attrs(r Request) map[string]string {
	attrs := maps.Clone(r.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	if attrs["node"] == "" {
		attrs["node"] = a.node
	}
	if attrs["timestamp"] == "" {
		attrs["timestamp"] = a.now().UTC().Format(time.RFC3339)
	}
	return attrs
}

// choose picks addresses without taking them.
func (a *Allocator) choose(r Request) ([]netip.Addr, error) {
	a.thaw()
	if !a.snap.InSync {
		return nil, &NeedError{Reason: "the datastore has not been read yet"}
	}
	allowed, err := a.pools.named(r.Pools)
	if err != nil {
		return nil, err
	}
	addrs, needs, err := a.specific(r.Addresses, allowed)
	if err != nil {
		return nil, err
	}
	allowed = automatic(allowed, r.Pools)
	if families := r.automatic(allowed); len(families) > 0 {
		more, moreNeeds, err := a.automatic(r.Handle, families, allowed)
		if err != nil {
			return nil, err
		}
		addrs, needs = append(addrs, more...), append(needs, moreNeeds...)
	}
	if len(needs) > 0 {
		return nil, &NeedError{needs, needs[0].reason()}
	}
	slices.SortStableFunc(addrs, func(x, y netip.Addr) int { return x.BitLen() - y.BitLen() })
	return addrs, nil
}

// automatic gives the families of which the request leaves the choice of an address, IPv4 first.
func (r Request) automatic(allowed []Pool) []api.Family {
	switch {
	case len(r.Families) > 0:
	case len(r.Addresses) > 0:
		return nil
	case len(of(allowed, api.IPv4)) == 0 && len(of(allowed, api.IPv6)) > 0:
		return []api.Family{api.IPv6}
	default:
		return []api.Family{api.IPv4}
	}
	families := slices.Compact(slices.Sorted(slices.Values(r.Families)))
	return slices.DeleteFunc(families, func(f api.Family) bool { return anyOf(r.Addresses, f) })
}

// specific checks the asked addresses.
func (a *Allocator) specific(asked []netip.Addr, allowed []Pool) (addrs []netip.Addr, needs []Need, err error) {
	for _, addr := range asked {
		addr = addr.Unmap()
		need, err := a.one(addr, allowed)
		if err != nil {
			return nil, nil, err
		}
		if need != nil {
			needs = append(needs, *need)
		}
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs, needs, nil
}

// one checks one address: the need is not nil if its block has to be claimed first, or the address leased.
func (a *Allocator) one(addr netip.Addr, allowed []Pool) (*Need, error) {
	pool, err := a.pools.of(addr, allowed)
	if err != nil {
		return nil, err
	}
	if a.holders.has(addr) {
		return nil, taken(addr, a.holders.holder(addr))
	}
	if err := a.offLimits(addr, pool); err != nil {
		return nil, err
	}
	if o := a.blocks.containing(addr); o != nil && o.confirmed {
		return a.oneOfOwn(addr, o, pool)
	}
	want := pool.blockOf(addr)
	if obj, ok := a.snap.IPAMBlocks.Get(api.BlockName(want)); ok && !ownedBy(obj, a.node) {
		return nil, &TakenError{Address: addr, Node: owner(obj)}
	}
	if err := a.barred(); err != nil {
		return nil, fmt.Errorf("address %s: %w", addr, err)
	}
	return &Need{Pools: []Pool{pool}, Block: want}, nil
}

// oneOfOwn checks one address of a block that is this node's: the need is not nil if the block is about to leave, or
// the address has to be leased first.
func (a *Allocator) oneOfOwn(addr netip.Addr, o *owned, pool Pool) (*Need, error) {
	if o.block == nil {
		return nil, fmt.Errorf("address %s: %w: IPAMBlock/%s can't be used: %w", addr, ErrNoAddress, api.BlockName(o.prefix), o.broken)
	}
	al, held := o.block.At(addr)
	switch {
	case held && !al.Cooling():
		return nil, taken(addr, al.Holder)
	case o.rival != nil:
		return nil, fmt.Errorf("address %s: %w: its IPAMBlock/%s overlaps IPAMBlock/%s of node %q: delete one of the two",
			addr, ErrNoAddress, api.BlockName(o.prefix), o.rival.Name, owner(o.rival))
	case a.blocks.leaving[o.prefix]:
		return &Need{Pools: []Pool{pool}, Block: o.prefix}, nil // it will be claimed again
	case !o.usable(addr):
		o.lease.asked[addr] = a.now()
		return &Need{Pools: []Pool{pool}, Block: o.prefix, Way: ByLease}, nil
	default:
		return nil, nil
	}
}

func taken(addr netip.Addr, by block.Holder) error {
	return &TakenError{Address: addr, Handle: by.Handle, Namespace: by.Attrs["namespace"], Pod: by.Attrs["pod"]}
}

// owner gives the name of the node that a block belongs to.
func owner(obj *api.IPAMBlock) string {
	const prefix = api.AffinityHost + ":"
	if a := obj.Spec.Affinity; a != nil && len(*a) > len(prefix) && (*a)[:len(prefix)] == prefix {
		return (*a)[len(prefix):]
	}
	return "(none)"
}

// automatic picks the longest-idle address for each family.
func (a *Allocator) automatic(handle string, families []api.Family, allowed []Pool) (addrs []netip.Addr, needs []Need, err error) {
	for _, f := range families {
		ps := of(allowed, f)
		if len(ps) == 0 {
			return nil, nil, &NeedError{Reason: a.pools.none(f)}
		}
		addr, ok := a.again(handle, ps)
		if !ok {
			addr, ok = a.idlest(ps)
		}
		if ok {
			addrs = append(addrs, addr)
			continue
		}
		need, err := a.short(ps)
		if err != nil {
			return nil, nil, err
		}
		needs = append(needs, need)
	}
	return addrs, needs, nil
}

// of gives the pools of a family.
func of(ps []Pool, f api.Family) []Pool {
	var some []Pool
	for _, p := range ps {
		if p.family() == f {
			some = append(some, p)
		}
	}
	return some
}

// idlest gives the free address that has been idle for longest in the first pool that has one.
func (a *Allocator) idlest(ps []Pool) (netip.Addr, bool) {
	own := a.blocks.open()
	for _, p := range ps {
		var best netip.Addr
		var since uint64
		for _, o := range own {
			if !p.holds(o.prefix) {
				continue
			}
			addr, ok := o.next(a.reserved)
			if ok && (!best.IsValid() || o.idle.freed[addr] < since) {
				best, since = addr, o.idle.freed[addr]
			}
		}
		if best.IsValid() {
			return best, true
		}
	}
	return a.taken(ps)
}
