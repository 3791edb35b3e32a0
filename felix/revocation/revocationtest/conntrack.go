// SPDX-License-Identifier: Apache-2.0

// Package revocationtest has the fake of revocation.Conntrack: a list of flows.
package revocationtest

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"korat/felix/kernel"
)

// Conntrack is a connection tracking in memory. It is safe for concurrent use; the fields are set before use.
type Conntrack struct {
	// Failing is what Read fails with, once it has given the flows.
	Failing error
	// Reading is called before each flow that Read gives, unless it is nil.
	Reading func()

	mu    sync.Mutex
	flows []kernel.Flow
	asked []netip.Addr
}

// Add begins flows.
func (c *Conntrack) Add(flows ...kernel.Flow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flows = append(c.flows, flows...)
}

// Flows gives the flows that there are, in the order in which they began.
func (c *Conntrack) Flows() []kernel.Flow {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.flows)
}

// Asked gives the addresses of the last Read, sorted.
func (c *Conntrack) Asked() []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.asked)
}

// Read implements revocation.Conntrack.
func (c *Conntrack) Read(_ context.Context, addresses []netip.Addr, each func(kernel.Flow)) error {
	c.mu.Lock()
	c.asked = slices.SortedFunc(slices.Values(addresses), netip.Addr.Compare)
	all := slices.Clone(c.flows)
	c.mu.Unlock()
	for _, f := range all {
		if slices.Contains(addresses, f.Original.Source) || slices.Contains(addresses, f.Reply.Source) {
			if c.Reading != nil {
				c.Reading()
			}
			each(f)
		}
	}
	return c.Failing
}

// Delete implements revocation.Conntrack.
func (c *Conntrack) Delete(_ context.Context, flows []kernel.Flow) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	these := setOf(flows)
	c.flows = slices.DeleteFunc(c.flows, func(f kernel.Flow) bool { return these[f] })
	return nil
}

// Mark implements revocation.Conntrack.
func (c *Conntrack) Mark(_ context.Context, flows []kernel.Flow, value, mask uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	these := setOf(flows)
	for i, f := range c.flows {
		if these[f] {
			c.flows[i].Mark = f.Mark&^mask | value
		}
	}
	return nil
}

// setOf lets thousands be looked up among tens of thousands.
func setOf(flows []kernel.Flow) map[kernel.Flow]bool {
	set := make(map[kernel.Flow]bool, len(flows))
	for _, f := range flows {
		set[f] = true
	}
	return set
}
