// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"net/netip"
	"strings"

	"korat/felix/kernel"
	"korat/felix/revocation/revocationtest"
	"korat/policy"
)

// fakeConntrack has flows.
type fakeConntrack struct{ revocationtest.Conntrack }

// open adds a TCP flow.
func (c *fakeConntrack) open(from, to netip.Addr, port uint16) {
	c.Add(kernel.Flow{
		Protocol: policy.TCP,
		Original: kernel.Tuple{Source: from, Destination: to, SourcePort: 40000, DestinationPort: port},
		Reply:    kernel.Tuple{Source: to, Destination: from, SourcePort: port, DestinationPort: 40000},
	})
}

// dump gives the flows, a line each.
func (c *fakeConntrack) dump() string {
	var b strings.Builder
	for _, f := range c.Flows() {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}
