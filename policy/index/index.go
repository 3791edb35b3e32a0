// SPDX-License-Identifier: Apache-2.0

package index

import (
	"net/netip"

	"korat/policy"
)

// Item is something with labels: an endpoint or a network set.
type Item struct {
	// Labels are the item's own. Parents are the profiles it inherits more from, the first that has a label wins.
	Labels  map[string]string
	Parents []string
	// Prefixes are its addresses, and Ports its named ports.
	Prefixes []netip.Prefix
	Ports    []Port
}

// Port is a named port of an item.
type Port struct {
	Name     string
	Protocol policy.Protocol
	Port     uint16
}
