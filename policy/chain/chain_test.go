// SPDX-License-Identifier: Apache-2.0

package chain_test

import (
	"slices"
	"strings"
	"testing"

	"korat/policy/chain"
)

// of gives rules with the IDs of a text such as "a b | c", where what follows the bar stands last.
func of(text string) *chain.Chain {
	c := &chain.Chain{}
	first, last, _ := strings.Cut(text, "|")
	for _, id := range strings.Fields(first) {
		c.Rules = append(c.Rules, chain.Rule{ID: strings.Trim(id, "-")})
	}
	for _, id := range strings.Fields(last) {
		c.Last = append(c.Last, chain.Rule{ID: id})
	}
	return c
}

func TestEqual(t *testing.T) {
	alone, misplaced := of("a b"), of("a | b")
	alone.Alone, misplaced.Misplaced = true, true
	for name, c := range map[string]struct {
		want, have *chain.Chain
		equal      bool
	}{
		"same":                  {of("a b"), of("a b"), true},
		"empty":                 {of(""), of(""), true},
		"another order":         {of("a b"), of("b a"), false},
		"one more":              {of("a b"), of("a b b"), false},
		"one is not ours":       {of("a"), of("-"), false},
		"none is ours":          {of("-"), of("-"), false},
		"the last is not last":  {of("a | b"), of("a b"), false},
		"first and last":        {of("a | b"), of("a | b"), true},
		"no others' between":    {of("a | b"), alone, true},
		"no others', one lacks": {of("a | b c"), alone, false},
		"misplaced":             {of("a | b"), misplaced, false},
	} {
		if c.want.Equal(c.have) != c.equal || c.have.Equal(c.want) != c.equal {
			t.Errorf("%s: equal is %t", name, !c.equal)
		}
	}
	if !misplaced.Equal(misplaced) {
		t.Error("a chain does not equal itself")
	}
}

func TestUses(t *testing.T) {
	c := &chain.Chain{
		Rules: []chain.Rule{
			chain.NewRule("", chain.Action{Verb: chain.Jump, Text: "a"}), chain.NewRule("", chain.Action{Verb: chain.Report, Text: "x"}),
			chain.NewRule("", chain.Action{Verb: chain.Goto, Text: "b"}),
		},
		Last: []chain.Rule{chain.NewRule("", chain.Action{Verb: chain.Jump, Text: "c"})},
	}
	if have := slices.Collect(c.Uses); !slices.Equal(have, []string{"a", "b", "c"}) {
		t.Errorf("have %v", have)
	}
	for name := range c.Uses {
		if name != "a" {
			t.Errorf("asked for more than the first, %s", name)
		}
		break
	}
}

func TestSets(t *testing.T) {
	drop := chain.Action{Verb: chain.Drop}
	c := &chain.Chain{
		Rules: []chain.Rule{
			chain.NewRule("", drop, chain.Proto{Number: 6}, chain.InSet{Set: "a"}, chain.InSet{Set: "b", Not: true}), chain.NewRule("", drop),
		},
		Last: []chain.Rule{chain.NewRule("", drop, chain.InSet{Set: "c", Side: chain.Destination})},
	}
	if have := slices.Collect(c.Sets); !slices.Equal(have, []string{"a", "b", "c"}) {
		t.Errorf("have %v", have)
	}
	for name := range c.Sets {
		if name != "a" {
			t.Errorf("asked for more than the first, %s", name)
		}
		break
	}
}

func TestElsewhere(t *testing.T) {
	look := func(set string) chain.Rule {
		return chain.NewRule("why", chain.Action{Verb: chain.Drop}, chain.Proto{Number: 6}, chain.InSet{Set: set, Not: true, Side: chain.Destination})
	}
	c := &chain.Chain{Rules: []chain.Rule{look("a"), look("b")}, Last: []chain.Rule{look("c")}}
	if c.Elsewhere(map[string]string{"x": "y"}) != nil {
		t.Error("it looks into none of the sets")
	}
	want := &chain.Chain{Rules: []chain.Rule{look("A"), look("b")}, Last: []chain.Rule{look("C")}}
	have := c.Elsewhere(map[string]string{"a": "A", "c": "C"})
	if !have.Equal(want) {
		t.Errorf("have %v", have)
	}
	if !slices.Equal(slices.Collect(c.Sets), []string{"a", "b", "c"}) {
		t.Error("the chain itself has changed")
	}
}
