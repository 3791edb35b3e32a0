// SPDX-License-Identifier: Apache-2.0

// Package reconcile makes one kernel table hold what is wanted: Read, Compare, Write. It is pure:
// the tables themselves are in felix/kernel, and reconciletest has the one fake.
package reconcile

import "context"

// Value is what a table holds under a key.
type Value[V any] interface{ Equal(V) bool }

// Table is the whole contract of a kernel table.
type Table[K comparable, V Value[V]] interface {
	// Read returns the entries that are ours, and only those.
	Read(ctx context.Context) (map[K]V, error)
	// Write tries every change and joins the errors; deleting the absent is success.
	Write(ctx context.Context, d Diff[K, V]) error
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
