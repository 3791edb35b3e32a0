// SPDX-License-Identifier: Apache-2.0

package index

import (
	"iter"
	"math"
	"slices"
)

// A table numbers things that have IDs, and gives the numbers of those that went to those that come.
type table[T any] struct {
	byID map[string]uint32
	rows []*T
	free []uint32
}

func (t *table[T]) get(id string) (uint32, *T) {
	number, ok := t.byID[id]
	if !ok {
		return 0, nil
	}
	return number, t.rows[number]
}

// put replaces the row of this ID if there is one.
func (t *table[T]) put(id string, row *T) uint32 {
	if number, ok := t.byID[id]; ok {
		t.rows[number] = row
		return number
	}
	if t.byID == nil {
		t.byID = map[string]uint32{}
	}
	number := uint32(len(t.rows))
	if last := len(t.free) - 1; last >= 0 {
		number, t.free = t.free[last], t.free[:last]
		t.rows[number] = row
	} else {
		t.rows = append(t.rows, row)
	}
	t.byID[id] = number
	return number
}

func (t *table[T]) remove(id string) {
	number, ok := t.byID[id]
	if !ok {
		return
	}
	delete(t.byID, id)
	t.rows[number] = nil
	t.free = append(t.free, number)
	if t.empty() {
		*t = table[T]{} // gives the memory back
	}
}

func (t *table[T]) empty() bool { return len(t.byID) == 0 }

// none is no row: a table of so many would not fit into any memory.
const none = math.MaxUint32

// reaching gives a list that goes with a table's rows, long enough to have this one.
func reaching[T any](list []T, row uint32) []T {
	if missing := int(row) + 1 - len(list); missing > 0 {
		return append(list, make([]T, missing)...)
	}
	return list
}

// all gives the numbers of all rows.
func (t *table[T]) all() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for number, row := range t.rows {
			if row != nil && !yield(uint32(number)) {
				return
			}
		}
	}
}

// numbers is a set of rows, in order: four bytes for each, where a map takes twenty.
type numbers []uint32

func (n numbers) with(number uint32) numbers {
	i, found := slices.BinarySearch(n, number)
	if found {
		return n
	}
	return slices.Insert(n, i, number)
}

func (n numbers) without(number uint32) numbers {
	i, found := slices.BinarySearch(n, number)
	switch {
	case !found:
		return n
	case len(n) == 1:
		return nil
	}
	n = slices.Delete(n, i, i+1)
	if len(n) < cap(n)/4 {
		return slices.Clone(n)
	}
	return n
}

func (n numbers) has(number uint32) bool {
	_, found := slices.BinarySearch(n, number)
	return found
}
