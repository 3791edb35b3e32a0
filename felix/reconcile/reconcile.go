// SPDX-License-Identifier: Apache-2.0

// Package reconcile makes one kernel table hold what is wanted: Read, Compare, Write. It is pure:
// the tables themselves are in felix/kernel, and reconciletest has the one fake.
//
// Open step.go first: Step is what a caller works with.
package reconcile

import (
	"context"
	"maps"
	"slices"
)

// Value is what a table holds under a key. Equal is asked of what is wanted, with what is held.
type Value[V any] interface{ Equal(V) bool }

// Table is the whole contract of a kernel table.
type Table[K comparable, V Value[V]] interface {
	// Read returns the entries that are ours, and only those.
	Read(ctx context.Context) (map[K]V, error)
	// Write tries every change, sets before deletes where the two could be seen apart. Deleting the
	// absent and setting what is so already are success. Its error is a *WriteError[K] if it knows
	// which entries failed and that all others were done; any other error leaves every entry in doubt, also
	// one that a WriteError is only a part of.
	Write(ctx context.Context, d Diff[K, V]) error
}

// DigestReader is a Table that can tell for less than a Read that it holds what it held.
type DigestReader[K comparable, V Value[V]] interface {
	// ReadChanged is Read, and gives the digest of what it read, which is never 0. If since is still the
	// digest it gives a nil map.
	ReadChanged(ctx context.Context, since uint64) (have map[K]V, digest uint64, err error)
}

// EntryReader is a Table that can read single entries for much less than a Read. Those of the keys
// that it doesn't hold are missing in the answer.
type EntryReader[K comparable, V Value[V]] interface {
	ReadEntries(ctx context.Context, keys []K) (map[K]V, error)
}

// Diff is a set of changes to one table.
type Diff[K comparable, V Value[V]] struct {
	// Set holds entries to create or replace.
	Set map[K]V
	// Delete holds entries to remove, with the value they have.
	Delete map[K]V
}

// Len counts the changes.
func (d Diff[K, V]) Len() int { return len(d.Set) + len(d.Delete) }

// Keys gives those of all changes.
func (d Diff[K, V]) Keys() []K {
	return slices.AppendSeq(slices.Collect(maps.Keys(d.Set)), maps.Keys(d.Delete))
}

// Compare gives the changes that turn have into want. An entry that is held but not wanted is left
// out if keep is true of it; a nil keep keeps none.
func Compare[K comparable, V Value[V]](want, have map[K]V, keep func(K, V) bool) Diff[K, V] {
	// Into an empty table goes all that is wanted: a map of the right size from the start.
	d := Diff[K, V]{Set: make(map[K]V, max(0, len(want)-len(have))), Delete: map[K]V{}}
	for k, w := range want {
		if h, ok := have[k]; !ok || !w.Equal(h) {
			d.Set[k] = w
		}
	}
	for k, h := range have {
		if _, ok := want[k]; !ok && (keep == nil || !keep(k, h)) {
			d.Delete[k] = h
		}
	}
	return d
}
