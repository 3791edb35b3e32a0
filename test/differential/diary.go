// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"context"
	"fmt"
	"sync"

	"korat/felix"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy/chain"
)

// diary has what an agent has written to the packet filter.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, fmt.Sprintf(format, args...))
}

// take gives the entries since the last time.
func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.entries
	d.entries = nil
	return all
}

// notedSets are sets of which the writes are noted.
type notedSets struct {
	felix.SetTable
	*diary
}

// Write implements felix.SetTable.
func (n notedSets) Write(ctx context.Context, changes []kernel.SetChange) error {
	for _, c := range changes {
		n.note("set %s: add %v, remove %v, replace %v, destroy %v", c.Key.Name, c.Add, c.Remove, c.Replace, c.Destroy)
	}
	return n.SetTable.Write(ctx, changes)
}

// notedChains are chains of which the writes are noted.
type notedChains struct {
	*kernel.AutoChains
	*diary
}

// Write implements reconcile.Table.
func (n notedChains) Write(ctx context.Context, d reconcile.Diff[chain.Key, *chain.Chain]) error {
	for k, c := range d.Set {
		n.note("chain %s: %v", k, c.Rules)
	}
	for k := range d.Delete {
		n.note("chain %s: delete", k)
	}
	return n.AutoChains.Write(ctx, d)
}
