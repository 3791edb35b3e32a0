// SPDX-License-Identifier: Apache-2.0

package selector_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"korat/policy/selector"
)

func parsed(t *testing.T, text string) selector.Selector {
	s, err := selector.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTerms(t *testing.T) {
	long := strings.Repeat("k", selector.MaxNameLength)
	tests := []struct {
		name, key, want string
		values          []string
		make            func(key string, values ...string) (selector.Selector, error)
	}{
		{name: "has", key: "a", want: `has(a)`, make: has},
		{name: "has of a word of the language", key: "all", want: `has(all)`, make: has},
		{name: "the longest name", key: long, want: `has(` + long + `)`, make: has},
		{name: "no name", want: `label name "": must have 1 to 512 characters`, make: has},
		{name: "a name too long", key: long + "k", want: `label name "` + long + `k": must have 1 to 512 characters`, make: has},
		{name: "a name that ends the term", key: "a) || all(", make: has, want: `label name "a) || all(": must be of letters, digits, dots, dashes, underscores and slashes`},
		{name: "a name with a letter that is none", key: "ä", make: has, want: `label name "ä": must be of letters, digits, dots, dashes, underscores and slashes`},

		{name: "in one", key: "a", values: []string{"x"}, want: `a == "x"`, make: selector.In},
		{name: "in many, in disorder and repeated", key: "a", values: []string{"y", "x", "y"}, want: `a in {"x", "y"}`, make: selector.In},
		{name: "in none", key: "a", want: `!all()`, make: selector.In},
		{name: "in an empty value", key: "a", values: []string{""}, want: `a == ""`, make: selector.In},
		{name: "a value that ends the string", key: "a", values: []string{`x" || all() || b == "`}, want: `a == 'x" || all() || b == "'`, make: selector.In},
		{name: "a value with the other quote", key: "a", values: []string{`it's`}, want: `a == "it's"`, make: selector.In},
		{name: "a value with both quotes", key: "a", values: []string{"x", `'"`}, make: selector.In, want: `value "'\"" of label a: has both kinds of quotes, which no selector can say`},
		{name: "a value with a line break", key: "a", values: []string{"x\n&& y"}, want: "a == \"x\n&& y\"", make: selector.In},
		{name: "in with a name that is none", key: "a b", values: []string{"x"}, make: selector.In, want: `label name "a b": must be of letters, digits, dots, dashes, underscores and slashes`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := test.make(test.key, test.values...)
			if err != nil {
				if err.Error() != test.want {
					t.Fatalf("have error %v\nwant %s", err, test.want)
				}
				return
			}
			if s.String() != test.want {
				t.Errorf("have %s\nwant %s", s, test.want)
			}
			if err := consistent(s); err != nil {
				t.Error(err)
			}
		})
	}
}

func has(key string, _ ...string) (selector.Selector, error) { return selector.Has(key) }

func TestAnd(t *testing.T) {
	tests := []struct {
		name, want string
		all        []string
	}{
		{"none", `all()`, nil},
		{"one", `a == "x"`, []string{"a == 'x'"}},
		{"two", `a == "x" && b == "y"`, []string{"a == 'x'", "b == 'y'"}},
		{"an or keeps its brackets", `a == "x" && (b == "y" || has(c))`, []string{"a == 'x'", "b == 'y' || has(c)"}},
		{"an or alone needs none", `b == "y" || has(c)`, []string{"all()", "b == 'y' || has(c)", ""}},
		{"an and joins", `a == "x" && b == "y" && has(c)`, []string{"a == 'x'", "b == 'y' && has(c)"}},
		{"a negated and does not", `a == "x" && !(b == "y" && has(c))`, []string{"a == 'x'", "!(b == 'y' && has(c))"}},
		{"repeated", `a == "x" && has(c)`, []string{"a == 'x'", "a == 'x' && has(c)", "has(c)"}},
		{"nothing", `!all()`, []string{"a == 'x'", "b in {}", "has(c)"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var all []selector.Selector
			for _, text := range test.all {
				all = append(all, parsed(t, text))
			}
			if have := selector.And(all...).String(); have != test.want {
				t.Errorf("have %s\nwant %s", have, test.want)
			}
			for i, text := range test.all {
				if have, want := all[i].String(), parsed(t, text).String(); have != want {
					t.Errorf("operand %d has become %s, was %s", i, have, want)
				}
			}
		})
	}
}

func TestPrefixed(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", `all()`},
		{"all() || global()", `all() || global()`},
		{"a == 'x' && (b not in {'y', 'z'} || !has(c))", `p.a == "x" && (p.b not in {"y", "z"} || !has(p.c))`},
		{"!(a contains 'x' || projectcalico.org/namespace starts with 'y')", `!(p.a contains "x" || p.projectcalico.org/namespace starts with "y")`},
		{"a in {}", `!all()`},
	}
	for _, test := range tests {
		s := parsed(t, test.text)
		before := s.String()
		if have := s.Prefixed("p.").String(); have != test.want {
			t.Errorf("%s: have %s, want %s", test.text, have, test.want)
		}
		if s.String() != before {
			t.Errorf("%s has become %s", before, s)
		}
	}
}

func TestIsGlobal(t *testing.T) {
	for text, want := range map[string]bool{
		"global()": true, "(!!global( ))": true, "!global()": false, "global() && has(a)": false, "": false, "all()": false,
	} {
		if have := parsed(t, text).IsGlobal(); have != want {
			t.Errorf("%s: have %v, want %v", text, have, want)
		}
	}
	if !selector.Global().IsGlobal() {
		t.Error("Global() is not")
	}
}

// TestBuiltAgainstOracle builds of random expressions, and compares with what follows from what they match.
func TestBuiltAgainstOracle(t *testing.T) {
	for seed := range uint64(5000) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		a, b := parsed(t, g.expression(g.IntN(4)).text), parsed(t, g.expression(g.IntN(4)).text)
		both, not, prefixed := selector.And(a, b), a.Not(), a.Prefixed("p.")
		for _, s := range []selector.Selector{both, not, prefixed, both.Not(), not.Prefixed("p.")} {
			if err := consistent(s); err != nil {
				t.Fatalf("seed %d: of %s and %s: %v", seed, a, b, err)
			}
		}
		for range 10 {
			labels := g.labels()
			inherited := map[string]string{}
			for key, value := range labels {
				inherited["p."+key] = value
				if key == selector.NamespaceLabel {
					inherited[key] = value
				}
			}
			inA, inB := a.Matches(labels), b.Matches(labels)
			if both.Matches(labels) != (inA && inB) || both.Not().Matches(labels) == (inA && inB) {
				t.Fatalf("seed %d: %s and %s match %q: %v and %v, not so %s", seed, a, b, labels, inA, inB, both)
			}
			if not.Matches(labels) == inA || prefixed.Matches(inherited) != inA {
				t.Fatalf("seed %d: %s matches %q: %v, not so %s or %s", seed, a, labels, inA, not, prefixed)
			}
		}
	}
}
