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
	key string
	// host says that they are host endpoints.
	host               bool
	policies, profiles []*source
	locals             map[*endpoint]struct{}
	chains             map[place]*sharedChain
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
		if c.leads(l) {
			l.group = c.groupOf(l)
			l.group.locals[l] = struct{}{}
		}
		if before == l.group {
			continue
		}
		c.touch(l)
		if before != nil {
			delete(before.locals, l)
			c.todo.groups[before] = struct{}{}
		}
	}
	clear(c.todo.locals)
}

func (c *Compiler) groupOf(l *endpoint) *group {
	var policies, profiles []*source
	for s := range l.policies {
		if l.Host || local.sees(s.policy.Stage) {
			policies = append(policies, s)
		}
	}
	slices.SortFunc(policies, c.compare)
	for _, name := range l.Profiles {
		profiles = append(profiles, c.profile(name))
	}
	key := groupKey(l.Host, policies, profiles)
	g := c.groups[key]
	if g == nil {
		g = &group{key: key, host: l.Host, policies: policies, profiles: profiles, locals: map[*endpoint]struct{}{}}
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

func groupKey(host bool, policies, profiles []*source) string {
	key := binary.BigEndian.AppendUint32(nil, uint32(len(policies)))
	if host {
		key = append(key, 'h')
	}
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
		g.chains = map[place]*sharedChain{}
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
				c.touch(l)
			}
		}
	}
	clear(c.todo.groups)
}

func (c *Compiler) buildGroup(g *group) {
	for _, f := range c.options.Families {
		places := workloadPlaces(f)
		if g.host {
			places = hostPlaces(f)
		}
		for _, p := range places {
			policies := applying(g.policies, p)
			if p.stage == local || len(policies) > 0 {
				sh := c.share(c.endpointChain(g, p, policies))
				sh.refs++
				g.chains[p] = sh
			}
		}
	}
}

// endpointChain builds the chain of a group's endpoints at a place.
func (c *Compiler) endpointChain(g *group, p place, policies []*source) *sharedChain {
	q, prefix := c.begin(g, p)
	for t, policies := range c.byTier(policies) {
		q.tier(t, policies)
	}
	q.finish(g.profiles)
	ids := make([]string, len(q.rules))
	for i, r := range q.rules {
		ids[i] = r.ID
	}
	return &sharedChain{
		key:   chain.Key{Family: p.family, Table: p.table, Name: prefix + hash(chain.MaxName-len(prefix), ids...)},
		chain: &chain.Chain{Rules: q.rules}, uses: q.uses,
	}
}

// begin gives what the chain of a group's endpoints begins with, and what its name does.
func (c *Compiler) begin(g *group, p place) (q sequence, prefix string) {
	q = sequence{place: p, deny: c.options.deny(p.table), leave: back, allow: gotoChain(allowChain)}
	prefix = "cali-tw-"
	switch {
	case g.host:
		prefix = p.prefix()
		if p.table == chain.Filter && p.stage == local {
			q.leave, q.allow = accept, accept // no chain of ours comes after it
		}
		q.hostChain()
	case p.direction == api.Egress:
		prefix = "cali-fw-"
		q.noTunnels(c.options.VXLANPort)
	}
	return q, prefix
}

func applying(policies []*source, p place) []*source {
	var all []*source
	for _, s := range policies {
		if s.policy.Applies(p.direction) && p.stage.sees(s.policy.Stage) {
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
