// SPDX-License-Identifier: Apache-2.0

// Package block is the arithmetic of one IPAM block: which of its addresses are held, by whom,
// and in which order the free ones are handed out (longest idle first). It is pure: no clock, no
// datastore, no lock. Block is the working form of api.IPAMBlockSpec; spec.go converts.
package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// MaxHostBits limits a block to 65,536 addresses, because the stored form has one entry for each.
// (The API allows 12 bits, a /20 or /116.)
const MaxHostBits = 16

// The errors that callers branch on.
var (
	// ErrTaken: the address is held.
	ErrTaken = errors.New("address is in use")
	// ErrOutside: the address does not belong to the block.
	ErrOutside = errors.New("address is outside the block")
	// ErrStale: the address is free, or was assigned anew since the caller looked.
	ErrStale = errors.New("assignment has changed meanwhile")
)

// Holder says who holds an address.
type Holder struct {
	Handle string
	// Attrs are published with the block; see api.AllocationAttribute.
	Attrs map[string]string
}

// String gives `pod ns/name (handle "h")`, without what is not known.
func (h Holder) String() string {
	if h.Attrs["pod"] == "" {
		return fmt.Sprintf("handle %q", h.Handle)
	}
	return fmt.Sprintf("pod %s/%s (handle %q)", h.Attrs["namespace"], h.Attrs["pod"], h.Handle)
}

// Allocation is one held address's entry.
type Allocation struct {
	Holder
	// Sequence is the block's sequence number at the assignment. It tells two assignments of one
	// address apart.
	Sequence uint64
	// Released is when the holder gave the address back, in whole seconds; zero while it is assigned. It
	// stays held, because it cools down.
	Released time.Time
}

// Cooling says whether the address belongs to nobody any more and is not free yet either.
func (al Allocation) Cooling() bool { return !al.Released.IsZero() }

// Block is the state of one block. It is changed in place and not safe for concurrent use.
type Block struct {
	prefix   netip.Prefix
	affinity string
	sequence uint64
	held     map[int]Allocation
	free     []int // ordinals, longest idle first
}

// New gives an empty block. Affinity is "host:<node>", or empty for none.
func New(prefix netip.Prefix, affinity string) (*Block, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	b := &Block{prefix: prefix, affinity: affinity, held: map[int]Allocation{}}
	b.free = make([]int, 1<<hostBits(prefix))
	for i := range b.free {
		b.free[i] = i
	}
	return b, nil
}

func checkPrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("block: no prefix")
	case p.Addr().Is4In6():
		return fmt.Errorf("block %s: IPv4-mapped prefix: write it as IPv4", p)
	case p != p.Masked():
		return fmt.Errorf("block %s: host bits are set: want %s", p, p.Masked())
	case hostBits(p) > MaxHostBits:
		return fmt.Errorf("block %s: larger than a /%d: choose a larger blockSize", p, p.Addr().BitLen()-MaxHostBits)
	}
	return nil
}

func hostBits(p netip.Prefix) int { return p.Addr().BitLen() - p.Bits() }

// Clone gives an independent copy.
func (b *Block) Clone() *Block {
	return &Block{b.prefix, b.affinity, b.sequence, maps.Clone(b.held), slices.Clone(b.free)}
}

// Prefix is the block's range.
func (b *Block) Prefix() netip.Prefix { return b.prefix }

// Affinity is "host:<node>", or empty.
func (b *Block) Affinity() string { return b.affinity }

// Size counts the block's addresses, held or not.
func (b *Block) Size() int { return len(b.held) + len(b.free) }

// Held counts the held addresses.
func (b *Block) Held() int { return len(b.held) }

// Sequence grows with each change of the block.
func (b *Block) Sequence() uint64 { return b.sequence }

// Raise lifts the sequence number to at least n.
func (b *Block) Raise(n uint64) { b.sequence = max(b.sequence, n) }

// Free counts the free addresses that are not reserved. A nil reserved reserves nothing.
func (b *Block) Free(reserved func(netip.Addr) bool) int {
	if reserved == nil {
		return len(b.free)
	}
	n := 0
	for _, o := range b.free {
		if !reserved(b.addr(o)) {
			n++
		}
	}
	return n
}

// Next is the longest-idle free address that is not reserved: what Assign hands out next.
func (b *Block) Next(reserved func(netip.Addr) bool) (netip.Addr, bool) {
	for _, o := range b.free {
		if a := b.addr(o); reserved == nil || !reserved(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Assign gives the holder up to n addresses, longest idle first, skipping reserved ones, and
// returns those it got.
func (b *Block) Assign(n int, h Holder, reserved func(netip.Addr) bool) []netip.Addr {
	var got []netip.Addr
	for len(got) < n {
		a, ok := b.Next(reserved)
		if !ok {
			break
		}
		b.take(b.ordinal(a), h)
		got = append(got, a)
	}
	return got
}

// AssignAddr gives the holder one specific address, reserved or cooling or not.
func (b *Block) AssignAddr(a netip.Addr, h Holder) error {
	if !b.prefix.Contains(a) {
		return fmt.Errorf("%s in block %s: %w", a, b.prefix, ErrOutside)
	}
	if by, ok := b.held[b.ordinal(a)]; ok && !by.Cooling() {
		return fmt.Errorf("%s: %w by handle %q", a, ErrTaken, by.Handle)
	}
	b.take(b.ordinal(a), h)
	return nil
}

// Hold makes the holder have the address whatever the block said before. It changes nothing when
// the same handle has it already.
func (b *Block) Hold(a netip.Addr, h Holder) error {
	if !b.prefix.Contains(a) {
		return fmt.Errorf("%s in block %s: %w", a, b.prefix, ErrOutside)
	}
	if by, ok := b.held[b.ordinal(a)]; ok && by.Handle == h.Handle && !by.Cooling() {
		return nil
	}
	b.take(b.ordinal(a), h)
	return nil
}

func (b *Block) take(ordinal int, h Holder) {
	if i := slices.Index(b.free, ordinal); i >= 0 {
		b.free = slices.Delete(b.free, i, i+1)
	}
	b.sequence++
	b.held[ordinal] = Allocation{Holder: Holder{h.Handle, maps.Clone(h.Attrs)}, Sequence: b.sequence}
}

// Match makes the address be as another block of the same range has it: held by the same assignment, or
// free, and then the last one to be handed out.
func (b *Block) Match(a netip.Addr, o *Block) {
	if !b.prefix.Contains(a) {
		return
	}
	ordinal := b.ordinal(a)
	if al, ok := o.At(a); ok {
		if i := slices.Index(b.free, ordinal); i >= 0 {
			b.free = slices.Delete(b.free, i, i+1)
		}
		b.held[ordinal] = al
		b.Raise(al.Sequence)
	} else if _, held := b.held[ordinal]; held {
		b.put(ordinal)
	}
}

// ReleaseByHandle ends every assignment of the handle and returns the addresses in order. They are free, or cool
// down since at if that is not zero, and become the last ones to be handed out again.
func (b *Block) ReleaseByHandle(handle string, at time.Time) []netip.Addr {
	var gone []netip.Addr
	for _, o := range slices.Sorted(maps.Keys(b.held)) {
		if al := b.held[o]; al.Handle == handle && !al.Cooling() {
			b.end(o, at)
			gone = append(gone, b.addr(o))
		}
	}
	return gone
}

// Release ends the assignment of one address if it is still the one that the caller saw: its sequence
// number must match, else ErrStale. The address is free, or cools down since at if that is not zero.
func (b *Block) Release(a netip.Addr, sequence uint64, at time.Time) error {
	have, ok := b.At(a)
	switch {
	case !b.prefix.Contains(a):
		return fmt.Errorf("release %s: block %s: %w", a, b.prefix, ErrOutside)
	case !ok:
		return fmt.Errorf("release %s: %w: it is free", a, ErrStale)
	case have.Cooling():
		return fmt.Errorf("release %s: %w: it was released at %s", a, ErrStale, have.Released.Format(time.RFC3339))
	case have.Sequence != sequence:
		return fmt.Errorf("release %s: %w: now number %d of handle %q, not %d", a, ErrStale, have.Sequence, have.Handle, sequence)
	}
	b.end(b.ordinal(a), at)
	return nil
}

// end makes a held address cool down since at, or frees it if at is zero.
func (b *Block) end(ordinal int, at time.Time) {
	if at.IsZero() {
		b.put(ordinal)
		return
	}
	b.sequence++
	al := b.held[ordinal]
	al.Sequence, al.Released = b.sequence, at.UTC().Truncate(time.Second)
	b.held[ordinal] = al
}

// Thaw frees an address that cools down; any other stays as it is.
func (b *Block) Thaw(a netip.Addr) {
	if al, ok := b.At(a); ok && al.Cooling() {
		b.put(b.ordinal(a))
	}
}

func (b *Block) put(ordinal int) {
	delete(b.held, ordinal)
	b.free = append(b.free, ordinal)
	b.sequence++
}

// At gives the allocation of an address; false if it is free or outside the block.
func (b *Block) At(a netip.Addr) (Allocation, bool) {
	if !b.prefix.Contains(a) {
		return Allocation{}, false
	}
	al, ok := b.held[b.ordinal(a)]
	return al, ok
}

// All yields the held addresses in order.
func (b *Block) All() iter.Seq2[netip.Addr, Allocation] {
	return func(yield func(netip.Addr, Allocation) bool) {
		for _, o := range slices.Sorted(maps.Keys(b.held)) {
			if !yield(b.addr(o), b.held[o]) {
				return
			}
		}
	}
}

// Idle yields the free addresses, longest idle first.
func (b *Block) Idle() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, o := range b.free {
			if !yield(b.addr(o)) {
				return
			}
		}
	}
}

// Equal compares everything but the block's own sequence number.
func (b *Block) Equal(o *Block) bool {
	return b.prefix == o.prefix && b.affinity == o.affinity && slices.Equal(b.free, o.free) &&
		maps.EqualFunc(b.held, o.held, func(x, y Allocation) bool {
			return x.Sequence == y.Sequence && x.Handle == y.Handle && x.Released.Equal(y.Released) && maps.Equal(x.Attrs, y.Attrs)
		})
}

// addr and ordinal convert between an address and its offset in the block. A block has at most
// 16 host bits, so both families differ only in their last two bytes.
func (b *Block) addr(ordinal int) netip.Addr {
	if base := b.prefix.Addr(); base.Is4() {
		raw := base.As4()
		raise(raw[2:], ordinal)
		return netip.AddrFrom4(raw)
	}
	raw := b.prefix.Addr().As16()
	raise(raw[14:], ordinal)
	return netip.AddrFrom16(raw)
}

func raise(low []byte, by int) {
	binary.BigEndian.PutUint16(low, binary.BigEndian.Uint16(low)+uint16(by))
}

func (b *Block) ordinal(a netip.Addr) int {
	raw, base := a.As16(), b.prefix.Addr().As16()
	return int(binary.BigEndian.Uint16(raw[14:]) - binary.BigEndian.Uint16(base[14:]))
}
