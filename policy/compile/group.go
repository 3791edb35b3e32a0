// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"cmp"
	"encoding/binary"
	"iter"
	"slices"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// group is endpoints to which the same policies apply in the same order, with the same profiles.
type group struct {
	key                string
	policies, profiles []*source
	locals             map[*local]struct{}
	chains             map[slot]*sharedChain
}

// sharedChain is a chain of endpoints. Groups whose rules come to the same share one.
type sharedChain struct {
	key   chain.Key
	chain *chain.Chain
	uses  []*list
	refs  int
	// live says that it is on the board.
	live bool
}

// regroup finds the group of each endpoint that was touched.
func (c *Compiler) regroup() {
	for l := range c.todo.locals {
		before := l.group
		l.group = nil
		if !l.gone {
			l.group = c.groupOf(l)
			l.group.locals[l] = struct{}{}
		}
		if before == l.group {
			continue
		}
		c.dispatch.touch(l)
		if before != nil {
			delete(before.locals, l)
			c.todo.groups[before] = struct{}{}
		}
	}
	clear(c.todo.locals)
}

func (c *Compiler) groupOf(l *local) *group {
	var policies, profiles []*source
	for s := range l.policies {
		if s.policy.Stage == policy.Normal || s.policy.Stage == policy.Forward {
			policies = append(policies, s)
		}
	}
	slices.SortFunc(policies, c.compare)
	for _, name := range l.Profiles {
		profiles = append(profiles, c.profile(name))
	}
	key := groupKey(policies, profiles)
	g := c.groups[key]
	if g == nil {
		g = &group{key: key, policies: policies, profiles: profiles, locals: map[*local]struct{}{}, chains: map[slot]*sharedChain{}}
		c.groups[key] = g
		c.todo.groups[g] = struct{}{}
		for s := range g.sources() {
			if s.groups[g] = struct{}{}; s.lists == nil {
				c.todo.sources[s] = struct{}{}
			}
		}
	}
	return g
}

// compare orders policies as they are evaluated.
func (c *Compiler) compare(a, b *source) int {
	byTier := 0
	if a.policy.Tier != b.policy.Tier {
		byTier = c.tier(a.policy.Tier).Compare(c.tier(b.policy.Tier))
	}
	return cmp.Or(byTier, a.policy.Compare(b.policy))
}

func groupKey(policies, profiles []*source) string {
	key := binary.BigEndian.AppendUint32(nil, uint32(len(policies)))
	for _, sources := range [][]*source{policies, profiles} {
		for _, s := range sources {
			key = binary.BigEndian.AppendUint32(key, s.serial)
		}
	}
	return string(key)
}

func (g *group) sources() iter.Seq[*source] {
	return func(yield func(*source) bool) {
		for _, sources := range [][]*source{g.policies, g.profiles} {
			for _, s := range sources {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// byTier gives runs of policies of one tier.
func (c *Compiler) byTier(policies []*source) iter.Seq2[policy.Tier, []*source] {
	return func(yield func(policy.Tier, []*source) bool) {
		for len(policies) > 0 {
			name, n := policies[0].policy.Tier, 1
			for n < len(policies) && policies[n].policy.Tier == name {
				n++
			}
			if !yield(c.tier(name), policies[:n]) {
				return
			}
			policies = policies[n:]
		}
	}
}

// rebuild makes the chains of the groups that were touched, and forgets groups without endpoints.
func (c *Compiler) rebuild() {
	for g := range c.todo.groups {
		before := g.chains
		g.chains = map[slot]*sharedChain{}
		if len(g.locals) > 0 {
			c.buildGroup(g)
		} else {
			delete(c.groups, g.key)
			for s := range g.sources() {
				delete(s.groups, g)
				c.todo.sources[s] = struct{}{}
			}
		}
		moved := len(before) != len(g.chains)
		for at, sh := range before {
			sh.refs--
			moved = moved || g.chains[at] != sh
			c.todo.shared[sh] = struct{}{}
		}
		for l := range g.locals {
			if moved {
				c.dispatch.touch(l)
			}
		}
	}
	clear(c.todo.groups)
}

func (c *Compiler) buildGroup(g *group) {
	for _, f := range c.options.Families {
		for _, d := range directions() {
			at := slot{f, d}
			sh := c.share(c.endpoint(g, at))
			sh.refs++
			g.chains[at] = sh
		}
	}
}

// endpoint builds the chain of a group's endpoints.
func (c *Compiler) endpoint(g *group, at slot) *sharedChain {
	q := sequence{slot: at, deny: c.options.deny()}
	prefix := "cali-tw-"
	if at.direction == api.Egress {
		prefix = "cali-fw-"
		q.noTunnels(c.options.VXLANPort)
	}
	for t, policies := range c.byTier(applying(g.policies, at.direction)) {
		q.tier(t, policies)
	}
	q.profiles(g.profiles)
	ids := make([]string, len(q.rules))
	for i, r := range q.rules {
		ids[i] = r.ID
	}
	return &sharedChain{
		key:   chain.Key{Family: at.family, Table: chain.Filter, Name: prefix + hash(chain.MaxName-len(prefix), ids...)},
		chain: &chain.Chain{Rules: q.rules}, uses: q.uses,
	}
}

func applying(policies []*source, d api.PolicyType) []*source {
	var all []*source
	for _, s := range policies {
		if s.policy.Applies(d) {
			all = append(all, s)
		}
	}
	return all
}

// share gives the chain of the same content that there is already, or makes this it.
func (c *Compiler) share(sh *sharedChain) *sharedChain {
	if known := c.shared[sh.key]; known != nil {
		return known
	}
	c.shared[sh.key] = sh
	c.todo.shared[sh] = struct{}{}
	return sh
}

// ChainOf gives the chain of an endpoint of this node, as of the last Update.
func (c *Compiler) ChainOf(id string, f api.Family, d api.PolicyType) (chain.Key, bool) {
	l := c.locals[id]
	if l == nil || l.group == nil || l.group.chains[slot{f, d}] == nil {
		return chain.Key{}, false
	}
	return l.group.chains[slot{f, d}].key, true
}
