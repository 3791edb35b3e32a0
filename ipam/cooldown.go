// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"korat/ipam/block"
)

// maxTidy bounds how long the datastore may show addresses as cooling down that have done so: they are written
// off together, or with the next other change.
const maxTidy = 15 * time.Second

// idleness is what is known here of a block's addresses that nobody holds.
type idleness struct {
	rules *rules
	// freed says in which order addresses were released here, over all blocks; the free addresses
	// that it lacks have been idle for longer.
	freed map[netip.Addr]uint64
	clock *uint64
	// since is when an address began to cool down, by this process's clock, which no step of the wall
	// clock moves.
	since map[netip.Addr]time.Time
	// thawed are free here, and since when; the datastore still shows them as cooling down.
	thawed map[netip.Addr]time.Time
}

func newIdleness(r *rules, clock *uint64) idleness {
	return idleness{rules: r, clock: clock, freed: map[netip.Addr]uint64{}, since: map[netip.Addr]time.Time{}, thawed: map[netip.Addr]time.Time{}}
}

// forget drops what is known of an address: it is held.
func (i *idleness) forget(addr netip.Addr) {
	delete(i.freed, addr)
	delete(i.since, addr)
	delete(i.thawed, addr)
}

// last makes an address the last one to be assigned again.
func (i *idleness) last(addr netip.Addr) {
	*i.clock++
	i.freed[addr] = *i.clock
}

// note takes in an address as the block has it. The time in it was written by another process, or before a
// reboot: one that lies in the future counts as now, so that no clock makes an address rest for longer
// than one cool-down.
func (i *idleness) note(addr netip.Addr, al block.Allocation) {
	if !al.Cooling() {
		return
	}
	if _, known := i.since[addr]; !known {
		now := i.rules.now()
		i.since[addr] = now.Add(-max(0, now.Sub(al.Released)))
	}
}

// oldest gives what cools down, the longest-idle address first.
func (i *idleness) oldest() []netip.Addr {
	return slices.SortedFunc(maps.Keys(i.since), func(x, y netip.Addr) int {
		if c := i.since[x].Compare(i.since[y]); c != 0 {
			return c
		}
		return x.Compare(y)
	})
}

// thaw frees what has cooled down.
func (o *owned) thaw() {
	i := &o.idle
	if len(i.since) == 0 || o.block == nil {
		return
	}
	now := i.rules.now()
	for _, addr := range i.oldest() {
		began := i.since[addr]
		if now.Before(began) {
			i.since[addr] = now // the clock was set back
			continue
		}
		if now.Sub(began) < i.rules.cooldown {
			continue
		}
		delete(i.since, addr)
		if al, ok := o.block.At(addr); ok && al.Cooling() {
			o.block.Thaw(addr)
			i.last(addr)
			i.thawed[addr] = began.Add(i.rules.cooldown)
			o.touch()
		}
	}
}

// tidy is how long thawed addresses may wait to be written.
func (i *idleness) tidy() time.Duration { return min(maxTidy, i.rules.cooldown/2) }

// due is when thawed addresses have to be written, those to come counted in; false if there are none.
func (i *idleness) due() (at time.Time, ok bool) {
	for _, began := range i.since {
		if t := began.Add(i.rules.cooldown); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	for _, t := range i.thawed {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	return at.Add(i.tidy()), ok
}

// patient says whether the datastore's copy differs from what is wanted in thawed addresses alone, and they may wait.
func (o *owned) patient(want *block.Block) bool {
	if len(o.idle.thawed) == 0 {
		return false
	}
	if at, ok := o.idle.due(); ok && !o.idle.rules.now().Before(at) {
		return false
	}
	lazy := want.Clone()
	for addr := range o.idle.thawed {
		if al, ok := o.copied.At(addr); ok && al.Cooling() {
			lazy.Match(addr, o.copied)
		}
	}
	return lazy.Equal(o.copied)
}

// cooling gives how many addresses of the pools' blocks cool down, and when the first one will have done so.
func (a *Allocator) cooling(ps []Pool) (n int, until time.Time) {
	for _, o := range a.blocks.open() {
		if !holdAny(ps, o.prefix) {
			continue
		}
		for addr, began := range o.idle.since {
			if a.reserved != nil && a.reserved(addr) {
				continue
			}
			n++
			if t := began.Add(a.blocks.rules.cooldown); until.IsZero() || t.Before(until) {
				until = t
			}
		}
	}
	return n, until
}

// thaw frees what has cooled down in any block.
func (a *Allocator) thaw() {
	for _, o := range a.blocks.all {
		o.thaw()
	}
}

// Due is when Changes will have more to tell although nothing happens: addresses have cooled down. False if there is
// nothing to wait for.
func (a *Allocator) Due() (at time.Time, ok bool) {
	for _, o := range a.blocks.own() {
		if t, waits := o.idle.due(); waits && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	return at, ok
}
