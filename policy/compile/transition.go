// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"maps"
	"slices"

	"korat/api"
	"korat/policy/chain"
)

// Transition gives the states that the chains pass through on their way from before to after, without these two: from one to
// the next a single table changes, as the kernel changes one at a time. There is none where that makes no
// difference. changed are the keys of the chains that are not the same in both.
//
// Of the policies of a host endpoint that a packet comes by, or that it is sent by, those in the first table decide that
// decide at all: raw, mangle or filter. A table that would decide on fewer packets at once would leave some to a table that
// does not know yet what to do with them; one that would decide on more has to come before the next ones change. So raw
// and mangle at first decide on what they are to decide on and on what they have decided on; then filter changes, and
// then they forget. Of the others, in filter, all have to allow a packet: so long, those that there were and those that are
// to be. A verdict then is the old one or the new one at every moment.
//
// A family that is in one of both only comes or goes as a whole, at the end.
func Transition(before, after map[chain.Key]*chain.Chain, changed []chain.Key) []map[chain.Key]*chain.Chain {
	if !crosses(changed) || !early(before) && !early(after) {
		return nil
	}
	both := familiesOf(before, after)
	b, a := split(before, both), split(after, both)
	now, at := before, maps.Clone(b)
	var states []map[chain.Key]*chain.Chain
	then := func(t chain.Table, chains tableChains) {
		if maps.EqualFunc(at[t], chains, (*chain.Chain).Equal) {
			return
		}
		at[t] = chains
		now = maps.Clone(now)
		maps.DeleteFunc(now, func(k chain.Key, _ *chain.Chain) bool { return k.Table == t && both[k.Family] })
		maps.Copy(now, chains)
		states = append(states, now)
	}
	// What raw and mangle accept has a mark. Others' are taken off before filter trusts in it, and filter does before any
	// packet may come with it.
	then(chain.Raw, trusting(b[chain.Raw], a[chain.Raw]))
	then(chain.Filter, agreeing(b[chain.Filter], a[chain.Filter]))
	then(chain.Raw, deciding(a[chain.Raw], b[chain.Raw]))
	then(chain.Mangle, deciding(a[chain.Mangle], b[chain.Mangle]))
	then(chain.Filter, agreeing(a[chain.Filter], b[chain.Filter]))
	then(chain.Mangle, a[chain.Mangle])
	then(chain.Raw, trusting(a[chain.Raw], b[chain.Raw]))
	then(chain.Filter, a[chain.Filter])
	then(chain.Raw, a[chain.Raw])
	if n := len(states); n > 0 && maps.EqualFunc(states[n-1], after, (*chain.Chain).Equal) {
		return states[:n-1]
	}
	return states
}

// tableChains are those of one table, in the families that are in both.
type tableChains map[chain.Key]*chain.Chain

// crosses says whether the chains of several tables change. That of nat denies nothing.
func crosses(changed []chain.Key) bool {
	tables := map[chain.Table]bool{}
	for _, k := range changed {
		tables[k.Table] = true
	}
	delete(tables, chain.NAT)
	return len(tables) > 1
}

// early says whether there are policies that decide before those of filter. Those in mangle POSTROUTING are for what
// filter's leave alone.
func early(chains map[chain.Key]*chain.Chain) bool {
	for _, f := range api.Families() {
		for _, k := range []chain.Key{{Table: chain.Raw, Name: fromHost}, {Table: chain.Raw, Name: toHost}, {Table: chain.Mangle, Name: fromHost}} {
			k.Family = f
			if chains[k] != nil {
				return true
			}
		}
	}
	return false
}

// familiesOf gives those that are in both.
func familiesOf(before, after map[chain.Key]*chain.Chain) map[api.Family]bool {
	both := map[api.Family]bool{}
	for _, f := range api.Families() {
		hook := chain.Key{Family: f, Table: chain.Filter, Name: "FORWARD"}
		if before[hook] != nil && after[hook] != nil {
			both[f] = true
		}
	}
	return both
}

// split gives the chains of each table.
func split(chains map[chain.Key]*chain.Chain, families map[api.Family]bool) map[chain.Table]tableChains {
	all := map[chain.Table]tableChains{chain.Raw: {}, chain.Mangle: {}, chain.NAT: {}, chain.Filter: {}}
	for k, c := range chains {
		if families[k.Family] {
			all[k.Table][k] = c
		}
	}
	return all
}

// trusting gives chains that know what the marks of policies in raw and mangle mean, if others do: where the ways to the
// chains of endpoints begin there is then one rule for that.
func trusting(chains, others tableChains) tableChains {
	all := maps.Clone(chains)
	for k, other := range others {
		at := marker(k, other)
		if at < 0 || marker(k, all[k]) >= 0 {
			continue
		}
		var rules []chain.Rule
		switch have := chains[k]; {
		case have != nil:
			rules = slices.DeleteFunc(slices.Clone(have.Rules), func(r chain.Rule) bool { return r.ID == undecide.ID })
		case k.Table == chain.Raw: // it is of OUTPUT: what comes in has one always
			hook := chain.Key{Family: k.Family, Table: k.Table, Name: "OUTPUT"}
			all[hook], at = others[hook], 0
		default: // nothing is decided there
			continue
		}
		all[k] = &chain.Chain{Rules: slices.Insert(rules, at, other.Rules[at])}
	}
	return all
}

// marker gives where a chain has the rule for these marks, and -1 if it has none.
func marker(k chain.Key, c *chain.Chain) int {
	if c == nil || !slices.Contains([]string{earlyChain, "cali-INPUT", "cali-FORWARD", "cali-OUTPUT"}, k.Name) {
		return -1
	}
	return slices.IndexFunc(c.Rules, func(r chain.Rule) bool {
		return slices.Contains([]string{unmark.ID, acceptedBefore.ID, unpass.ID}, r.ID)
	})
}

// deciding gives the chains of raw or mangle that decide as they do, and on the rest as others do.
func deciding(chains, others tableChains) tableChains {
	all := maps.Clone(chains)
	for k, other := range others {
		// With policies, what leads to them has more rules.
		if k.Own() || slices.Contains([]string{earlyChain, "cali-OUTPUT", "cali-POSTROUTING"}, k.Name) {
			if have := all[k]; have == nil || len(have.Rules) < len(other.Rules) {
				all[k] = other
			}
		}
	}
	m := merger{chains, others, all}
	m.merge(fromHost, rule(back, accepted), unmark)
	m.merge(toHost, rule(back, accepted), unmark)
	return all
}

// agreeing gives the chains of filter that are trusting, in which policies besides those that decide first allow what those
// of others allow, too.
func agreeing(chains, others tableChains) tableChains {
	all := trusting(chains, others)
	for _, f := range api.Families() {
		k := chain.Key{Family: f, Table: chain.Filter, Name: "cali-FORWARD"}
		have, other := all[k], others[k]
		if have == nil || other == nil || leads(have, toForward) >= 0 || leads(other, toForward) < 0 {
			continue
		}
		all[k] = &chain.Chain{Rules: slices.Insert(slices.Clone(have.Rules), leads(have, toWorkloads)+1, other.Rules[leads(other, toForward)])}
	}
	m := merger{chains, others, all}
	m.merge(fromWorkloads, unmark)
	m.merge(toWorkloads)
	m.merge(toForward)
	return all
}

// leads gives where a chain leads to another, and -1 if it does not.
func leads(c *chain.Chain, to string) int {
	return slices.IndexFunc(c.Rules, func(r chain.Rule) bool { return r.Action.Chain() == to })
}

// merger adds to all, which is based on chains, some of others.
type merger struct{ chains, others, all tableChains }

// merge has a packet that comes to the chain of a name go through the others' chain of that name after it, with these rules
// between, and not if it was dropped before.
func (m merger) merge(name string, between ...chain.Rule) {
	for k, other := range m.others {
		if k.Name != name {
			continue
		}
		have, added := m.chains[k], m.add(k, other, map[string]string{})
		switch {
		case have == nil:
			m.all[k] = added
		case !have.Equal(added):
			first, second := k, k
			first.Name, second.Name = fit("cali-1st", name, false), fit("cali-2nd", name, false)
			m.all[first], m.all[second] = have, added
			m.all[k] = &chain.Chain{Rules: slices.Concat([]chain.Rule{rule(jump(first.Name))}, between, []chain.Rule{rule(gotoChain(second.Name))})}
		}
	}
}

// add gives one of the others' chains, and adds those that it leads to. names are what they are called, by their names.
func (m merger) add(k chain.Key, c *chain.Chain, names map[string]string) *chain.Chain {
	added := &chain.Chain{Rules: slices.Clone(c.Rules)}
	for i, r := range added.Rules {
		to := r.Action.Chain()
		if to == "" {
			continue
		}
		k.Name = to
		if r.Action.Text = m.name(k, names); r.Action.Text != to {
			added.Rules[i] = chain.NewRule(r.Comment, r.Action, r.Conditions...)
		}
	}
	return added
}

// name gives the name of one of the others' chains, and adds it: under another name if there is one with other rules.
func (m merger) name(k chain.Key, names map[string]string) string {
	if name, known := names[k.Name]; known {
		return name
	}
	name, added := k.Name, m.add(k, m.others[k], names)
	if have := m.chains[k]; have == nil || !have.Equal(added) {
		if have != nil {
			name = fit("cali-too", k.Name, false)
		}
		m.all[chain.Key{Family: k.Family, Table: k.Table, Name: name}] = added
	}
	names[k.Name] = name
	return name
}
