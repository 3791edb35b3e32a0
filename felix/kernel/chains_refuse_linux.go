// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"korat/felix/reconcile"
	"korat/policy/chain"
	"korat/policy/render"
)

// refusedComment is that of the rules that stand for those of a refused chain.
const refusedComment = "refused by the kernel"

// refused is a chain that could not be written, or not be removed if want is nil.
type refused struct {
	want *chain.Chain
	err  error
	at   time.Time
}

// refuse notes that one chain of a change can't be written, or not removed.
func (s *side) refuse(c *change, name string, err error) {
	c.failed[name] = err
	s.refused[place{c.table, name}] = refused{c.set[name], err, time.Now()}
}

// recall leaves out what was refused a short time ago, and forgets of what something else is wanted now. Chains that
// look into a set that is not as it must be are left out too.
func (s *side) recall(c *change) {
	for p, r := range s.refused {
		want, set := c.set[p.name]
		switch {
		case p.table != c.table || !set && !c.gone[p.name]:
		case set != (r.want != nil) || set && !r.want.Equal(want):
			delete(s.refused, p)
		case time.Since(r.at) < s.config.retry():
			c.failed[p.name] = r.err
		}
	}
	if len(s.distrusted) == 0 {
		return
	}
	for name, want := range c.set {
		for set := range want.Sets {
			if err := s.distrusted[set]; err != nil {
				c.failed[name] = err
			}
		}
	}
}

// standIn gives what is put in the place of a refused chain: a chain that drops everything. One that a chain of
// the kernel's own leads to sees all of the host's traffic, and drops that of pods alone. In the nat table nothing can
// be dropped. What is refused in the kernel's own chains is left alone.
func (s *side) standIn(c *change, name string) *chain.Chain {
	if (chain.Key{Name: name}).Own() {
		return nil
	}
	drop := chain.Action{Verb: chain.Drop}
	if c.table == chain.NAT {
		return &chain.Chain{Rules: []chain.Rule{chain.NewRule(refusedComment, chain.Action{Verb: chain.Return})}}
	}
	pods := InterfacePrefix + "+"
	in, out := chain.NewRule(refusedComment, drop, chain.In(pods)), chain.NewRule(refusedComment, drop, chain.Out(pods))
	hooks := s.hooks(c, name)
	switch {
	case len(hooks) == 0:
		return &chain.Chain{Rules: []chain.Rule{chain.NewRule(refusedComment, drop)}}
	case slices.Contains(hooks, "FORWARD"):
		return &chain.Chain{Rules: []chain.Rule{in, out}}
	case slices.Contains(hooks, "PREROUTING"), slices.Contains(hooks, "INPUT"):
		return &chain.Chain{Rules: []chain.Rule{in}}
	}
	return &chain.Chain{Rules: []chain.Rule{out}}
}

// Closed says that an error of Write's, or what wraps one, is of single chains in whose place others drop everything, and
// that all else is as wanted. Where rules in the kernel's own chains were refused nothing drops for them.
func Closed(err error) bool {
	failed, ok := reconcile.Failures[chain.Key](err)
	for key := range failed {
		ok = ok && !key.Own()
	}
	return ok
}

// hooks gives the kernel's own chains that lead to a chain.
func (s *side) hooks(c *change, name string) []string {
	var hooks []string
	for own, want := range c.set {
		if (chain.Key{Name: own}).Own() && slices.Contains(slices.Collect(want.Uses), name) {
			hooks = append(hooks, own)
		}
	}
	for own, have := range s.have[c.table] {
		if slices.ContainsFunc(have.lines, func(line string) bool { return leadsTo(line) == name }) {
			hooks = append(hooks, own)
		}
	}
	return hooks
}

// isolate finds which chains of a transaction are refused, and notes them. Its error is that none is to blame.
func (s *side) isolate(ctx context.Context, c *change, t render.Transaction, no *refusal) error {
	named := s.blamed(t, no)
	if !c.checked && !s.knownBad(c, named) {
		// What is held may be something else than we know, without a notice or before it came.
		c.checked = true
		return s.readAll(ctx)
	}
	if len(named) == 0 {
		var err error
		if named, err = s.probe(ctx, c, no); err != nil {
			return err
		}
	}
	fresh := false
	for name, err := range named {
		if c.failed[name] == nil {
			s.refuse(c, name, err)
			fresh = true
		}
	}
	if !fresh {
		return no
	}
	return nil
}

// knownBad says whether all that is blamed was refused before.
func (s *side) knownBad(c *change, named map[string]error) bool {
	for name := range named {
		if _, again := s.refused[place{c.table, name}]; !again {
			return false
		}
	}
	return len(named) > 0
}

// blamed gives the chains that the complaint names by their lines.
func (s *side) blamed(t render.Transaction, no *refusal) map[string]error {
	named := map[string]error{}
	lines := strings.Split(string(t.Text), "\n")
	for _, at := range no.lines {
		if at < len(t.About) && t.About[at] != "" && named[t.About[at]] == nil {
			named[t.About[at]] = fmt.Errorf("%w, of the line %q", no, lines[at])
		}
	}
	return named
}

// probeChain is one that nothing leads to.
const probeChain = chainPrefix + "probe"

// probe tries the rules of chains in one that nothing leads to, and halves those that are refused until each is alone.
// (The legacy backend hands the kernel a whole table, and the kernel does not say which rule it does not want.)
func (s *side) probe(ctx context.Context, c *change, no *refusal) (map[string]error, error) {
	if err := s.try(ctx, c.table, nil); err != nil {
		return nil, errors.Join(no, err) // even with no rule: it is not the rules'
	}
	r := s.renderable(c)
	names := slices.Sorted(maps.Keys(r.Set))
	bad := map[string]error{}
	var halve func(names []string) error
	halve = func(names []string) error {
		var rules []chain.Rule
		for _, name := range names {
			rules = append(append(rules, r.Set[name].Rules...), r.Set[name].Last...)
		}
		var refused *refusal
		err := s.try(ctx, c.table, rules)
		switch {
		case !errors.As(err, &refused):
			return err
		case len(names) == 1:
			bad[names[0]] = refused
			return nil
		}
		middle := len(names) / 2
		if err := halve(names[:middle]); err != nil {
			return err
		}
		return halve(names[middle:])
	}
	if err := halve(names); err != nil {
		return nil, errors.Join(no, err)
	}
	return bad, nil
}

// try writes rules into a chain that nothing leads to, without what they lead to, and removes it again.
func (s *side) try(ctx context.Context, table chain.Table, rules []chain.Rule) error {
	alone := make([]chain.Rule, len(rules))
	for i, r := range rules {
		if alone[i] = r; r.Action.Chain() != "" {
			alone[i].Action = chain.Action{Verb: chain.Return}
		}
	}
	here := render.Change{Family: s.family, Table: table, Set: map[string]*chain.Chain{probeChain: {Rules: alone}}}
	t, bad := here.Transaction()
	if len(bad) > 0 {
		return bad[probeChain]
	}
	if err := s.commit(ctx, t); err != nil {
		return err
	}
	t, _ = render.Change{
		Family: s.family, Table: table, Have: map[string]render.Held{probeChain: {}}, Delete: []string{probeChain},
	}.Transaction()
	return s.commit(ctx, t)
}
