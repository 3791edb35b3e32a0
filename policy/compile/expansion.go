// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"slices"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// maxAlternatives is how many rules may stand for one where a set could do with fewer.
const maxAlternatives = 4

// conditions must all be true.
type conditions []chain.Condition

// expansion is what a policy's rule comes to in one family: any of several lists of conditions.
type expansion struct {
	family api.Family
	// common are true of each alternative. Of each of the choices one must be true, too.
	common  conditions
	choices [][]conditions
	sets    []set
	// never says that no packet of the family can match.
	never bool
}

// expand gives the alternatives, none if the rule can match nothing. A rule that says what no chain can (the API
// refuses them) allows nothing, and denies more than it says.
func expand(r policy.Rule, f api.Family) ([]conditions, []set) {
	if !hasPorts(r.Protocol) && usesPorts(r) {
		if r.Action != api.Deny {
			return nil, nil
		}
		r.Source.Ports, r.Source.NotPorts, r.Destination.Ports, r.Destination.NotPorts = nil, nil, nil, nil
	}
	e := expansion{family: f, never: r.Family != 0 && r.Family != f}
	e.protocol(&r)
	e.ports(chain.Source, &r.Source, r.Protocol)
	e.ports(chain.Destination, &r.Destination, r.Protocol)
	e.nets(chain.Source, &r.Source)
	e.nets(chain.Destination, &r.Destination)
	e.selected(chain.Source, &r.Source)
	e.selected(chain.Destination, &r.Destination)
	if e.never {
		return nil, nil
	}
	return e.alternatives(), e.sets
}

func hasPorts(p policy.Protocol) bool {
	return p == policy.TCP || p == policy.UDP || p == policy.SCTP || p == policy.UDPLite
}

func usesPorts(r policy.Rule) bool {
	return len(r.Source.Ports)+len(r.Source.NotPorts)+len(r.Destination.Ports)+len(r.Destination.NotPorts) > 0
}

// alternatives multiplies the choices out. What costs the kernel least comes first.
func (e *expansion) alternatives() []conditions {
	all := []conditions{e.common}
	for _, choice := range e.choices {
		var longer []conditions
		for _, before := range all {
			for _, c := range choice {
				longer = append(longer, slices.Concat(before, c))
			}
		}
		all = longer
	}
	for _, a := range all {
		slices.SortStableFunc(a, func(x, y chain.Condition) int { return cmp.Compare(cost(x), cost(y)) })
	}
	return all
}

func cost(c chain.Condition) int {
	switch c := c.(type) {
	case chain.Proto:
		return 0
	case chain.Net:
		if !c.Not {
			return 1
		}
		return 2
	case chain.Ports, chain.ICMP:
		return 3
	default:
		return 4
	}
}

func (e *expansion) require(c ...chain.Condition) { e.common = append(e.common, c...) }

// icmp is the protocol of the family's ICMP messages.
func icmp(f api.Family) policy.Protocol {
	if f == api.IPv4 {
		return policy.ICMP
	}
	return policy.ICMPv6
}

// protocol adds the conditions for protocols and ICMP types. Each ICMP exists in its own family alone.
func (e *expansion) protocol(r *policy.Rule) {
	typed := r.ICMP != nil || r.NotICMP != nil
	p := r.Protocol
	if typed && p == 0 {
		p = icmp(e.family)
	}
	foreign := p != icmp(e.family) && (p == policy.ICMP || p == policy.ICMPv6)
	switch {
	case foreign, typed && p != icmp(e.family), p != 0 && p == r.NotProtocol:
		e.never = true
	case p != 0:
		e.require(chain.Proto{Number: p})
	case r.NotProtocol != 0:
		e.require(chain.Proto{Not: true, Number: r.NotProtocol})
	}
	if r.ICMP != nil {
		e.require(chain.ICMP{ICMPType: *r.ICMP})
	}
	if r.NotICMP != nil {
		e.require(chain.ICMP{Not: true, ICMPType: *r.NotICMP})
	}
}

// selected adds the conditions for selectors and services.
func (e *expansion) selected(s chain.Side, want *policy.Entity) {
	if want.Selector != nil && !e.selectorInPorts(want) {
		e.require(e.inSet(s, selectorSet(e.family, *want.Selector), false))
	}
	if want.NotSelector != nil {
		e.require(e.inSet(s, selectorSet(e.family, *want.NotSelector), true))
	}
	if want.Service != nil {
		e.require(e.inSet(s, serviceSet(e.family, *want.Service, s == chain.Destination), false))
	}
}

// selectorInPorts says that each alternative for the ports comprises the selector.
func (e *expansion) selectorInPorts(want *policy.Entity) bool { return len(want.NamedPorts) > 0 }

// inSet gives the condition that the packet's address, with its port if the members have ports, is in the set.
func (e *expansion) inSet(s chain.Side, in set, not bool) chain.Condition {
	e.sets = append(e.sets, in)
	return chain.InSet{Side: s, Not: not, Set: in.key.Name, Port: in.key.Kind == policy.AddressPorts}
}
