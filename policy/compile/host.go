// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"maps"
	"slices"
	"strconv"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// wildcard stands for all interfaces of the host but those of pods and the loopback.
const (
	wildcard = "*"
	loopback = "lo"
)

// doors are the places with chains of host endpoints, in either family.
type doors map[place]bool

// open says whether there are such chains.
func (d doors) open(t chain.Table, direction api.PolicyType, s stage) bool {
	return d[place{slot{0, direction}, t, s}]
}

// early says whether packets come to filter with marks that mean something there.
func (d doors) early() bool {
	return d.open(chain.Raw, api.Ingress, untracked) || d.open(chain.Mangle, api.Ingress, preDNAT)
}

// rehost writes the chains that lead from the host's own interfaces to those of their endpoints, if one was touched.
func (c *Compiler) rehost() {
	h := c.hosts
	if !h.stale {
		return
	}
	h.stale = false
	now := map[chain.Key]*chain.Chain{}
	open := doors{}
	for _, f := range c.options.Families {
		for _, p := range hostPlaces(f) {
			if rules := c.hostRules(p); len(rules) > 0 {
				now[chain.Key{Family: f, Table: p.table, Name: p.root()}] = &chain.Chain{Rules: rules}
				p.family = 0
				open[p] = true
			}
		}
	}
	c.board.replace(h.written, now)
	h.written = now
	if !maps.Equal(h.open, open) {
		h.open = open
		c.todo.frame = true
	}
}

// hostRules gives the rules that lead to the chains at a place, none if there are no such chains. An interface that
// has an endpoint of its own has nothing of the one for all.
func (c *Compiler) hostRules(p place) []chain.Rule {
	var rules []chain.Rule
	every := c.hosts.chain(wildcard, p)
	for _, name := range slices.Sorted(maps.Keys(c.hosts.at)) {
		sh := c.hosts.chain(name, p)
		switch {
		case name == wildcard || c.hosts.endpoint(name).group == nil: // no rule can be for it alone
		case sh != nil:
			rules = append(rules, rule(gotoChain(sh.key.Name), p.device(name)))
		case every != nil:
			rules = append(rules, rule(back, p.device(name)))
		}
	}
	if every != nil {
		rules = append(rules, rule(back, p.device(c.options.InterfacePrefix+"+")), rule(back, p.device(loopback)),
			rule(gotoChain(every.key.Name)))
	}
	if !slices.ContainsFunc(rules, func(r chain.Rule) bool { return r.Action.Verb == chain.Goto }) {
		return nil
	}
	return rules
}

// hosts are the interfaces of this node itself that have host endpoints.
type hosts struct {
	claims
	stale   bool
	written map[chain.Key]*chain.Chain
	open    doors
}

// chain gives the chain at a place of the endpoint that has an interface.
func (h *hosts) chain(name string, p place) *sharedChain {
	if l := h.endpoint(name); l != nil && l.group != nil {
		return l.group.chains[p]
	}
	return nil
}

// hostChain begins the chain of host endpoints, before their policies.
func (q *sequence) hostChain() {
	switch q.table {
	case chain.Filter:
		q.add(accept, tracked, kept)
		if q.stage == local {
			// What the connection tracking takes for INVALID passes by failsafe ports, too.
			q.add(jump(failsafeChain(q.direction)))
		}
		q.add(gotoChain(dropTracked), notNew)
		q.add(setMark(0, bothMarks))
	case chain.Mangle:
		q.add(setMark(0, bothMarks))
		fallthrough
	default:
		// Those to failsafe ports are passed, and later stages decide.
		q.add(jump(failsafeChain(q.direction)))
		q.add(back, passed)
	}
}

func failsafeChain(d api.PolicyType) string {
	if d == api.Ingress {
		return "cali-failsafe-in"
	}
	return "cali-failsafe-out"
}

// failsafes gives the rules for the ports that are always open. Before connections are tracked, replies of those of the
// other direction are known by their source ports alone.
func (o Options) failsafes(f api.Family, t chain.Table, d api.PolicyType) []chain.Rule {
	own, other, peer := o.FailsafeIn, o.FailsafeOut, chain.Source
	if d == api.Egress {
		own, other, peer = other, own, chain.Destination
	}
	action := accept
	if t != chain.Filter {
		action = gotoChain(passChain)
	}
	rules := failsafeRules(f, own, action, [2]chain.Side{chain.Destination, peer})
	if t == chain.Raw {
		rules = append(rules, failsafeRules(f, other, action, [2]chain.Side{chain.Source, peer})...)
	}
	if f == api.IPv6 {
		for _, t := range hostNeighbours() {
			rules = append(rules, rule(action, chain.Proto{Number: policy.ICMPv6}, chain.ICMP{ICMPType: policy.ICMPType{Type: t, Code: -1}}))
		}
	}
	return rules
}

// hostNeighbours are the ICMPv6 types without which a host has no IPv6: neighbours, and those of routers'
// advertisements (RFC 4861, 134) and of listeners' reports (RFC 3810, 143).
func hostNeighbours() []uint8 { return append(neighbours(), 134, 143) }

// failsafeRules gives a rule for each protocol and peer, with as many ports as one can have. Of the sides the first is
// that of the port, the second that of the peer.
func failsafeRules(f api.Family, all []Failsafe, action chain.Action, sides [2]chain.Side) []chain.Rule {
	ports := map[Failsafe][]policy.PortRange{}
	for _, s := range all {
		r := policy.PortRange{First: s.Port, Last: s.Port}
		if !hasPorts(s.Protocol) || s.Net.IsValid() && !f.Has(s.Net.Addr()) {
			continue
		}
		s.Port = 0
		ports[s] = append(ports[s], r)
	}
	var rules []chain.Rule
	for _, s := range slices.SortedFunc(maps.Keys(ports), Failsafe.compare) {
		e := expansion{family: f}
		e.require(chain.Proto{Number: s.Protocol})
		if s.Net.IsValid() && s.Net.Bits() > 0 {
			e.require(chain.Net{Side: sides[1], Prefix: s.Net.Masked()})
		}
		for ranges := range slices.Chunk(merged(ports[s]), maxPorts/2) {
			rules = append(rules, rule(action, append(slices.Clone(e.common), chain.Ports{Side: sides[0], Ranges: ranges})...))
		}
	}
	return rules
}

func (s Failsafe) compare(other Failsafe) int {
	return slices.Compare([]string{strconv.Itoa(int(s.Protocol)), s.Net.String()}, []string{strconv.Itoa(int(other.Protocol)), other.Net.String()})
}
