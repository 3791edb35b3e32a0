// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"korat/api"
	"korat/ipam/block"
)

// rescan is the least time between two searches of all blocks for what this node has of them. What it has asked for
// it knows; the search finds what a write gave it that outlived the process which sent it.
const rescan = 5 * time.Minute

// loan is another node's block that this node has addresses of, or wants some.
type loan struct {
	prefix netip.Prefix
	uid    string
	stored *api.IPAMBlock
	// newest is the latest of the object's copies by its number; nil if that can't be read, or is brief.
	newest *block.Block
	// back are the addresses that go back, until a copy shows that they did.
	back map[netip.Addr]Return
}

// Return is an assignment that its node gives back to the block's owner.
type Return struct {
	Sequence uint64
	// At is when it ended; zero if it needs no rest.
	At time.Time
}

// loans are the blocks of other nodes that matter here.
type loans struct {
	rules   *rules
	all     map[netip.Prefix]*loan
	scanned time.Time
}

// Loan is what this node's share of another node's block ought to be.
type Loan struct {
	Block netip.Prefix
	UID   string
	// Take is how many addresses to lease in addition, for Lease.
	Take  int
	Lease block.Holder
	// Pods are who has this node's addresses.
	Pods map[netip.Addr]block.Holder
	Back map[netip.Addr]Return
}

// update brings the loans in line with the datastore's blocks. Held are the addresses in use.
func (ls *loans) update(table api.Table[*api.IPAMBlock], first bool) {
	if now := ls.rules.now(); first || now.Sub(ls.scanned) >= rescan || now.Before(ls.scanned) {
		ls.scanned = now
		for _, obj := range table.All() {
			if p, err := netip.ParsePrefix(obj.Spec.CIDR); err == nil && ls.all[p] == nil && !ownedBy(obj, ls.rules.node) && mentions(obj, ls.rules.node) {
				ls.track(p)
			}
		}
	}
	for p, l := range ls.all {
		obj, ok := table.Get(api.BlockName(p))
		if !ok || ownedBy(obj, ls.rules.node) {
			delete(ls.all, p)
			continue
		}
		l.copy(obj)
	}
}

// mentions says whether a block has an address of the node.
func mentions(obj *api.IPAMBlock, node string) bool {
	return slices.ContainsFunc(obj.Spec.Attributes, func(a api.AllocationAttribute) bool {
		return a.ReleasedAt == nil && a.ActiveOwnerAttrs["node"] == node
	})
}

func (ls *loans) track(p netip.Prefix) {
	if ls.all[p] == nil {
		ls.all[p] = &loan{prefix: p, back: map[netip.Addr]Return{}}
	}
}

// copy notes what the datastore has.
func (l *loan) copy(obj *api.IPAMBlock) {
	if l.stored == obj {
		return
	}
	b, err := parse(l.prefix, obj)
	known := err == nil || isBrief(obj)
	if l.uid == string(obj.UID) && l.newest != nil && (!known || obj.Spec.SequenceNumber < l.newest.Sequence()) {
		return
	}
	l.uid, l.stored, l.newest = string(obj.UID), obj, b
	if isBrief(obj) {
		clear(l.back) // nothing of it is this node's
	}
	for addr, r := range l.back {
		if b == nil {
			break
		}
		if al, held := b.At(addr); !held || al.Cooling() || al.Sequence != r.Sequence {
			delete(l.back, addr)
		}
	}
}

// open says whether addresses may be taken.
func (l *loan) open() bool { return l.newest != nil && termsOf(l.stored).lending == lendingOpen }

// at gives this node's allocation of an address, unless it goes back.
func (l *loan) at(addr netip.Addr, node string) (block.Allocation, bool) {
	if l.newest == nil {
		return block.Allocation{}, false
	}
	al, held := l.newest.At(addr)
	_, goes := l.back[addr]
	return al, held && !goes && !al.Cooling() && al.Attrs["node"] == node
}

// ours gives the addresses that this node has, in order.
func (l *loan) ours(node string) []netip.Addr {
	var list []netip.Addr
	if l.newest != nil {
		for addr := range l.newest.All() {
			if _, ok := l.at(addr, node); ok {
				list = append(list, addr)
			}
		}
	}
	return list
}

// sorted gives the loans in order.
func (ls *loans) sorted() []*loan {
	return slices.SortedFunc(maps.Values(ls.all), func(x, y *loan) int { return x.prefix.Compare(y.prefix) })
}

// containing gives the loan that an address belongs to, or nil.
func (ls *loans) containing(addr netip.Addr) *loan {
	for _, l := range ls.all {
		if l.prefix.Contains(addr) {
			return l
		}
	}
	return nil
}

// release gives back what the handle had: the freed addresses, and those of which only the datastore knows.
func (ls *loans) release(handle string, freed []netip.Addr, has func(netip.Addr) bool) {
	for _, l := range ls.all {
		for _, addr := range l.ours(ls.rules.node) {
			al, _ := l.at(addr, ls.rules.node)
			if slices.Contains(freed, addr) || al.Handle == handle && !has(addr) {
				l.back[addr] = Return{al.Sequence, ls.rules.released()}
			}
		}
	}
}

// releaseOne gives one address back if it is still the assignment that the caller saw.
func (ls *loans) releaseOne(addr netip.Addr, sequence uint64) error {
	l := ls.containing(addr)
	if l == nil || l.newest == nil {
		return errors.New("release " + addr.String() + ": it is in no block of this node, and not borrowed")
	}
	at := ls.rules.released()
	if err := l.newest.Clone().Release(addr, sequence, at); err != nil {
		return err
	}
	l.back[addr] = Return{sequence, at}
	return nil
}

// borrow follows the blocks that the addresses in use belong to, should they be other nodes'.
func (a *Allocator) borrow(first bool) {
	for addr := range a.holders.byAddr {
		if a.blocks.containing(addr) != nil || a.loans.containing(addr) != nil {
			continue
		}
		for _, p := range slices.Concat(a.enabled, a.disabled) {
			if !p.CIDR.Contains(addr) {
				continue
			}
			if obj, ok := a.snap.IPAMBlocks.Get(api.BlockName(p.blockOf(addr))); ok && !ownedBy(obj, a.node) {
				a.loans.track(p.blockOf(addr))
			}
		}
	}
	a.loans.update(a.snap.IPAMBlocks, first)
	for handle := range a.holders.gone {
		a.loans.release(handle, nil, a.holders.has)
	}
}

// taken gives an address that was borrowed and that no pod has yet.
func (a *Allocator) taken(ps []Pool) (netip.Addr, bool) {
	for _, l := range a.loans.sorted() {
		if !slices.ContainsFunc(ps, func(p Pool) bool { return p.holds(l.prefix) }) {
			continue
		}
		for _, addr := range l.ours(a.node) {
			if al, _ := l.at(addr, a.node); al.LeasedBy(a.node, a.loans.rules.agent) && !a.holders.has(addr) && (a.reserved == nil || !a.reserved(addr)) {
				return addr, true
			}
		}
	}
	return netip.Addr{}, false
}

// lenders gives the blocks of the pools that this node could borrow addresses of, and how many. Each node has an
// order of its own, so that those that borrow at the same time don't ask the same block.
func (a *Allocator) lenders(ps []Pool) (from []*api.IPAMBlock, free map[string]int) {
	if a.blocks.rules.strict {
		return nil, nil
	}
	free = map[string]int{}
	rank := map[string][sha256.Size]byte{}
	for name, obj := range a.snap.IPAMBlocks.All() {
		if termsOf(obj).lending != lendingOpen || ownedBy(obj, a.node) || len(obj.Spec.Unallocated) == 0 {
			continue
		}
		p, err := netip.ParsePrefix(obj.Spec.CIDR)
		if err != nil || !slices.ContainsFunc(ps, func(q Pool) bool { return q.holds(p) }) {
			continue
		}
		if b, err := parse(p, obj); err == nil && b.Free(a.reserved) > 0 {
			from, free[name], rank[name] = append(from, obj), b.Free(a.reserved), sha256.Sum256([]byte(a.node+" "+name))
		}
	}
	slices.SortFunc(from, func(x, y *api.IPAMBlock) int {
		rx, ry := rank[x.Name], rank[y.Name]
		return cmp.Or(slices.Compare(rx[:], ry[:]), cmp.Compare(x.Name, y.Name))
	})
	return from, free
}

// takes says how many addresses to borrow of which blocks, for the requests that wait for that.
func (a *Allocator) takes() map[netip.Prefix]int {
	pools, count := map[string][]Pool{}, map[string]int{}
	for _, n := range a.waiting(ByBorrowing) {
		if a.unmet(n) {
			pools[n.key()] = n.Pools
			count[n.key()]++
		}
	}
	takes := map[netip.Prefix]int{}
	for _, key := range slices.Sorted(maps.Keys(pools)) {
		from, free := a.lenders(pools[key])
		for _, obj := range from {
			n := min(count[key], free[obj.Name])
			if p, err := netip.ParsePrefix(obj.Spec.CIDR); err == nil && n > 0 {
				takes[p] += n
				count[key] -= n
			}
		}
	}
	return takes
}

// Loans gives what this node's share of other nodes' blocks ought to be, where that differs from the datastore.
func (a *Allocator) Loans() []Loan {
	if !a.snap.InSync {
		return nil
	}
	takes, waiting := a.takes(), len(a.waiting(ByBorrowing)) > 0
	for p := range takes {
		a.loans.track(p)
		if obj, ok := a.snap.IPAMBlocks.Get(api.BlockName(p)); ok {
			a.loans.all[p].copy(obj)
		}
	}
	var list []Loan
	for _, l := range a.loans.sorted() {
		pods := a.share(l, waiting)
		if takes[l.prefix] > 0 || len(pods) > 0 || len(l.back) > 0 {
			list = append(list, Loan{l.prefix, l.uid, takes[l.prefix], block.Lease(a.node, a.loans.rules.agent), pods, maps.Clone(l.back)})
		}
	}
	return list
}

// share gives the pods that the datastore ought to know of in a block of another node. What no pod needs goes
// back, for good: the write that does it may be under way at any time.
func (a *Allocator) share(l *loan, waiting bool) map[netip.Addr]block.Holder {
	pods := map[netip.Addr]block.Holder{}
	for _, addr := range l.ours(a.node) {
		al, _ := l.at(addr, a.node)
		switch mine := al.LeasedBy(a.node, a.loans.rules.agent); {
		case a.holders.has(addr):
			if h := a.borrower(addr); h.Handle != al.Handle {
				pods[addr] = h
			}
		case mine && !waiting:
			l.back[addr] = Return{Sequence: al.Sequence}
		case al.Leased() && !mine: // an earlier run may have given it to a pod
			l.back[addr] = Return{al.Sequence, a.loans.rules.released()}
		}
	}
	if !l.open() {
		return pods
	}
	for addr := range a.holders.byAddr {
		if l.prefix.Contains(addr) {
			if _, held := l.newest.At(addr); !held {
				pods[addr] = a.borrower(addr)
			}
		}
	}
	return pods
}

// borrower gives who has an address in use. What is published of a borrowed one must name the node, whatever else
// is known of the pod: by it the owner knows that the address is lent.
func (a *Allocator) borrower(addr netip.Addr) block.Holder {
	h := a.holders.holder(addr)
	h.Attrs = maps.Clone(h.Attrs)
	if h.Attrs == nil {
		h.Attrs = map[string]string{}
	}
	h.Attrs["node"] = a.node
	return h
}

// Borrowed gives the addresses of other nodes' blocks that pods of this node have, as the datastore says too.
func (a *Allocator) Borrowed() []netip.Addr {
	var list []netip.Addr
	for _, l := range a.loans.sorted() {
		for _, addr := range l.ours(a.node) {
			if al, _ := l.at(addr, a.node); a.holders.has(addr) || !al.Leased() {
				list = append(list, addr)
			}
		}
	}
	return list
}

// disputed says whether an address in use is of a block that lends to this node, and who else has it then.
func (a *Allocator) disputed(addr netip.Addr) (known bool, err error) {
	l := a.loans.containing(addr)
	if l == nil || l.newest == nil {
		return false, nil
	}
	switch al, held := l.newest.At(addr); {
	case !held:
		return l.open(), nil
	case al.Attrs["node"] != a.node || al.Cooling():
		return true, fmt.Errorf("the datastore says by %s on node %q: delete one of the two pods", al.Holder, al.Attrs["node"])
	default:
		return true, nil
	}
}
