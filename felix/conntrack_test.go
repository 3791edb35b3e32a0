// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"korat/felix/kernel"
	"korat/policy"
)

// fakeConntrack has flows.
type fakeConntrack struct {
	mu    sync.Mutex
	flows []kernel.Flow
}

// Read implements revocation.Conntrack.
func (c *fakeConntrack) Read(_ context.Context, addresses []netip.Addr, each func(kernel.Flow)) error {
	c.mu.Lock()
	all := slices.Clone(c.flows)
	c.mu.Unlock()
	for _, f := range all {
		if slices.Contains(addresses, f.Original.Source) || slices.Contains(addresses, f.Reply.Source) {
			each(f)
		}
	}
	return nil
}

// Delete implements revocation.Conntrack.
func (c *fakeConntrack) Delete(_ context.Context, flows []kernel.Flow) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flows = slices.DeleteFunc(c.flows, func(f kernel.Flow) bool { return slices.Contains(flows, f) })
	return nil
}

// Mark implements revocation.Conntrack.
func (c *fakeConntrack) Mark(_ context.Context, flows []kernel.Flow, value, mask uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, f := range c.flows {
		if slices.Contains(flows, f) {
			c.flows[i].Mark = f.Mark&^mask | value
		}
	}
	return nil
}

// open adds a TCP flow.
func (c *fakeConntrack) open(from, to netip.Addr, port uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flows = append(c.flows, kernel.Flow{
		Protocol: policy.TCP,
		Original: kernel.Tuple{Source: from, Destination: to, SourcePort: 40000, DestinationPort: port},
		Reply:    kernel.Tuple{Source: to, Destination: from, SourcePort: port, DestinationPort: 40000},
	})
}

// dump gives the flows, a line each.
func (c *fakeConntrack) dump() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, f := range c.flows {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}
