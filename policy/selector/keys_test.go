// SPDX-License-Identifier: Apache-2.0

package selector_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"korat/policy/selector"
)

func TestKeys(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", ""},
		{"!all()", ""},
		{"global()", "projectcalico.org/namespace"},
		{"has(b) && a == 'b'", "a b"},
		{"c != 'x' || !(a contains 'x' && b in {'x', 'y'}) || a in {}", "a b c"},
		{"a == 'x' || a == 'y'", "a"},
	}
	for _, tt := range tests {
		if have := strings.Join(parse(t, tt.text).Keys(), " "); have != tt.want {
			t.Errorf("%s asks for %q, want %q", tt.text, have, tt.want)
		}
	}
}

func TestAlternatives(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", ""},
		{"!all()", "never"},
		{"a == 'x' && has(b)", "a=x b"},
		{"a == 'x' || b == 'y'", "a=x or b=y"},
		{"a == 'x' || a == 'y' && b == 'y'", "a=x|y"},
		{"a == 'x' || b == 'y' || c == 'z' && !has(d)", "a=x or b=y or c=z !d"},
		{"a == 'x' || !has(b)", ""},
		{"a == 'x' || !all() || has(b)", "a=x or b"},
		{"!has(c) && (a == 'x' || b == 'y')", "a=x or b=y"},
		{"!has(c) && (a == 'x' || b != 'y') && (has(d) || has(e))", "d or e"},
		{"c == 'z' && (a == 'x' || b == 'y')", "c=z"},
		{"!(a != 'x' && !has(b))", "a=x or b"},
		{"a == 'x' || !(b != 'x' && c != 'y')", "a=x or b=x or c=y"},
		{"!(a == 'x' || b == 'y')", ""},
		{"!has(a) || !has(a) && has(b)", "!a"},
	}
	for _, tt := range tests {
		var all []string
		for _, r := range parse(t, tt.text).Alternatives() {
			all = append(all, requirementText(r))
		}
		have := strings.Join(all, " or ")
		if all == nil {
			have = "never"
		}
		if have != tt.want {
			t.Errorf("%s requires %q, want %q", tt.text, have, tt.want)
		}
	}
}

// TestKeysAndAlternatives takes away the labels that a random selector says it does not ask for, and holds those that it
// matches against what it says it requires.
func TestKeysAndAlternatives(t *testing.T) {
	for seed := range uint64(5000) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		text := g.expression(g.IntN(6)).text
		s, err := selector.Parse(text)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for range 5 {
			labels := g.labels()
			asked := map[string]string{}
			for _, key := range s.Keys() {
				if value, ok := labels[key]; ok {
					asked[key] = value
				}
			}
			may := slices.ContainsFunc(s.Alternatives(), func(r selector.Requirements) bool { return allow(r, labels) })
			if s.Matches(labels) && !may {
				t.Fatalf("seed %d: %s\nmatches %q, which meet no alternative", seed, text, labels)
			}
			if s.Matches(labels) != s.Matches(asked) {
				t.Fatalf("seed %d: %s\nasks for %q, but matches only one of %q and %q", seed, text, s.Keys(), labels, asked)
			}
		}
	}
}
