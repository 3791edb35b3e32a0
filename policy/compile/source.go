// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"
	"strings"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// source is a policy or a profile. It is there, without rules, as long as an endpoint names it, even if it is unknown.
type source struct {
	id policy.ID
	// One of these is set, unless the profile is unknown.
	policy  *policy.Policy
	profile *policy.Profile
	// gone says that the policy has been deleted since the last Update.
	gone bool
	// serial tells sources apart.
	serial uint32
	// locals are the endpoints that the policy selects.
	locals map[*endpoint]struct{}
	// groups are those of the endpoints that it applies to. Without one there are no lists.
	groups map[*group]struct{}
	lists  map[slot]*list
	// named are the IDs by which reports name its rules.
	named []string
}

// slot is a direction in a family.
type slot struct {
	family    api.Family
	direction api.PolicyType
}

// slots is how many there are.
const slots = 4

func (at slot) number() int {
	n := 0
	if at.family == api.IPv6 {
		n = 2
	}
	if at.direction == api.Egress {
		n++
	}
	return n
}

// list is the rules of one source in one direction and family. Its chain is there in each table where another leads
// to it.
type list struct {
	slot
	name string
	content
	refs map[chain.Table]int
	// held are the sets that are counted as used by it.
	held []use
}

// content is what rules come to.
type content struct {
	shape
	chain *chain.Chain
	// origins has the index of the rule that each of the chain's rules comes from.
	origins []int
	sets    []use
}

// shape is what the chains of endpoints depend on.
type shape struct {
	// empty lists are not led to. decides is the action of an empty condition that stands first, if it is Allow or
	// Pass; ends says that nothing gets past the list.
	empty, ends bool
	decides     api.Action
	// allows and passes say what it may do.
	allows, passes bool
}

// in gives the chain as it is in a table: what is rejected in filter can only be dropped elsewhere.
func (l *list) in(t chain.Table) *chain.Chain {
	rejects := func(r chain.Rule) bool { return r.Action.Verb == chain.Reject }
	if t == chain.Filter || !slices.ContainsFunc(l.chain.Rules, rejects) {
		return l.chain
	}
	rules := slices.Clone(l.chain.Rules)
	for i, r := range rules {
		if rejects(r) {
			rules[i] = chain.NewRule(r.Comment, drop, r.Conditions...)
		}
	}
	return &chain.Chain{Rules: rules}
}

func (s *source) rules(d api.PolicyType) []policy.Rule {
	switch {
	case s.policy != nil:
		return s.policy.Rules(d)
	case s.profile != nil:
		return s.profile.Rules(d)
	}
	return nil
}

func (s *source) staged() bool { return s.policy != nil && s.policy.Staged }

// compile makes the content of a chain by that name, of a direction and family.
func (s *source) compile(name string, at slot, o Options, verdicts []string) content {
	c := content{shape: shape{empty: true}}
	b := builder{
		content: &c, deny: o.deny(chain.Filter), log: o.LogPrefix + ": ", staged: s.staged(), title: title(name, s.id, at.direction),
	}
	for i, r := range s.rules(at.direction) {
		if s.staged() && r.Action == api.Log {
			continue
		}
		all, sets := expand(r, at.family)
		c.sets = append(c.sets, uses(&r, s.staged(), all, sets)...)
		if b.add(i, r, all, verdicts[i]) {
			break
		}
	}
	c.chain = &chain.Chain{Rules: b.rules}
	c.empty = len(b.rules) == 0
	return c
}

// builder collects the rules of one list.
type builder struct {
	*content
	deny   chain.Action
	log    string
	staged bool
	title  string
	rules  []chain.Rule
}

// add adds a rule by its alternatives, and says whether nothing gets past it.
func (b *builder) add(index int, r policy.Rule, alternatives []conditions, verdict string) (last bool) {
	comment := remark(r)
	if len(b.rules) == 0 && b.title != "" {
		comment = strings.TrimSuffix(b.title+"; "+comment, "; ")
	}
	actions := b.actions(r.Action, verdict)
	for _, conds := range alternatives {
		if always := len(conds) == 0 && r.Action != api.Log; always && !b.staged {
			b.ends = true
			if len(b.rules) == 0 && r.Action != api.Deny {
				b.decides = r.Action
			}
		}
		last = last || len(conds) == 0 && r.Action != api.Log
		for _, a := range actions {
			b.rules = append(b.rules, chain.NewRule(comment, a, conds...))
			b.origins = append(b.origins, index)
			comment = ""
		}
	}
	return last
}

// actions gives what the rule does, one after the other.
func (b *builder) actions(a api.Action, verdict string) []chain.Action {
	switch {
	case b.staged:
		return []chain.Action{report(staged, verdict), back}
	case a == api.Allow:
		b.allows = true
		return []chain.Action{gotoChain(allowChain)}
	case a == api.Pass:
		b.passes = true
		return []chain.Action{gotoChain(passChain)}
	case a == api.Log:
		return []chain.Action{report(logged, verdict), {Verb: chain.KernelLog, Text: b.log}}
	}
	return []chain.Action{report(denied, verdict), b.deny}
}

// remark is what the rule's author has written of it.
func remark(r policy.Rule) string {
	all := r.Comments
	if r.Name != "" {
		all = append([]string{r.Name}, all...)
	}
	return strings.Join(all, "; ")
}
