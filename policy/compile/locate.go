// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// Check is one of the checks that packets of a family meet: that of an endpoint of this node in a direction. A host
// endpoint has one for each Stage, of which Normal is of what its host itself sends and receives.
type Check struct {
	Local     string
	Family    api.Family
	Direction api.PolicyType
	Stage     policy.Stage
}

// Locate gives the rules in the kernel that decide in a check on packets on which, of all that are there, it is o that
// does: the numbers, from 0, of its rules in a chain. ok is false if there are none. What decides on packets of any
// endpoint is found without a Local.
func (c *Compiler) Locate(at Check, o Origin) (where Position, ok bool) {
	if table, name, fixed := o.What.at(); fixed {
		o.Direction = at.Direction
		where.Chain = chain.Key{Family: at.Family, Table: table, Name: name}
		where.Rules = c.reporting(where.Chain, o.verdict())
		return where, len(where.Rules) > 0
	}
	l := c.locals[at.Local]
	if l == nil || l.group == nil {
		return where, false
	}
	p := placeOf(at)
	sh := l.group.chains[p]
	if sh == nil {
		return where, false
	}
	where.Chain = sh.key
	switch o.What {
	case ByRule:
		return c.locateRule(l.group, p, o, where)
	default:
		o.Direction = at.Direction
		where.Rules = c.reporting(sh.key, o.verdict())
		return where, len(where.Rules) > 0
	}
}

// ChainAt gives the chain of a check.
func (c *Compiler) ChainAt(at Check) (chain.Key, bool) {
	if l := c.locals[at.Local]; l != nil && l.group != nil {
		if sh := l.group.chains[placeOf(at)]; sh != nil {
			return sh.key, true
		}
	}
	return chain.Key{}, false
}

func placeOf(at Check) place {
	p := place{slot: slot{at.Family, at.Direction}, table: chain.Filter}
	switch at.Stage {
	case policy.Forward:
		p.stage = forwarded
	case policy.PreDNAT:
		p.stage, p.table = preDNAT, chain.Mangle
	case policy.Untracked:
		p.stage, p.table = untracked, chain.Raw
	default:
	}
	return p
}

// locateRule finds a rule of a policy or profile. One that allows everything stands in the chain of the endpoint itself.
func (c *Compiler) locateRule(g *group, p place, o Origin, where Position) (Position, bool) {
	s := c.policies[o.Policy.String()]
	if o.Policy.Kind == policy.KindProfile {
		s = c.profiles[o.Policy.Name]
	}
	if s == nil || s.lists[p.slot] == nil {
		return where, false
	}
	l := s.lists[p.slot]
	if l.decides == api.Allow {
		where.Rules = c.allowing(g, p, s)
		return where, len(where.Rules) > 0
	}
	where.Chain.Name = l.name
	for i, origin := range l.origins {
		if origin == o.Rule {
			where.Rules = append(where.Rules, i)
		}
	}
	return where, len(where.Rules) > 0
}

// allowing builds the chain up to the policy or profile, of which the rule is the last one then.
func (c *Compiler) allowing(g *group, p place, s *source) []int {
	q, _ := c.begin(g, p)
	for t, policies := range c.byTier(applying(g.policies, p)) {
		i := slices.Index(policies, s)
		if i >= 0 {
			q.tier(t, policies[:i+1])
			return q.last()
		}
		q.tier(t, policies)
	}
	if i := slices.Index(g.profiles, s); i >= 0 {
		q.finish(g.profiles[:i+1])
		return q.last()
	}
	return nil
}

// last gives the number of the last rule if that allows.
func (q *sequence) last() []int {
	i := len(q.rules) - 1
	if i < 0 || q.rules[i].Action != q.allow {
		return nil
	}
	return []int{i}
}

// Says gives the rule that an Origin of ByRule is.
func (c *Compiler) Says(o Origin) (policy.Rule, bool) {
	s := c.policies[o.Policy.String()]
	if o.Policy.Kind == policy.KindProfile {
		s = c.profiles[o.Policy.Name]
	}
	if s == nil || o.Rule < 0 || o.Rule >= len(s.rules(o.Direction)) {
		return policy.Rule{}, false
	}
	return s.rules(o.Direction)[o.Rule], true
}
