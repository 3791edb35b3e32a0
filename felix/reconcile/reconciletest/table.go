// SPDX-License-Identifier: Apache-2.0

// Package reconciletest has the one fake of reconcile.Table: a map that records what is written to
// it, and fails when told to.
package reconciletest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"korat/felix/reconcile"
)

// Table is a kernel table in memory. It is safe for concurrent use; the fields are set before use,
// or through Change.
type Table[K comparable, V reconcile.Value[V]] struct {
	// Have is what the table holds.
	Have map[K]V
	// ReadErr fails every Read, and WriteErr every Write after half of it has been done.
	ReadErr, WriteErr error
	// Bad fails the Write of single keys.
	Bad map[K]error
	// Writes holds one text per Write: "+ key value" and "- key", sorted, one per line.
	Writes []string
	// Reads counts the Reads.
	Reads int

	mu sync.Mutex
}

// Read gives a copy of what the table holds.
func (t *Table[K, V]) Read(context.Context) (map[K]V, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Reads++
	if t.ReadErr != nil {
		return nil, t.ReadErr
	}
	return maps.Clone(t.Have), nil
}

// Write changes the table, but for what is to fail.
func (t *Table[K, V]) Write(_ context.Context, d reconcile.Diff[K, V]) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.Have == nil {
		t.Have = map[K]V{}
	}
	t.Writes = append(t.Writes, describe(d))
	var failed reconcile.WriteError[K]
	for k, v := range d.Set {
		if err := t.Bad[k]; err != nil {
			failed.Fail(k, fmt.Errorf("set %v: %w", k, err))
			continue
		}
		t.Have[k] = v
	}
	if t.WriteErr != nil {
		return t.WriteErr
	}
	for k := range d.Delete {
		if err := t.Bad[k]; err != nil {
			failed.Fail(k, fmt.Errorf("delete %v: %w", k, err))
			continue
		}
		delete(t.Have, k)
	}
	return failed.Err()
}

// Change does something to the table behind the Step's back.
func (t *Table[K, V]) Change(change func(*Table[K, V])) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(t)
}

// Dump gives what the table holds as text, "key value", one sorted line per entry.
func (t *Table[K, V]) Dump() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return lines("", t.Have)
}

// TakeWrites gives the texts of the Writes since the last call, joined by an empty line.
func (t *Table[K, V]) TakeWrites() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.Join(t.Writes, "\n")
	t.Writes = nil
	return text
}

func describe[K comparable, V reconcile.Value[V]](d reconcile.Diff[K, V]) string {
	return lines("+ ", d.Set) + lines("- ", d.Delete)
}

func lines[K comparable, V any](prefix string, entries map[K]V) string {
	list := make([]string, 0, len(entries))
	for k, v := range entries {
		list = append(list, fmt.Sprintf("%s%v %v\n", prefix, k, v))
	}
	slices.Sort(list)
	return strings.Join(list, "")
}
