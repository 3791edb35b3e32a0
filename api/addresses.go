// SPDX-License-Identifier: Apache-2.0

package api

import "net/netip"

// Addresses are a node's own addresses with their subnets' lengths, at most one of each family: invalid
// where the node has none. It is comparable.
//
// +kubebuilder:object:generate=false
type Addresses struct {
	IPv4, IPv6 netip.Prefix
}

// IsValid says whether there is an address at all.
func (a Addresses) IsValid() bool { return a.IPv4.IsValid() || a.IPv6.IsValid() }

// For gives the node's own address of the family that addr has; invalid if it has none of it.
func (a Addresses) For(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return a.IPv4.Addr()
	}
	return a.IPv6.Addr()
}

// Has says whether addr is one of the node's own.
func (a Addresses) Has(addr netip.Addr) bool { return addr.IsValid() && a.For(addr) == addr }

// All gives the valid ones, IPv4 first.
func (a Addresses) All() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range []netip.Prefix{a.IPv4, a.IPv6} {
		if p.IsValid() {
			all = append(all, p)
		}
	}
	return all
}
