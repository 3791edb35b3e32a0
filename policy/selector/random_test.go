// SPDX-License-Identifier: Apache-2.0

package selector_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"korat/policy/selector"
)

// An oracle is an expression that is made, not read: it writes itself as a person might, and knows
// on its own what it matches.
type oracle struct {
	text    string
	matches func(labels map[string]string) bool
	// binds is how tightly: 1 ||, 2 &&, 3 anything else.
	binds int
}

type generator struct{ *rand.Rand }

func (g generator) pick(choices ...string) string { return choices[g.IntN(len(choices))] }

func (g generator) key() string { return g.pick("a", "b", "in", "has", "x.io/c-d_e") }

// value may be any of those that labels have, part of one, or something else.
func (g generator) value() string { return g.pick("", "v", "w", "vw", "wv", "it's", `"q"`, "ä && b") }

func (g generator) quoted(v string) string {
	if strings.Contains(v, "'") || !strings.Contains(v, `"`) && g.IntN(2) == 0 {
		return `"` + v + `"`
	}
	return "'" + v + "'"
}

// sp gives at least so many spaces.
func (g generator) sp(least int) string { return strings.Repeat(g.pick(" ", "\t"), least+g.IntN(2)) }

func (g generator) labels() map[string]string {
	labels := map[string]string{}
	for _, key := range []string{"a", "b", "in", "has", "x.io/c-d_e", selector.NamespaceLabel} {
		if g.IntN(2) == 0 {
			labels[key] = g.value()
		}
	}
	return labels
}

func (g generator) expression(depth int) oracle {
	if depth == 0 {
		return g.leaf()
	}
	switch g.IntN(5) {
	case 0:
		return g.leaf()
	case 1:
		o := g.expression(depth - 1)
		return oracle{"!" + g.sp(0) + g.atLeast(3, o), func(l map[string]string) bool { return !o.matches(l) }, 3}
	case 2:
		o := g.expression(depth - 1)
		return oracle{"(" + g.sp(0) + o.text + g.sp(0) + ")", o.matches, 3}
	case 3:
		l, r := g.expression(depth-1), g.expression(depth-1)
		return oracle{
			g.atLeast(2, l) + g.sp(0) + "&&" + g.sp(0) + g.atLeast(2, r),
			func(m map[string]string) bool { return l.matches(m) && r.matches(m) }, 2,
		}
	default:
		l, r := g.expression(depth-1), g.expression(depth-1)
		return oracle{
			l.text + g.sp(0) + "||" + g.sp(0) + r.text,
			func(m map[string]string) bool { return l.matches(m) || r.matches(m) }, 1,
		}
	}
}

func (g generator) atLeast(binds int, o oracle) string {
	if o.binds < binds {
		return "(" + o.text + ")"
	}
	return o.text
}

func (g generator) leaf() oracle {
	key, v := g.key(), g.value()
	// compare makes a comparison of the label's value, or of nil if there is none.
	compare := func(text string, f func(value *string) bool) oracle {
		return oracle{text, func(l map[string]string) bool {
			if value, ok := l[key]; ok {
				return f(&value)
			}
			return f(nil)
		}, 3}
	}
	switch g.IntN(9) {
	case 0:
		return oracle{"all(" + g.sp(0) + ")", func(map[string]string) bool { return true }, 3}
	case 1:
		return oracle{"global(" + g.sp(0) + ")", func(l map[string]string) bool {
			_, ok := l[selector.NamespaceLabel]
			return !ok
		}, 3}
	case 2:
		return compare("has("+g.sp(0)+key+g.sp(0)+")", func(have *string) bool { return have != nil })
	case 3:
		return compare(key+g.sp(0)+"=="+g.sp(0)+g.quoted(v), func(have *string) bool { return have != nil && *have == v })
	case 4:
		return compare(key+g.sp(0)+"!="+g.sp(0)+g.quoted(v), func(have *string) bool { return have == nil || *have != v })
	case 5:
		return compare(key+g.sp(1)+"contains"+g.sp(0)+g.quoted(v), func(have *string) bool { return have != nil && strings.Contains(*have, v) })
	case 6:
		return compare(key+g.sp(1)+"starts"+g.sp(0)+"with"+g.sp(0)+g.quoted(v), func(have *string) bool { return have != nil && strings.HasPrefix(*have, v) })
	case 7:
		return compare(key+g.sp(1)+"ends"+g.sp(0)+"with"+g.sp(0)+g.quoted(v), func(have *string) bool { return have != nil && strings.HasSuffix(*have, v) })
	default:
		return g.set(key, compare)
	}
}

func (g generator) set(key string, compare func(string, func(*string) bool) oracle) oracle {
	members, text := map[string]bool{}, ""
	for i, n := 0, g.IntN(5)*g.IntN(4); i < n; i++ {
		v := g.value() + g.pick("", "", "x", "y", "z")
		members[v] = true
		if text != "" {
			text += g.sp(0) + ","
		}
		text += g.sp(0) + g.quoted(v)
	}
	if text != "" {
		text += g.pick("", ",")
	}
	text = g.sp(0) + "{" + text + g.sp(0) + "}"
	if g.IntN(2) == 0 {
		return compare(key+g.sp(1)+"in"+text, func(have *string) bool { return have != nil && members[*have] })
	}
	return compare(key+g.sp(1)+"not"+g.sp(0)+"in"+text, func(have *string) bool { return have == nil || !members[*have] })
}

// TestAgainstOracle makes random expressions and compares what the package says of them with what
// they know themselves.
func TestAgainstOracle(t *testing.T) {
	for seed := range uint64(20000) {
		g := generator{rand.New(rand.NewPCG(seed, 0))}
		o := g.expression(g.IntN(6))
		s, err := selector.Parse(o.text)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := consistent(s); err != nil {
			t.Fatalf("seed %d: %s: %v", seed, o.text, err)
		}
		required := s.Requirements()
		for range 20 {
			labels := g.labels()
			have, want := s.Matches(labels), o.matches(labels)
			if have != want {
				t.Fatalf("seed %d: %s\nmatches %q: %v, want %v", seed, o.text, labels, have, want)
			}
			if have && !allow(required, labels) {
				t.Fatalf("seed %d: %s\nmatches %q but requires %s", seed, o.text, labels, requirementText(required))
			}
		}
	}
}

// consistent says what is wrong with a selector whatever it means: its canonical form must be read
// as the same.
func consistent(s selector.Selector) error {
	again, err := selector.Parse(s.String())
	if err != nil {
		return fmt.Errorf("canonical form: %w", err)
	}
	if again.String() != s.String() || !again.Equal(s) {
		return fmt.Errorf("canonical form %s becomes %s when read again", s, again)
	}
	if have, want := requirementText(again.Requirements()), requirementText(s.Requirements()); have != want {
		return fmt.Errorf("requires %s, its canonical form %s", want, have)
	}
	return nil
}

// FuzzParse reads any text. An error must point into it; a selector must survive its canonical form
// and match no labels that it says it cannot.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "a", "a == 'b'", "a = 'b'", "!!(a != \"b\" || !has(c)) && all()", "a in {'x', \"y\",} || b not in {}",
		"a starts with 'x' && b endswith 'y' && c contains ''", "global() && (((a notin{'\"'})))", "a == 'ä' & \xff", busy,
	} {
		f.Add(text, uint64(1))
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		s, err := selector.Parse(text)
		if err != nil {
			checkError(t, text, err)
			return
		}
		if err := consistent(s); err != nil {
			t.Fatal(err)
		}
		again, err := selector.Parse(s.String())
		if err != nil {
			t.Fatal(err)
		}
		g, required := generator{rand.New(rand.NewPCG(seed, 0))}, s.Requirements()
		for range 10 {
			labels := g.labels()
			matches := s.Matches(labels)
			if again.Matches(labels) != matches {
				t.Fatalf("%q and its canonical form %s differ on %q", text, s, labels)
			}
			if matches && !allow(required, labels) {
				t.Fatalf("%q matches %q but requires %s", text, labels, requirementText(required))
			}
		}
	})
}

func checkError(t *testing.T, text string, err error) {
	e, ok := errors.AsType[*selector.Error](err)
	if !ok {
		t.Fatalf("%q: %v is no Error", text, err)
	}
	if end := len([]rune(e.Text)) + 1; e.Column < 1 || e.Column > end || !strings.HasPrefix(text, e.Text) || e.Want == "" {
		t.Fatalf("%q: column %d of %d: %v", text, e.Column, end, err)
	}
	if e.Have == "" && e.Column <= len([]rune(e.Text)) {
		t.Fatalf("%q: %v: does not say what it has", text, err)
	}
	if lines := strings.Count(e.Error(), "\n") + 1; lines != 1 {
		t.Fatalf("%q: the error has %d lines: %v", text, lines, err)
	}
}
