// SPDX-License-Identifier: Apache-2.0

package selector_test

import (
	"math/rand/v2"
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

// TestKeysAreAll takes away the labels that a random selector says it does not ask for.
func TestKeysAreAll(t *testing.T) {
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
			if s.Matches(labels) != s.Matches(asked) {
				t.Fatalf("seed %d: %s\nasks for %q, but matches only one of %q and %q", seed, text, s.Keys(), labels, asked)
			}
		}
	}
}
