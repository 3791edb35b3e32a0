// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// Changes are what has become another since the last Update.
type Changes struct {
	// Chains are the keys of those that are new, others or gone, in order.
	Chains []chain.Key
	Sets   map[policy.SetKey]SetChange
	// Groups are the interfaces that are to have another link group than after the last Update, in order.
	Groups []string
}

// Empty says whether nothing has changed.
func (c Changes) Empty() bool { return len(c.Chains) == 0 && len(c.Sets) == 0 && len(c.Groups) == 0 }

// Update makes all that the Compiler was told take effect, and gives what that changes. It costs what was touched.
func (c *Compiler) Update() Changes {
	earlier := c.todo.affected
	c.todo.affected = Affected{}
	c.regroup()
	c.recompile()
	c.rebuild()
	c.forget()
	c.redispatch()
	c.rehost()
	c.reframe()
	c.publish()
	moved := c.todo.affected.All || len(c.todo.affected.Locals) > 0
	changes := Changes{Chains: c.board.update(), Sets: c.members.update(moved), Groups: c.dispatch.takeRegrouped()}
	for key, change := range changes.Sets {
		if !change.New && !change.Gone {
			c.todo.affected.members(c.members.sets[key], change)
		}
	}
	c.todo.affected.Merge(earlier)
	return changes
}

// recompile makes the rules of the sources that were touched and that apply to endpoints. If their shapes are others
// then, so are the chains of the endpoints.
func (c *Compiler) recompile() {
	for s := range c.todo.sources {
		if len(s.groups) == 0 {
			continue
		}
		if c.compile(s) {
			for g := range s.groups {
				c.todo.groups[g] = struct{}{}
			}
		}
	}
}

// compile makes the lists of a source anew, and says whether a shape has changed.
func (c *Compiler) compile(s *source) bool {
	c.unname(s)
	if s.lists == nil {
		s.lists = map[slot]*list{}
		c.count(s, 1)
	}
	changed := false
	for _, d := range directions() {
		ids := c.name(s, d)
		for _, f := range c.options.Families {
			at := slot{f, d}
			l := s.lists[at]
			if l == nil {
				l = &list{slot: at, name: rulesName(s.id, d), refs: map[chain.Table]int{}}
				s.lists[at] = l
			}
			before := l.content
			l.content = s.compile(l.name, at, c.options, ids)
			changed = changed || before.chain == nil || before.shape != l.shape
			if before.chain != nil && !before.chain.Equal(l.content.chain) {
				c.todo.affected.rules(s)
			}
			c.todo.lists[l] = struct{}{}
		}
	}
	return changed
}

// name notes the IDs by which reports name a source's rules, and unname forgets them.
func (c *Compiler) name(s *source, d api.PolicyType) []string {
	ids := s.verdicts(d)
	for i, id := range ids {
		if id != "" {
			c.verdicts[id] = Origin{What: ByRule, Direction: d, Policy: s.id, Rule: i}
			s.named = append(s.named, id)
		}
	}
	return ids
}

func (c *Compiler) unname(s *source) {
	for _, id := range s.named {
		delete(c.verdicts, id)
	}
	s.named = nil
}

// forget drops what is known of sources that apply to no endpoint any more.
func (c *Compiler) forget() {
	for s := range c.todo.sources {
		if len(s.groups) > 0 {
			continue
		}
		c.unname(s)
		if s.lists != nil {
			s.lists = nil
			c.count(s, -1)
		}
		switch {
		case s.gone:
			delete(c.policies, s.id.String())
		case s.policy == nil && s.profile == nil:
			delete(c.profiles, s.id.Name)
		}
	}
	clear(c.todo.sources)
}

// reframe writes the chains that are always there, if what they depend on has changed.
func (c *Compiler) reframe() {
	if !c.todo.frame {
		return
	}
	c.todo.frame = false
	now := frame(c.options, c.hosts.open)
	sets := natFrame(c.options, now)
	c.board.replace(c.todo.framed, now)
	for _, u := range sets {
		c.members.hold(u)
	}
	for _, u := range c.todo.framedSets {
		c.members.release(u)
	}
	c.todo.framed, c.todo.framedSets = now, sets
}

// publish puts the chains on the board that something leads to, takes the others away, and counts who uses which set.
func (c *Compiler) publish() {
	for sh := range c.todo.shared {
		c.publishShared(sh)
	}
	clear(c.todo.shared)
	var released []use
	for l := range c.todo.lists {
		released = append(released, c.publishList(l)...)
	}
	clear(c.todo.lists)
	for _, u := range released {
		c.members.release(u)
	}
}

func (c *Compiler) publishShared(sh *sharedChain) {
	wanted := sh.refs > 0
	if wanted {
		c.board.set(sh.key, sh.chain)
	} else {
		delete(c.shared, sh.key)
		c.board.remove(sh.key)
	}
	if wanted == sh.live {
		return
	}
	sh.live = wanted
	for _, l := range sh.uses {
		if wanted {
			l.refs[sh.key.Table]++
		} else {
			l.refs[sh.key.Table]--
		}
		c.todo.lists[l] = struct{}{}
	}
}

// publishList puts a list on the board, and gives the sets that it does not use any more.
func (c *Compiler) publishList(l *list) (released []use) {
	used := false
	for table, refs := range l.refs {
		key := chain.Key{Family: l.family, Table: table, Name: l.name}
		if refs == 0 {
			c.board.remove(key)
			delete(l.refs, table)
			continue
		}
		c.board.set(key, l.in(table))
		used = true
	}
	released, l.held = l.held, nil
	if used {
		for _, s := range l.sets {
			c.members.hold(s)
			l.held = append(l.held, s)
		}
	}
	return released
}
