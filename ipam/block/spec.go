// SPDX-License-Identifier: Apache-2.0

package block

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
)

// From reads the stored form. Data that contradicts itself is refused, because an address that is
// both free and held would be given twice.
func From(s api.IPAMBlockSpec) (*Block, error) {
	prefix, err := netip.ParsePrefix(s.CIDR)
	if err != nil {
		return nil, fmt.Errorf("block: spec.cidr: %w", err)
	}
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	b := &Block{prefix: prefix, sequence: s.SequenceNumber, free: slices.Clone(s.Unallocated)}
	if s.Affinity != nil {
		b.affinity = *s.Affinity
	}
	if want := 1 << hostBits(prefix); len(s.Allocations) != want {
		return nil, fmt.Errorf("block %s: spec.allocations has %d entries, want %d", prefix, len(s.Allocations), want)
	}
	if b.held, err = allocations(s); err != nil {
		return nil, fmt.Errorf("block %s: %w", prefix, err)
	}
	if err := checkFree(s); err != nil {
		return nil, fmt.Errorf("block %s: %w", prefix, err)
	}
	return b, nil
}

func allocations(s api.IPAMBlockSpec) (map[int]Allocation, error) {
	held := map[int]Allocation{}
	for o, index := range s.Allocations {
		if index == nil {
			continue
		}
		if *index < 0 || *index >= len(s.Attributes) {
			return nil, fmt.Errorf("spec.allocations[%d] is %d, but spec.attributes has %d entries", o, *index, len(s.Attributes))
		}
		attr := s.Attributes[*index]
		al := Allocation{Holder: Holder{attr.HandleID, maps.Clone(attr.ActiveOwnerAttrs)}, Released: released(attr)}
		if attr.HandleID == "" && !al.Cooling() {
			return nil, fmt.Errorf("spec.attributes[%d].handle_id is empty", *index)
		}
		held[o] = al
	}
	for key, n := range s.SequenceNumberForAllocation {
		o, err := strconv.Atoi(key)
		a, ok := held[o]
		switch {
		case err != nil || !ok || key != strconv.Itoa(o):
			return nil, fmt.Errorf("spec.sequenceNumberForAllocation[%q] names no held address", key)
		case n > s.SequenceNumber:
			return nil, fmt.Errorf("spec.sequenceNumberForAllocation[%q] is %d, beyond spec.sequenceNumber %d", key, n, s.SequenceNumber)
		}
		a.Sequence = n
		held[o] = a
	}
	return held, nil
}

func checkFree(s api.IPAMBlockSpec) error {
	seen := make([]bool, len(s.Allocations))
	count := 0
	for i, o := range s.Unallocated {
		switch {
		case o < 0 || o >= len(seen):
			return fmt.Errorf("spec.unallocated[%d] is %d, outside the block", i, o)
		case seen[o]:
			return fmt.Errorf("spec.unallocated lists %d twice", o)
		case s.Allocations[o] != nil:
			return fmt.Errorf("spec.unallocated lists %d, which spec.allocations says is held", o)
		}
		seen[o] = true
		count++
	}
	for _, index := range s.Allocations {
		if index != nil {
			count++
		}
	}
	if count != len(s.Allocations) {
		return errors.New("spec.unallocated lacks addresses that spec.allocations says are free")
	}
	return nil
}

// Spec gives the stored form, independent of the block. Equal blocks give equal specs.
func (b *Block) Spec() api.IPAMBlockSpec {
	s := api.IPAMBlockSpec{
		CIDR:           b.prefix.String(),
		Allocations:    make([]*int, b.Size()),
		Unallocated:    append([]int{}, b.free...),
		Attributes:     []api.AllocationAttribute{},
		SequenceNumber: b.sequence,
	}
	if b.affinity != "" {
		affinity := b.affinity
		s.Affinity = &affinity
	}
	if len(b.held) > 0 {
		s.SequenceNumberForAllocation = make(map[string]uint64, len(b.held))
	}
	byHandle := map[string][]int{} // indexes into s.Attributes
	for _, o := range slices.Sorted(maps.Keys(b.held)) {
		a := b.held[o]
		i := slices.IndexFunc(byHandle[a.Handle], func(i int) bool {
			return maps.Equal(s.Attributes[i].ActiveOwnerAttrs, a.Attrs) && released(s.Attributes[i]).Equal(a.Released)
		})
		var index int
		if i >= 0 {
			index = byHandle[a.Handle][i]
		} else {
			index = len(s.Attributes)
			byHandle[a.Handle] = append(byHandle[a.Handle], index)
			s.Attributes = append(s.Attributes, attribute(a))
		}
		s.Allocations[o] = &index
		s.SequenceNumberForAllocation[strconv.Itoa(o)] = a.Sequence
	}
	return s
}

func attribute(a Allocation) api.AllocationAttribute {
	attr := api.AllocationAttribute{HandleID: a.Handle, ActiveOwnerAttrs: maps.Clone(a.Attrs)}
	if a.Cooling() {
		attr.ReleasedAt = &metav1.Time{Time: a.Released}
	}
	return attr
}

// released is when an address was released, zero if it is assigned. The stored form has whole seconds.
func released(attr api.AllocationAttribute) time.Time {
	if attr.ReleasedAt.IsZero() {
		return time.Time{}
	}
	return attr.ReleasedAt.UTC().Truncate(time.Second)
}

// Release gives what a stored block becomes when the assignment of one address ends, and never changes s itself. The
// sequence number must be the one that the caller saw, so that a release that was decided on an older copy
// does no harm: ErrStale names what has changed. The address cools down since at; the zero time frees it at once. A
// lease is its node's to give back.
func Release(s api.IPAMBlockSpec, a netip.Addr, sequence uint64, at time.Time) (api.IPAMBlockSpec, error) {
	b, err := From(s)
	if err != nil {
		return s, err
	}
	if al, ok := b.At(a); ok && al.Leased() {
		return s, fmt.Errorf("release %s: node %q has leased it: it is that node's to give back", a, al.Attrs["node"])
	}
	if err := b.Release(a, sequence, at); err != nil {
		return s, err
	}
	return b.Spec(), nil
}
