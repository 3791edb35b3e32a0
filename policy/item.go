// SPDX-License-Identifier: Apache-2.0

package policy

import "net/netip"

// Item is something with labels that rules can pick: an endpoint or a network set. It is never changed once made.
type Item struct {
	// Labels are the item's own. Parents are the profiles it inherits more from, the first that has a label wins.
	Labels  map[string]string
	Parents []string
	// Prefixes are its addresses, and Ports its named ports.
	Prefixes []netip.Prefix
	Ports    []NamedPort
	// Doubt says that this is not all of it.
	Doubt Doubt
}

// NamedPort is a port of an Item that rules can name.
type NamedPort struct {
	Name     string
	Protocol Protocol
	Port     uint16
}
