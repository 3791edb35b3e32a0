// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"net/netip"
	"slices"
	"strings"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/explain"
)

// packet is what chains look at.
type packet struct {
	explain.Flow
	in, out string
	spoofed bool
	mark    uint32
}

// machine does what the kernel would do with chains and sets, for the first packet of a connection.
type machine struct {
	chains map[chain.Key]*chain.Chain
	sets   map[string][]policy.Member
	kinds  map[string]policy.SetKind
}

func newMachine(c *compile.Compiler) *machine {
	m := &machine{c.Chains(), map[string][]policy.Member{}, map[string]policy.SetKind{}}
	for key := range c.Sets() {
		m.sets[key.Name], m.kinds[key.Name] = slices.Collect(c.Members(key)), key.Kind
	}
	return m
}

// fate is what has become of a packet.
type fate int

const (
	undecided fate = iota
	accepted
	dropped
)

// passes says whether the packet gets through the chains of a hook: those of raw PREROUTING, and of filter's own.
func (m *machine) passes(p *packet, hook string) bool {
	for _, key := range []chain.Key{{Table: chain.Raw, Name: "PREROUTING"}, {Table: chain.Filter, Name: hook}} {
		key.Family = api.FamilyOf(p.From.Address)
		c := m.chains[key]
		if c != nil && m.run(p, key, slices.Concat(c.Rules, c.Last)) == dropped {
			return false
		}
	}
	return true
}

// run goes through the rules of a chain.
func (m *machine) run(p *packet, key chain.Key, rules []chain.Rule) fate {
	for _, r := range rules {
		if slices.ContainsFunc(r.Conditions, func(c chain.Condition) bool { return !m.holds(p, c) }) {
			continue
		}
		switch a := r.Action; a.Verb {
		case chain.Accept:
			return accepted
		case chain.Drop, chain.Reject:
			return dropped
		case chain.Return:
			return undecided
		case chain.Jump, chain.Goto:
			next := chain.Key{Family: key.Family, Table: key.Table, Name: a.Text}
			if f := m.run(p, next, m.chains[next].Rules); f != undecided || a.Verb == chain.Goto {
				return f
			}
		case chain.SetMark:
			p.mark = p.mark&^a.Mask | a.Value
		case chain.Report, chain.KernelLog:
		default:
			panic("no such packet is expected at " + r.String())
		}
	}
	return undecided
}

func (m *machine) holds(p *packet, c chain.Condition) bool {
	switch c := c.(type) {
	case chain.In:
		return device(string(c), p.in)
	case chain.Out:
		return device(string(c), p.out)
	case chain.Proto:
		return c.Not != (p.Protocol == c.Number)
	case chain.Net:
		return c.Not != c.Prefix.Contains(p.address(c.Side))
	case chain.Ports:
		return c.Not != slices.ContainsFunc(c.Ranges, func(r policy.PortRange) bool { return r.First <= p.port(c.Side) && p.port(c.Side) <= r.Last })
	case chain.ICMP:
		return c.Not != (p.ICMP.Type == c.Type && (c.Code < 0 || p.ICMP.Code == c.Code))
	case chain.Mark:
		return c.Not != (p.mark&c.Mask == c.Value)
	case chain.ConnMark:
		return c.Not // no packet here is of a connection that was revoked
	case chain.CTState:
		return c.Not != slices.Contains(strings.Split(c.States, ","), "NEW")
	case chain.InSet:
		return c.Not != m.member(p, c)
	case chain.Spoofed:
		return p.spoofed
	}
	panic("no such condition is expected: " + c.String())
}

func device(want, have string) bool {
	prefix, wild := strings.CutSuffix(want, "+")
	return want == have || wild && strings.HasPrefix(have, prefix)
}

func (m *machine) member(p *packet, c chain.InSet) bool {
	kind, known := m.kinds[c.Set]
	if !known {
		panic("no set " + c.Set)
	}
	addr, port := p.address(c.Side), p.port(c.Side)
	return slices.ContainsFunc(m.sets[c.Set], func(e policy.Member) bool {
		switch kind {
		case policy.Prefixes:
			return e.Prefix.Contains(addr)
		case policy.AddressPorts:
			return e.Prefix.Contains(addr) && e.Protocol == p.Protocol && e.Port == port
		default:
			return e.Port == port
		}
	})
}

func (p *packet) address(s chain.Side) netip.Addr {
	if s == chain.Source {
		return p.From.Address
	}
	return p.To.Address
}

func (p *packet) port(s chain.Side) uint16 {
	if s == chain.Source {
		return p.SourcePort
	}
	return p.DestinationPort
}
