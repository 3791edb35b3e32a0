// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
)

// Packet is on its way through the chains.
type Packet struct {
	// In and Out are the interfaces that it comes and goes by; empty if there is none at this hook.
	In, Out                     string
	Source, Destination         netip.Addr
	Protocol                    policy.Protocol
	SourcePort, DestinationPort uint16
	ICMP                        policy.ICMPType
	Mark                        uint32
	// Spoofed says that its source is not behind the interface that it came by.
	Spoofed bool
	Connection
}

// Connection is what the connection tracking knows of a packet.
type Connection struct {
	// State is ESTABLISHED, RELATED or INVALID; without it the packet is the first of its connection.
	State string
	// ConnMark is the connection's mark.
	ConnMark uint32
	// Translated says that a DNAT has changed the packet's destination, and Untracked that its connection is not tracked.
	Translated, Untracked bool
}

// is says whether the packet is in a state as rules name them.
func (c Connection) is(state string) bool {
	switch state {
	case "UNTRACKED":
		return c.Untracked
	case "DNAT":
		return c.Translated
	case "NEW":
		state = ""
	}
	return !c.Untracked && c.State == state
}

// marked says whether the mark of the packet's connection is, or with Not is not, as a rule has it. What has no connection
// has no mark of one, not even another one (net/netfilter/xt_connmark.c).
func (c Connection) marked(as chain.ConnMark) bool {
	return !c.Untracked && c.State != "INVALID" && as.Not != (c.ConnMark&as.Mask == as.Value)
}

// String says all that rules look at but the mark.
func (p Packet) String() string {
	return fmt.Sprintf("%s:%d → %s:%d protocol %d icmp %v, in %q out %q, %+v",
		p.Source, p.SourcePort, p.Destination, p.DestinationPort, p.Protocol, p.ICMP, p.In, p.Out, p.Connection)
}

func (p *Packet) side(s chain.Side) (netip.Addr, uint16) {
	if s == chain.Source {
		return p.Source, p.SourcePort
	}
	return p.Destination, p.DestinationPort
}

// Machine passes packets through chains as the kernel does.
type Machine struct {
	TB     testing.TB
	Chains map[chain.Key]*chain.Chain
	// Sets are by their names.
	Sets map[string][]policy.Member
	// Groups are the link groups of interfaces that have one.
	Groups map[string]uint32
	// Local are the addresses of the host itself.
	Local []netip.Addr
	// Trail are the rules that matched, "chain: rule", and Tried is how many were looked at.
	Trail []string
	Tried int
	// Between is called at each look into a set or at a group, if it is not nil.
	Between func()
}

// NewMachine makes one with what there is as of the last Update.
func NewMachine(tb testing.TB, c *compile.Compiler) *Machine {
	return &Machine{TB: tb, Chains: c.Chains(), Sets: Contents(c)}
}

// Contents gives who is in each set of a Compiler, by the sets' names.
func Contents(c *compile.Compiler) map[string][]policy.Member {
	all := map[string][]policy.Member{}
	for key := range c.Sets() {
		all[key.Name] = slices.Collect(c.Members(key))
	}
	return all
}

// Fate is what chains have come to.
type Fate int

// The fates. What has Fell through was neither accepted nor dropped.
const (
	Fell Fate = iota
	Accepted
	Dropped
)

// Hook is one of the kernel's own chains.
type Hook struct {
	Table chain.Table
	Name  string
}

// Through passes a packet through one hook after the other, unless it is dropped. It is accepted if one of them
// accepts it.
func (m *Machine) Through(p *Packet, hooks ...Hook) Fate {
	have := Fell
	for _, h := range hooks {
		switch m.pass(p, chain.Key{Family: api.FamilyOf(p.Source), Table: h.Table, Name: h.Name}, 0) {
		case Dropped:
			return Dropped
		case Accepted:
			have = Accepted
		case Fell:
		}
	}
	return have
}

// deepest is how deep chains of the nft backend may lead (NFT_JUMP_STACK_SIZE in net/netfilter/nf_tables.h).
const deepest = 16

func (m *Machine) pass(p *Packet, key chain.Key, depth int) Fate {
	m.TB.Helper()
	c := m.Chains[key]
	switch {
	case c == nil && depth > 0:
		m.TB.Fatalf("%s is led to, and is not there", key)
	case c == nil:
		return Fell
	case depth > deepest:
		m.TB.Fatalf("%s: chains lead too deep", key)
	}
	for _, r := range slices.Concat(c.Rules, c.Last) {
		m.Tried++
		if slices.ContainsFunc(r.Conditions, func(c chain.Condition) bool { return !m.holds(p, c) }) {
			continue
		}
		m.Trail = append(m.Trail, key.Name+": "+r.String())
		if f, done := m.do(p, key, r.Action, depth); done {
			return f
		}
	}
	return Fell
}

// do gives what the action comes to, and whether the chain is done with.
func (m *Machine) do(p *Packet, key chain.Key, a chain.Action, depth int) (f Fate, done bool) {
	switch a.Verb {
	case chain.Accept:
		return Accepted, true
	case chain.Drop, chain.Reject:
		return Dropped, true
	case chain.Return:
		return Fell, true
	case chain.SetMark:
		p.Mark = p.Mark&^a.Mask | a.Value
	case chain.NoTrack:
		p.Untracked = true
	case chain.Jump:
		key.Name = a.Text
		f := m.pass(p, key, depth+1)
		return f, f != Fell
	case chain.Goto:
		key.Name = a.Text
		return m.pass(p, key, max(depth, 1)), true
	case chain.Report, chain.KernelLog:
	default:
		m.TB.Fatalf("%s: action %v is not known here", key, a)
	}
	return Fell, false
}

func (m *Machine) holds(p *Packet, c chain.Condition) bool {
	switch c := c.(type) {
	case chain.In:
		return isDevice(string(c), p.In)
	case chain.Out:
		return isDevice(string(c), p.Out)
	case chain.LinkGroup:
		device := p.In
		if c.Side == chain.Destination {
			device = p.Out
		}
		group := m.Groups[device]
		if m.Between != nil {
			m.Between()
		}
		return group&c.Mask == c.Value
	case chain.Proto:
		return c.Not != (p.Protocol == c.Number)
	case chain.Net:
		addr, _ := p.side(c.Side)
		return c.Not != c.Prefix.Contains(addr)
	case chain.InSet:
		return c.Not != m.member(p, c)
	case chain.Ports:
		_, port := p.side(c.Side)
		return c.Not != slices.ContainsFunc(c.Ranges, func(r policy.PortRange) bool { return r.First <= port && port <= r.Last })
	case chain.ICMP:
		return c.Not != (p.ICMP.Type == c.Type && (c.Code < 0 || p.ICMP.Code == c.Code))
	case chain.Mark:
		return c.Not != (p.Mark&c.Mask == c.Value)
	case chain.ConnMark:
		return p.marked(c)
	case chain.CTState:
		return c.Not != slices.ContainsFunc(strings.Split(c.States, ","), p.is)
	case chain.AddrType:
		addr, _ := p.side(c.Side)
		return c.Not != slices.Contains(m.Local, addr)
	case chain.Spoofed:
		return p.Spoofed
	}
	m.TB.Fatalf("condition %v is not known here", c)
	return false
}

func isDevice(want, have string) bool {
	stem, open := strings.CutSuffix(want, "+")
	return want == have || open && strings.HasPrefix(have, stem)
}

func (m *Machine) member(p *Packet, c chain.InSet) bool {
	if m.Between != nil {
		m.Between()
	}
	members, there := m.Sets[c.Set]
	if !there {
		m.TB.Fatalf("set %s is not there", c.Set)
	}
	addr, port := p.side(c.Side)
	return slices.ContainsFunc(members, func(e policy.Member) bool {
		switch {
		case !e.Prefix.IsValid():
			return e.Port == port
		case c.Port:
			return e.Prefix.Contains(addr) && e.Protocol == p.Protocol && e.Port == port
		}
		return e.Prefix.Contains(addr)
	})
}
