// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"korat/api"
	"korat/ipam/block"
)

// owned is a block that is, or once was, confirmed as this node's.
type owned struct {
	prefix netip.Prefix
	// uid tells the object from a later one of the same name.
	uid string
	// confirmed: the last Snapshot says that it is ours. Otherwise it is kept for what it
	// remembers, should it come back.
	confirmed bool
	// block is the truth; nil if it could not be read, and broken says why.
	block  *block.Block
	broken error
	// stored is the datastore's copy, and copied its content (nil if that can't be read).
	stored *api.IPAMBlock
	copied *block.Block
	// newest is the latest of the object's copies by its number. It tells what other nodes hold of the
	// block; a copy that lags does not.
	newest *block.Block
	// rival is a block that has addresses of this one; nil if none does, as it ought to be.
	rival *api.IPAMBlock
	idle  idleness
	lease lease
	// found is what change has found, while that stands.
	found *Change
}

// touch notes that block or copied is not what it was.
func (o *owned) touch() { o.found = nil }

func (o *owned) hold(addr netip.Addr, h block.Holder) {
	if o.block == nil {
		return
	}
	if err := o.block.Hold(addr, h); err == nil {
		o.idle.forget(addr)
		o.touch()
	}
}

func (o *owned) release(handle string) []netip.Addr {
	if o.block == nil {
		return nil
	}
	at := o.idle.rules.released()
	gone := o.block.ReleaseByHandle(handle, at)
	for _, addr := range gone {
		o.ended(addr)
	}
	return gone
}

func (o *owned) releaseOne(addr netip.Addr, sequence uint64) error {
	if err := o.block.Release(addr, sequence, o.idle.rules.released()); err != nil {
		return err
	}
	o.ended(addr)
	return nil
}

// ended notes that an assignment has ended.
func (o *owned) ended(addr netip.Addr) {
	o.touch()
	o.idle.last(addr)
	if o.newest != nil && foreignAt(o.newest, addr) {
		o.block.Match(addr, o.newest)
		return
	}
	if al, held := o.block.At(addr); held && al.Cooling() {
		o.idle.since[addr] = o.idle.rules.now()
	}
}

// match takes over what a copy has of an address.
func (o *owned) match(addr netip.Addr, copied *block.Block) {
	o.idle.forget(addr)
	o.block.Match(addr, copied)
	o.touch()
	if al, held := o.block.At(addr); held {
		o.idle.note(addr, al)
	} else {
		o.idle.last(addr)
	}
}

// blocks are this node's blocks.
type blocks struct {
	// claimed has a confirmed affinity; whether the block object agrees is in all.
	claimed []netip.Prefix
	all     map[netip.Prefix]*owned
	clock   uint64
	rules   rules
	// leaving are being given back: nothing more is assigned of them.
	leaving map[netip.Prefix]bool
}

// confirmed gives the blocks that a node has a confirmed affinity for.
func confirmed(snap api.Snapshot, node string) []netip.Prefix {
	var ps []netip.Prefix
	for _, obj := range snap.AffinitiesOf(node) {
		if obj.Spec.State != api.AffinityConfirmed {
			continue
		}
		if p, err := netip.ParsePrefix(obj.Spec.CIDR); err == nil && p == p.Masked() {
			ps = append(ps, p)
		}
	}
	return ps
}

// ownedBy says whether the block object names the node as its owner.
func ownedBy(obj *api.IPAMBlock, node string) bool {
	return obj.Spec.Affinity != nil && *obj.Spec.Affinity == affinityOf(node)
}

func affinityOf(node string) string { return api.AffinityHost + ":" + node }

// update brings the blocks in line with the datastore's tables. Overlay is called with each block
// whose content came from there.
func (bs *blocks) update(table api.Table[*api.IPAMBlock], held func(netip.Addr) bool, overlay func(*owned)) {
	for _, o := range bs.all {
		o.confirmed = false
	}
	for _, p := range bs.claimed {
		obj, ok := table.Get(api.BlockName(p))
		if !ok || !ownedBy(obj, bs.rules.node) {
			continue
		}
		o := bs.all[p]
		if o == nil || o.uid != string(obj.UID) || o.block == nil && o.stored != obj {
			o = bs.read(p, obj, o)
			bs.all[p] = o
			if o.block != nil {
				overlay(o)
			}
		}
		o.confirmed = true
		o.copy(obj, held)
	}
}

// read makes a block of the datastore's copy. What an earlier object of the same name held stays
// held.
func (bs *blocks) read(p netip.Prefix, obj *api.IPAMBlock, before *owned) *owned {
	o := &owned{prefix: p, uid: string(obj.UID), idle: newIdleness(&bs.rules, &bs.clock), lease: newLease()}
	if o.block, o.broken = parse(p, obj); o.broken != nil {
		return o
	}
	o.adopt()
	if before == nil || before.block == nil {
		return o
	}
	for addr, al := range before.block.All() {
		if !al.Cooling() {
			o.hold(addr, al.Holder)
		}
	}
	return o
}

// adopt makes what this node has leased free again, as it is here, and notes what cools down.
func (o *owned) adopt() {
	for addr, al := range o.block.All() {
		switch {
		case al.Leased() && al.Attrs["node"] == o.idle.rules.node:
			_ = o.block.Release(addr, al.Sequence, time.Time{}) // it is as the block says
		default:
			o.idle.note(addr, al)
		}
	}
}

func parse(p netip.Prefix, obj *api.IPAMBlock) (*block.Block, error) {
	b, err := block.From(obj.Spec)
	if err != nil {
		return nil, err
	}
	if b.Prefix() != p {
		return nil, fmt.Errorf("spec.cidr is %s, but its name and affinity say %s", b.Prefix(), p)
	}
	return b, nil
}

// copy notes what the datastore has. It is not taken over: it may lag, and what this node holds is for
// this node alone to say.
func (o *owned) copy(obj *api.IPAMBlock, held func(netip.Addr) bool) {
	if o.stored == obj {
		return
	}
	o.stored = obj
	o.touch()
	o.copied, _ = parse(o.prefix, obj)
	if o.block == nil || o.copied == nil {
		return
	}
	o.block.Raise(o.copied.Sequence())
	before := o.newest
	if before != nil && o.copied.Sequence() < before.Sequence() {
		return
	}
	o.newest = o.copied
	o.lease.see(termsOf(obj), o.newest)
	o.lend()
	if before != nil {
		o.returned(before, held)
	}
	for addr := range o.idle.thawed {
		if al, ok := o.copied.At(addr); !ok || !al.Cooling() {
			delete(o.idle.thawed, addr)
		}
	}
}

// lend takes over what other nodes hold by the newest copy.
func (o *owned) lend() {
	for addr := range o.newest.All() {
		_, held := o.block.At(addr)
		if foreignAt(o.newest, addr) && (!held || foreignAt(o.block, addr)) {
			o.match(addr, o.newest)
		}
	}
}

// returned takes over what others have released since the copy before: other nodes what they hold of this block,
// and whoever cleans up what no pod of this node has.
func (o *owned) returned(before *block.Block, held func(netip.Addr) bool) {
	for addr, al := range o.block.All() {
		now, still := o.newest.At(addr)
		was, known := before.At(addr)
		switch {
		case foreignAt(o.newest, addr):
		case foreignAt(o.block, addr):
			o.match(addr, o.newest)
		case al.Cooling() || held(addr) || still && !now.Cooling():
		case known && was.Sequence == al.Sequence && !was.Cooling():
			o.match(addr, o.newest)
		}
	}
}

// containing gives the block of ours, preferably a confirmed one, that an address belongs to.
func (bs *blocks) containing(addr netip.Addr) *owned {
	var found *owned
	for _, o := range bs.all {
		if o.prefix.Contains(addr) && (found == nil || o.confirmed) {
			found = o
		}
	}
	return found
}

// own gives the confirmed blocks in order.
func (bs *blocks) own() []*owned {
	var list []*owned
	for _, o := range bs.all {
		if o.confirmed {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(x, y *owned) int { return x.prefix.Compare(y.prefix) })
	return list
}

// usable gives those whose content is known.
func (bs *blocks) usable() []*owned {
	return slices.DeleteFunc(bs.own(), func(o *owned) bool { return o.block == nil })
}

// open gives those that can be assigned from.
func (bs *blocks) open() []*owned {
	return slices.DeleteFunc(bs.usable(), func(o *owned) bool { return o.rival != nil || bs.leaving[o.prefix] })
}
