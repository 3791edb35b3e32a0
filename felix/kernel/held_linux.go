// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"maps"
	"slices"
	"strings"

	"korat/policy/chain"
	"korat/policy/render"
)

// held is what the kernel has of one chain, by our knowledge.
type held struct {
	chain *chain.Chain
	// lines are our rules in one of the kernel's own chains, as iptables-save prints them or as we wrote them.
	lines []string
}

// same says whether both are the same, rules that are not ours included.
func (h *held) same(o *held) bool {
	equal := func(a, b chain.Rule) bool { return a.ID == b.ID && a.Action.Chain() == b.Action.Chain() }
	return h.chain.Misplaced == o.chain.Misplaced && h.chain.Alone == o.chain.Alone &&
		slices.EqualFunc(h.chain.Rules, o.chain.Rules, equal) && slices.EqualFunc(h.chain.Last, o.chain.Last, equal)
}

// render gives it as the writer of changes takes it, for whom rules that lead elsewhere than wanted are not ours.
func (h *held) render(want *chain.Chain) render.Held {
	leads := map[string]string{}
	if want != nil {
		for _, r := range want.Rules {
			leads[r.ID] = r.Action.Chain()
		}
	}
	ids := make([]string, len(h.chain.Rules))
	for i, r := range h.chain.Rules {
		if to, wanted := leads[r.ID]; !wanted || to == r.Action.Chain() {
			ids[i] = r.ID
		}
	}
	return render.Held{IDs: ids, Lines: h.lines}
}

// heldTables are the chains of one family, by table and name.
type heldTables map[chain.Table]map[string]*held

func (t heldTables) same(o heldTables) bool {
	return maps.EqualFunc(t, o, func(a, b map[string]*held) bool { return maps.EqualFunc(a, b, (*held).same) })
}

func (t heldTables) set(table chain.Table, name string, h *held) {
	if t[table] == nil {
		t[table] = map[string]*held{}
	}
	t[table][name] = h
}

func (t heldTables) remove(table chain.Table, name string) {
	if delete(t[table], name); len(t[table]) == 0 {
		delete(t, table)
	}
}

// reader makes heldTables of the lines of iptables-save.
type reader struct {
	tables heldTables
	own    map[chain.Table]map[string]*ownChain
	// names are those of chains that rules lead to.
	names map[string]string
}

func newReader() *reader {
	return &reader{tables: heldTables{}, own: map[chain.Table]map[string]*ownChain{}, names: map[string]string{}}
}

func (r *reader) line(t chain.Table, line string) {
	if !slices.Contains(render.Tables(), t) {
		return
	}
	name, rule := chainOf(line)
	switch {
	case strings.HasPrefix(name, chainPrefix):
		if r.tables[t][name] == nil {
			r.tables.set(t, name, &held{chain: &chain.Chain{}})
		}
		if rule {
			c := r.tables[t][name].chain
			c.Rules = append(c.Rules, r.rule(line))
		}
	case rule && chain.Key{Name: name}.Own():
		if r.own[t] == nil {
			r.own[t] = map[string]*ownChain{}
		}
		if r.own[t][name] == nil {
			r.own[t][name] = &ownChain{}
		}
		r.own[t][name].add(line, r.rule(line))
	}
}

// rule gives what is known of a rule: the ID, and the chain of ours that it leads to.
func (r *reader) rule(line string) chain.Rule {
	rule := chain.Rule{ID: render.OwnID(line)}
	if to := leadsTo(line); strings.HasPrefix(to, chainPrefix) {
		name, known := r.names[to]
		if !known {
			name = strings.Clone(to) // the line is much longer
			r.names[name] = name
		}
		rule.Action = chain.Action{Verb: chain.Jump, Text: name}
	}
	return rule
}

// finish gives what was read.
func (r *reader) finish() heldTables {
	for t, chains := range r.own {
		for name, own := range chains {
			if len(own.lines) > 0 {
				r.tables.set(t, name, own.held())
			}
		}
	}
	return r.tables
}

// ownChain sorts the rules of one of the kernel's own chains: ours that stand before all others, between them and
// after them.
type ownChain struct {
	first, between, last []chain.Rule
	lines                []string
	others               bool
}

func (o *ownChain) add(line string, r chain.Rule) {
	if !ours(line) {
		o.between, o.last, o.others = append(o.between, o.last...), nil, true
		return
	}
	o.lines = append(o.lines, line)
	if o.others {
		o.last = append(o.last, r)
	} else {
		o.first = append(o.first, r)
	}
}

func (o *ownChain) held() *held {
	return &held{
		chain: &chain.Chain{Rules: o.first, Last: o.last, Misplaced: len(o.between) > 0, Alone: !o.others},
		lines: o.lines,
	}
}
