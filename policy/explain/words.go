// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"korat/policy"
)

// longest is how many entries of a list a reason names.
const longest = 6

func listed(parts []string) string {
	if more := len(parts) - longest; more > 0 {
		parts = append(slices.Clone(parts[:longest]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}

// icmp writes "type 8, code 0".
type icmp policy.ICMPType

func (i icmp) String() string {
	if i.Code < 0 {
		return fmt.Sprintf("type %d", i.Type)
	}
	return fmt.Sprintf("type %d, code %d", i.Type, i.Code)
}

// nets writes a list of prefixes.
type nets []netip.Prefix

func (n nets) String() string {
	parts := make([]string, 0, len(n))
	for _, p := range n {
		parts = append(parts, p.String())
	}
	if len(parts) > 1 {
		return "one of " + listed(parts)
	}
	return listed(parts)
}

// portList writes the ports of a rule, with what the names mean to who has the address.
type portList struct {
	world *World
	addr  netip.Addr
	ports []policy.PortRange
	names []string
}

func (l portList) String() string {
	var parts []string
	for _, r := range l.ports {
		if r.First == r.Last {
			parts = append(parts, fmt.Sprint(r.First))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	for _, name := range l.names {
		parts = append(parts, name+" ("+l.meaning(name)+")")
	}
	if len(parts) > 1 {
		return "one of " + listed(parts)
	}
	return listed(parts)
}

func (l portList) meaning(name string) string {
	var found []string
	for _, it := range l.world.known(l.addr) {
		for _, p := range it.ports {
			if p.Name == name {
				found = append(found, fmt.Sprintf("%s %d of %s", p.Protocol, p.Port, it.name))
			}
		}
	}
	if len(found) == 0 {
		return "which " + l.addr.String() + " has not"
	}
	return strings.Join(found, ", ")
}
