// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"cmp"
	"slices"

	"korat/api"
)

// Table is one of the kernel's tables, named as iptables does.
type Table string

// The tables, in the order in which a packet meets them at one hook.
const (
	Raw    Table = "raw"
	Mangle Table = "mangle"
	NAT    Table = "nat"
	Filter Table = "filter"
)

// Key names a chain. A Name in capitals is one of the kernel's own chains, of which only our rules are meant.
type Key struct {
	Family api.Family
	Table  Table
	Name   string
}

// Compare orders by family, table and name.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Family, o.Family), cmp.Compare(k.Table, o.Table), cmp.Compare(k.Name, o.Name))
}

// String gives "IPv4 filter cali-FORWARD".
func (k Key) String() string { return k.Family.String() + " " + string(k.Table) + " " + k.Name }

// MaxName is the longest name that a chain may have: XT_EXTENSION_MAXNAMELEN less the terminating zero.
const MaxName = 28

// Own says whether the chain is the kernel's own, which exists for ever and in which others have rules too.
func (k Key) Own() bool {
	return slices.Contains([]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}, k.Name)
}

// Chain is a list of rules. It is never changed once made.
type Chain struct {
	// Rules come in their order; in one of the kernel's own chains they stand before everybody else's.
	Rules []Rule
	// Last are the rules that stand after everybody else's, in one of the kernel's own chains only.
	Last []Rule
	// Misplaced is reported of our rules in one of the kernel's own chains that stand elsewhere. It is never
	// wanted.
	Misplaced bool
	// Alone is reported of one of the kernel's own chains that has no rules but ours: Rules then has all of them,
	// as nothing tells which stand last. It is never wanted.
	Alone bool
}

// Equal says whether both have the same rules, by their IDs, that lead to the same chains: where a chain was given another
// name, rules lead to it by that. A rule that is not ours has no ID and equals none.
func (c *Chain) Equal(o *Chain) bool {
	if c == o {
		return true
	}
	if c.Misplaced || o.Misplaced {
		return false
	}
	if c.Alone || o.Alone {
		return slices.EqualFunc(slices.Concat(c.Rules, c.Last), slices.Concat(o.Rules, o.Last), same)
	}
	return slices.EqualFunc(c.Rules, o.Rules, same) && slices.EqualFunc(c.Last, o.Last, same)
}

func same(a, b Rule) bool { return a.ID != "" && a.ID == b.ID && a.Action.Chain() == b.Action.Chain() }

// Uses yields the chains of the same table that its rules jump or go to.
func (c *Chain) Uses(yield func(name string) bool) {
	for _, rules := range [][]Rule{c.Rules, c.Last} {
		for _, r := range rules {
			if target := r.Action.Chain(); target != "" && !yield(target) {
				return
			}
		}
	}
}

// Sets yields the sets that its rules look into.
func (c *Chain) Sets(yield func(name string) bool) {
	for _, rules := range [][]Rule{c.Rules, c.Last} {
		for _, r := range rules {
			for _, condition := range r.Conditions {
				if in, ok := condition.(InSet); ok && !yield(in.Set) {
					return
				}
			}
		}
	}
}

// Elsewhere gives the chain as one that looks into other sets instead, by their names; nil if it looks into none of those.
func (c *Chain) Elsewhere(sets map[string]string) *Chain {
	if !c.looksInto(sets) {
		return nil
	}
	moved := func(rules []Rule) []Rule {
		rules = slices.Clone(rules)
		for i, r := range rules {
			conditions := slices.Clone(r.Conditions)
			for j, condition := range conditions {
				if in, ok := condition.(InSet); ok && sets[in.Set] != "" {
					in.Set = sets[in.Set]
					conditions[j] = in
				}
			}
			rules[i] = NewRule(r.Comment, r.Action, conditions...)
		}
		return rules
	}
	return &Chain{Rules: moved(c.Rules), Last: moved(c.Last)}
}

func (c *Chain) looksInto(sets map[string]string) bool {
	for name := range c.Sets {
		if sets[name] != "" {
			return true
		}
	}
	return false
}

// Rule does Action with a packet of which all Conditions are true.
type Rule struct {
	// ID is a hash of the rest, as NewRule gives it; empty of a rule in the kernel that has none.
	ID         string
	Conditions []Condition
	Action     Action
	// Comment is for people.
	Comment string
}
