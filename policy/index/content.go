// SPDX-License-Identifier: Apache-2.0

package index

import (
	"iter"
	"net/netip"
	"slices"
	"unique"

	"korat/policy"
)

// content is what an item puts into sets: its prefixes, masked and in order, each once, and its named ports.
type content struct {
	prefixes []netip.Prefix
	ports    []policy.NamedPort
}

func newContent(it policy.Item) content {
	c := content{prefixes: make([]netip.Prefix, 0, len(it.Prefixes)), ports: slices.Clone(it.Ports)}
	for _, p := range it.Prefixes {
		if p.IsValid() {
			c.prefixes = append(c.prefixes, p.Masked())
		}
	}
	slices.SortFunc(c.prefixes, netip.Prefix.Compare)
	c.prefixes = slices.Compact(c.prefixes)
	for i, port := range c.ports {
		c.ports[i].Name = unique.Make(port.Name).Value()
	}
	return c
}

func (c content) equal(other content) bool {
	return slices.Equal(c.prefixes, other.prefixes) && slices.Equal(c.ports, other.ports)
}

func (c content) has(prefix netip.Prefix) bool {
	_, found := slices.BinarySearchFunc(c.prefixes, prefix, netip.Prefix.Compare)
	return found
}

// members gives what it puts into a set, which may be one thing more than once.
func (c content) members(q Query) iter.Seq[policy.Member] {
	return func(yield func(policy.Member) bool) {
		for _, prefix := range c.prefixes {
			if !c.withPorts(q, prefix, yield) {
				return
			}
		}
	}
}

// withPorts yields what a prefix gives: itself where no port is asked for.
func (c content) withPorts(q Query, prefix netip.Prefix, yield func(policy.Member) bool) bool {
	if q.Port == "" {
		return yield(policy.Member{Prefix: prefix})
	}
	for _, port := range c.ports {
		m := policy.Member{Prefix: prefix, Protocol: port.Protocol, Port: port.Port}
		if q.names(port) && prefix.IsSingleIP() && !yield(m) {
			return false
		}
	}
	return true
}

// gives says whether m is among members(q).
func (c content) gives(q Query, m policy.Member) bool {
	if !c.has(m.Prefix) {
		return false
	}
	if q.Port == "" {
		return m == policy.Member{Prefix: m.Prefix}
	}
	return m.Prefix.IsSingleIP() && slices.ContainsFunc(c.ports, func(port policy.NamedPort) bool {
		return q.names(port) && port.Protocol == m.Protocol && port.Port == m.Port
	})
}

// only gives the members that c has and other has not, in order and each once.
func (c content) only(other content, q Query) []policy.Member {
	var rest []policy.Member
	for m := range c.members(q) {
		if !other.gives(q, m) {
			rest = append(rest, m)
		}
	}
	return sorted(rest)
}

func sorted(members []policy.Member) []policy.Member {
	slices.SortFunc(members, policy.Member.Compare)
	return slices.Compact(members)
}
