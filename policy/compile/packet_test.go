// SPDX-License-Identifier: Apache-2.0

package compile_test

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

// packet is the first of a connection, on its way through the chains.
type packet struct {
	in, out         string
	src, dst        netip.Addr
	protocol        policy.Protocol
	sport, dport    uint16
	icmp            policy.ICMPType
	mark            uint32
	dnat, untracked bool
}

func (p packet) String() string {
	return fmt.Sprintf("%s:%d → %s:%d protocol %d icmp %v, in %q out %q", p.src, p.sport, p.dst, p.dport, p.protocol, p.icmp, p.in, p.out)
}

// kernel passes packets through chains as the kernel does.
type kernel struct {
	t      *testing.T
	chains map[chain.Key]*chain.Chain
	sets   map[string][]policy.Member
	// trail are the rules that matched, and tried is how many were looked at.
	trail []string
	tried int
	// between is called at each look into a set, if it is not nil.
	between func()
}

func newKernel(t *testing.T, c *compile.Compiler) *kernel {
	k := &kernel{t: t, chains: c.Chains(), sets: map[string][]policy.Member{}}
	for key := range c.Sets() {
		k.sets[key.Name] = slices.Collect(c.Members(key))
	}
	return k
}

// end is what a chain has come to.
type end int

const (
	fell end = iota // its end, or a RETURN
	accepted
	dropped
)

// hook is one of the kernel's own chains.
type hook struct {
	table chain.Table
	name  string
}

// hooks passes a packet through one after the other, unless it is dropped. It is accepted if one of them accepts it.
func (k *kernel) hooks(p *packet, all ...hook) end {
	have := fell
	for _, h := range all {
		switch k.hook(p, h.table, h.name) {
		case dropped:
			return dropped
		case accepted:
			have = accepted
		case fell:
		}
	}
	return have
}

// hook passes a packet through one of the kernel's own chains.
func (k *kernel) hook(p *packet, table chain.Table, name string) end {
	return k.pass(p, chain.Key{Family: api.FamilyOf(p.src), Table: table, Name: name}, 0)
}

func (k *kernel) pass(p *packet, key chain.Key, depth int) end {
	c := k.chains[key]
	if c == nil {
		return fell
	}
	if depth > 16 { // NF_MAX_... of iptables-nft: NFT_JUMP_STACK_SIZE
		k.t.Fatalf("%s: chains lead too deep", key)
	}
	for _, r := range slices.Concat(c.Rules, c.Last) {
		k.tried++
		if !slices.ContainsFunc(r.Conditions, func(c chain.Condition) bool { return !k.true(p, c) }) {
			k.trail = append(k.trail, key.Name+": "+r.String())
			if e, done := k.do(p, key, r.Action, depth); done {
				return e
			}
		}
	}
	return fell
}

// do gives what the action comes to, and whether the chain is done with.
func (k *kernel) do(p *packet, key chain.Key, a chain.Action, depth int) (end, bool) {
	switch a.Verb {
	case chain.Accept:
		return accepted, true
	case chain.Drop, chain.Reject:
		return dropped, true
	case chain.Return:
		return fell, true
	case chain.SetMark:
		p.mark = p.mark&^a.Mask | a.Value
	case chain.NoTrack:
		p.untracked = true
	case chain.Jump:
		key.Name = a.Text
		e := k.pass(p, key, depth+1)
		return e, e != fell
	case chain.Goto:
		key.Name = a.Text
		return k.pass(p, key, depth), true
	default: // it goes on
	}
	return fell, false
}

func (k *kernel) true(p *packet, c chain.Condition) bool {
	switch c := c.(type) {
	case chain.In:
		return named(string(c), p.in)
	case chain.Out:
		return named(string(c), p.out)
	case chain.Proto:
		return (p.protocol == c.Number) != c.Not
	case chain.Net:
		addr, _ := p.side(c.Side)
		return c.Prefix.Contains(addr) != c.Not
	case chain.InSet:
		return k.member(p, c) != c.Not
	case chain.Ports:
		_, port := p.side(c.Side)
		return slices.ContainsFunc(c.Ranges, func(r policy.PortRange) bool { return r.First <= port && port <= r.Last }) != c.Not
	case chain.ICMP:
		return (p.icmp.Type == c.Type && (c.Code < 0 || p.icmp.Code == c.Code)) != c.Not
	case chain.Mark:
		return (p.mark&c.Mask == c.Value) != c.Not
	case chain.ConnMark:
		return c.Not // none is of a connection that was revoked
	case chain.CTState:
		is := map[string]bool{"NEW": !p.untracked, "UNTRACKED": p.untracked, "DNAT": p.dnat}
		return slices.ContainsFunc(strings.Split(c.States, ","), func(s string) bool { return is[s] }) != c.Not
	case chain.AddrType:
		addr, _ := p.side(c.Side)
		return slices.Contains(hosts(), addr) != c.Not
	case chain.Spoofed:
		return false
	}
	k.t.Fatalf("condition %v: not known", c)
	return false
}

func named(pattern, name string) bool {
	if stem, open := strings.CutSuffix(pattern, "+"); open {
		return strings.HasPrefix(name, stem)
	}
	return pattern == name
}

func (p *packet) side(s chain.Side) (netip.Addr, uint16) {
	if s == chain.Source {
		return p.src, p.sport
	}
	return p.dst, p.dport
}

func (k *kernel) member(p *packet, c chain.InSet) bool {
	if k.between != nil {
		k.between()
	}
	members, there := k.sets[c.Set]
	if !there {
		k.t.Fatalf("set %s is not there", c.Set)
	}
	addr, port := p.side(c.Side)
	return slices.ContainsFunc(members, func(m policy.Member) bool {
		switch {
		case !m.Prefix.IsValid():
			return m.Port == port
		case c.Port:
			return m.Prefix.Contains(addr) && m.Protocol == p.protocol && m.Port == port
		}
		return m.Prefix.Contains(addr)
	})
}
