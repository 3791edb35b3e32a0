// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"strconv"
	"strings"
)

// Family is an address family.
type Family uint8

// The address families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families gives both, in the order in which they are always named.
func Families() []Family { return []Family{IPv4, IPv6} }

// FamilyOf gives an address's family; an IPv4-mapped one stands for the IPv4 address.
func FamilyOf(addr netip.Addr) Family {
	if addr.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// String gives "IPv4" or "IPv6".
func (f Family) String() string { return "IPv" + strconv.Itoa(int(f)) }

// Has says whether the address is of the family; an IPv4-mapped one is of neither.
func (f Family) Has(addr netip.Addr) bool {
	if f == IPv4 {
		return addr.Is4()
	}
	return addr.Is6() && !addr.Is4In6()
}

// Addresses are a node's own addresses with their subnets' lengths, at most one of each family: invalid
// where the node has none. It is comparable.
//
// +kubebuilder:object:generate=false
type Addresses struct {
	IPv4, IPv6 netip.Prefix
}

// IsValid says whether there is an address at all.
func (a Addresses) IsValid() bool { return a.IPv4.IsValid() || a.IPv6.IsValid() }

// Of gives the one of the family; invalid if the node has none.
func (a Addresses) Of(f Family) netip.Prefix {
	if f == IPv4 {
		return a.IPv4
	}
	return a.IPv6
}

// For gives the node's own address of the family that addr has; invalid if it has none of it.
func (a Addresses) For(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return a.IPv4.Addr()
	}
	return a.IPv6.Addr()
}

// Has says whether addr is one of the node's own.
func (a Addresses) Has(addr netip.Addr) bool { return addr.IsValid() && a.For(addr) == addr }

// String gives "192.168.100.100/24, fd00:192:168::100/64", or what there is of it.
func (a Addresses) String() string {
	var texts []string
	for _, p := range a.All() {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ", ")
}

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
