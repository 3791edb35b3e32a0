// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"math"
	"net/netip"
	"slices"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/selector"
)

// maxPorts is XT_MULTI_PORTS, in which a range counts as two.
const maxPorts = 15

// maxPortSet is how many ports may be in a set. Of more, which are in long ranges, a few rules say the same.
const maxPortSet = 1024

// inPortSets says whether the kernel's sets of ports know a protocol's ports. (ip_set_get_ip_port in
// net/netfilter/ipset/ip_set_bitmap_port.c; multiport knows those of all protocols that have some.)
func inPortSets(p policy.Protocol) bool { return p == policy.TCP || p == policy.UDP }

// maxNets is how many prefixes are written into rules.
const maxNets = 2

// ports adds the conditions for one end's ports. A named port is a set of addresses with ports, of those that the
// selector picks.
func (e *expansion) ports(s chain.Side, want *policy.Entity, p policy.Protocol) {
	var choice []conditions
	if len(want.Ports) > 0 {
		choice = e.numbers(s, want.Ports, p, false)
	}
	for i := range choice {
		if want.Selector != nil && len(want.NamedPorts) > 0 {
			choice[i] = append(choice[i], e.inSet(s, selectorSet(e.family, *want.Selector), false))
		}
	}
	for _, name := range want.NamedPorts {
		choice = append(choice, conditions{e.inSet(s, namedPortSet(e.family, want.Selector, p, name), false)})
	}
	e.choose(choice)
	e.notPorts(s, want, p)
}

func (e *expansion) notPorts(s chain.Side, want *policy.Entity, p policy.Protocol) {
	if len(want.NotPorts) > 0 {
		for _, c := range e.numbers(s, want.NotPorts, p, true) {
			e.never = e.never || len(c) == 0
			e.require(c...)
		}
	}
	for _, name := range want.NotNamedPorts {
		e.require(e.inSet(s, namedPortSet(e.family, nil, p, name), true))
	}
}

// choose adds a choice. That of one alternative is none.
func (e *expansion) choose(choice []conditions) {
	switch len(choice) {
	case 0:
	case 1:
		e.require(choice[0]...)
	default:
		e.choices = append(e.choices, choice)
	}
}

// numbers gives the conditions one of which must be true for some ports, or all of which with not. It is an empty one
// if these are all ports that there are.
func (e *expansion) numbers(s chain.Side, ports []policy.PortRange, p policy.Protocol, not bool) []conditions {
	ranges := merged(ports)
	slots, count := 0, 0
	for _, r := range ranges {
		slots += size(r)
		count += int(r.Last) - int(r.First) + 1
	}
	switch {
	case count > math.MaxUint16:
		return []conditions{nil}
	case slots > maxPorts && count <= maxPortSet && inPortSets(p):
		return []conditions{{e.inSet(s, portSet(e.family, ranges), not)}}
	}
	var all []conditions
	for len(ranges) > 0 {
		n := 0
		for slots = 0; n < len(ranges) && slots+size(ranges[n]) <= maxPorts; n++ {
			slots += size(ranges[n])
		}
		all = append(all, conditions{chain.Ports{Side: s, Not: not, Ranges: ranges[:n:n]}})
		ranges = ranges[n:]
	}
	return all
}

// size is how many numbers it takes to write a range.
func size(r policy.PortRange) int {
	if r.First == r.Last {
		return 1
	}
	return 2
}

// merged gives the ranges in order, without overlaps.
func merged(ports []policy.PortRange) []policy.PortRange {
	var ranges []policy.PortRange
	for _, r := range slices.SortedFunc(slices.Values(ports), func(a, b policy.PortRange) int { return int(a.First) - int(b.First) }) {
		if n := len(ranges); n > 0 && int(r.First) <= int(ranges[n-1].Last)+1 {
			ranges[n-1].Last = max(ranges[n-1].Last, r.Last)
			continue
		}
		ranges = append(ranges, r)
	}
	return ranges
}

// nets adds the conditions for one end's prefixes.
func (e *expansion) nets(s chain.Side, want *policy.Entity) {
	in, out := e.ofFamily(want.Nets), e.ofFamily(want.NotNets)
	switch {
	case len(want.Nets) > 0 && len(in) == 0, everything(out):
		e.never = true
	case everything(in):
	case len(in) > maxNets, len(in) > 1 && len(in)*e.count() > maxAlternatives:
		e.require(e.inSet(s, prefixSet(e.family, in), false))
	default:
		var choice []conditions
		for _, p := range in {
			choice = append(choice, conditions{chain.Net{Side: s, Prefix: p}})
		}
		e.choose(choice)
	}
	if len(out) > maxNets {
		e.require(e.inSet(s, prefixSet(e.family, out), true))
		return
	}
	for _, p := range out {
		e.require(chain.Net{Side: s, Not: true, Prefix: p})
	}
}

// count is how many alternatives there are so far.
func (e *expansion) count() int {
	n := 1
	for _, choice := range e.choices {
		n *= len(choice)
	}
	return n
}

// ofFamily gives the prefixes of the family in order, without those within others.
func (e *expansion) ofFamily(nets []netip.Prefix) []netip.Prefix {
	var own []netip.Prefix
	for _, p := range nets {
		if e.family.Has(p.Addr()) {
			own = append(own, p.Masked())
		}
	}
	slices.SortFunc(own, netip.Prefix.Compare)
	var wide []netip.Prefix
	for _, p := range own {
		if n := len(wide); n == 0 || !wide[n-1].Contains(p.Addr()) {
			wide = append(wide, p)
		}
	}
	return wide
}

func everything(nets []netip.Prefix) bool { return len(nets) > 0 && nets[0].Bits() == 0 }

// halves gives what stands in a set for every address: the kernel's sets of prefixes take none of length zero.
func halves(f api.Family) [2]netip.Prefix {
	if f == api.IPv4 {
		return [2]netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{}), 1), netip.PrefixFrom(netip.AddrFrom4([4]byte{128}), 1)}
	}
	return [2]netip.Prefix{netip.PrefixFrom(netip.IPv6Unspecified(), 1), netip.PrefixFrom(netip.AddrFrom16([16]byte{128}), 1)}
}

// selectorOrAll gives the selector, or that of all endpoints.
func selectorOrAll(s *selector.Selector) selector.Selector {
	if s == nil {
		return selector.Selector{}
	}
	return *s
}
