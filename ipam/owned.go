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
	// freed says in which order addresses were released here, over all blocks; the free addresses
	// that it lacks have been idle for longer.
	freed map[netip.Addr]uint64
	clock *uint64
	// same is true while block is known to equal copied.
	same bool
}

func (o *owned) hold(addr netip.Addr, h block.Holder) {
	if o.block == nil {
		return
	}
	if err := o.block.Hold(addr, h); err == nil {
		delete(o.freed, addr)
		o.same = false
	}
}

func (o *owned) release(handle string) []netip.Addr {
	if o.block == nil {
		return nil
	}
	gone := o.block.ReleaseByHandle(handle, time.Time{})
	for _, addr := range gone {
		o.idle(addr)
	}
	return gone
}

func (o *owned) releaseOne(addr netip.Addr, sequence uint64) error {
	if err := o.block.Release(addr, sequence, time.Time{}); err != nil {
		return err
	}
	o.idle(addr)
	return nil
}

func (o *owned) idle(addr netip.Addr) {
	*o.clock++
	o.freed[addr] = *o.clock
	o.same = false
	if o.newest != nil && foreignAt(o.newest, addr) {
		o.block.Match(addr, o.newest)
	}
}

// differs says whether the datastore's copy has to be written.
func (o *owned) differs() bool {
	if o.block == nil {
		return false
	}
	if !o.same {
		o.same = o.copied != nil && merge(o.block, o.newest, o.copied).Equal(o.copied)
	}
	return !o.same
}

// blocks are this node's blocks.
type blocks struct {
	// claimed has a confirmed affinity; whether the block object agrees is in all.
	claimed []netip.Prefix
	all     map[netip.Prefix]*owned
	clock   uint64
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
func (bs *blocks) update(table api.Table[*api.IPAMBlock], node string, overlay func(*owned)) {
	for _, o := range bs.all {
		o.confirmed = false
	}
	for _, p := range bs.claimed {
		obj, ok := table.Get(api.BlockName(p))
		if !ok || !ownedBy(obj, node) {
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
		o.copy(obj)
	}
}

// read makes a block of the datastore's copy. What an earlier object of the same name held stays
// held.
func (bs *blocks) read(p netip.Prefix, obj *api.IPAMBlock, before *owned) *owned {
	o := &owned{prefix: p, uid: string(obj.UID), freed: map[netip.Addr]uint64{}, clock: &bs.clock}
	if o.block, o.broken = parse(p, obj); o.broken != nil || before == nil || before.block == nil {
		return o
	}
	for addr, al := range before.block.All() {
		o.hold(addr, al.Holder)
	}
	return o
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
func (o *owned) copy(obj *api.IPAMBlock) {
	if o.stored == obj {
		return
	}
	first := o.stored == nil
	o.stored, o.same = obj, false
	o.copied, _ = parse(o.prefix, obj)
	if o.block == nil || o.copied == nil {
		return
	}
	o.block.Raise(o.copied.Sequence())
	if o.newest != nil && o.copied.Sequence() < o.newest.Sequence() {
		return
	}
	o.newest = o.copied
	o.lend(!first)
}

// lend takes over what the copy says of other nodes' addresses: those that they hold and, if it was not made
// anew, those that they hold no more.
func (o *owned) lend(returned bool) {
	for addr := range o.copied.All() {
		_, held := o.block.At(addr)
		if foreignAt(o.copied, addr) && (!held || foreignAt(o.block, addr)) {
			o.block.Match(addr, o.copied)
			delete(o.freed, addr)
		}
	}
	if !returned {
		return
	}
	for addr := range o.block.All() {
		if foreignAt(o.block, addr) && !foreignAt(o.copied, addr) {
			o.block.Match(addr, o.copied)
			*o.clock++
			o.freed[addr] = *o.clock
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
	return slices.DeleteFunc(bs.usable(), func(o *owned) bool { return o.rival != nil })
}
