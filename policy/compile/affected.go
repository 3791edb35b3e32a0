// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// Affected is which packets may be judged otherwise than before: those of some endpoints of this node, and those from
// and to some addresses.
type Affected struct {
	// All says that they are those of every endpoint, as after a change of what all packets meet: host endpoints.
	All bool
	// Locals are the IDs of endpoints whose rules are others. A pod's endpoint that is new or gone is not among them.
	Locals map[string]struct{}
	// Narrowed are prefixes that sets have gained or lost, so that something may be denied now that was allowed; what
	// has become of Widened can only have allowed more.
	Narrowed, Widened map[netip.Prefix]struct{}
}

// Empty says whether there are none.
func (a *Affected) Empty() bool {
	return !a.All && len(a.Locals) == 0 && len(a.Narrowed) == 0 && len(a.Widened) == 0
}

// Merge adds those of another.
func (a *Affected) Merge(o Affected) {
	a.All = a.All || o.All
	for id := range o.Locals {
		insert(&a.Locals, id)
	}
	for p := range o.Narrowed {
		insert(&a.Narrowed, p)
	}
	for p := range o.Widened {
		insert(&a.Widened, p)
	}
}

// TakeAffected gives what the Updates since the last call have affected.
func (c *Compiler) TakeAffected() Affected {
	a := c.todo.affected
	c.todo.affected = Affected{}
	return a
}

// String gives it for tests and logs: "web1 web2 narrower 10.0.0.1/32 wider 10.0.0.2/32".
func (a Affected) String() string {
	if a.All {
		return "all"
	}
	words := slices.Sorted(maps.Keys(a.Locals))
	for _, s := range []struct {
		word string
		of   map[netip.Prefix]struct{}
	}{{"narrower", a.Narrowed}, {"wider", a.Widened}} {
		for _, p := range slices.SortedFunc(maps.Keys(s.of), netip.Prefix.Compare) {
			words = append(words, s.word, p.String())
		}
	}
	return strings.Join(words, " ")
}

func insert[K comparable](set *map[K]struct{}, key K) {
	if *set == nil {
		*set = map[K]struct{}{}
	}
	(*set)[key] = struct{}{}
}

// local notes an endpoint.
func (a *Affected) local(l *endpoint) {
	if !l.gone {
		insert(&a.Locals, l.id)
	}
}

// rules notes the endpoints that a policy or profile applies to.
func (a *Affected) rules(s *source) {
	for g := range s.groups {
		for l := range g.locals {
			a.local(l)
		}
	}
}

// members notes what a set has gained and lost. Sets that are new, or gone, come with rules that are others.
func (a *Affected) members(h *heldSet, c SetChange) {
	gained, lost := &a.Widened, &a.Narrowed
	if h.narrowing > 0 {
		gained = &a.Narrowed
	}
	for _, m := range c.Added {
		insert(gained, m.Prefix)
	}
	for _, m := range c.Removed {
		insert(lost, m.Prefix)
	}
}

// use is a set that a list names.
type use struct {
	set
	// effect is that of a member which the set gains; one that it loses has the opposite one.
	effect
}

// uses gives the sets of one rule.
func uses(r *policy.Rule, staged bool, alternatives []conditions, sets []set) []use {
	all := make([]use, len(sets))
	for i, s := range sets {
		all[i] = use{set: s}
		if staged || r.Action == api.Log {
			continue
		}
		for in := range inSets(alternatives) {
			if in.Set == s.key.Name {
				all[i].narrows = all[i].narrows || r.Action == api.Pass || in.Not == (r.Action == api.Allow)
				all[i].widens = all[i].widens || r.Action == api.Pass || in.Not == (r.Action == api.Deny)
			}
		}
	}
	return all
}

func inSets(alternatives []conditions) iter.Seq[chain.InSet] {
	return func(yield func(chain.InSet) bool) {
		for _, conds := range alternatives {
			for _, c := range conds {
				if in, is := c.(chain.InSet); is && !yield(in) {
					return
				}
			}
		}
	}
}
