// SPDX-License-Identifier: Apache-2.0

package selector_test

import (
	"strconv"
	"strings"
	"testing"

	"korat/policy/selector"
)

// labelsOf reads "a=1 b= c/d=x".
func labelsOf(text string) map[string]string {
	labels := map[string]string{}
	for field := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(field, "=")
		labels[key] = value
	}
	return labels
}

func parse(t *testing.T, text string) selector.Selector {
	t.Helper()
	s, err := selector.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The labels that each selector is tried on; "-" stands for none at all.
const worlds = "-  a=  a=b  a=c  a=bcb  b=b  a=b,b=b  projectcalico.org/namespace=x"

func TestMatches(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", worlds},
		{" \t ", worlds},
		{"all()", worlds},
		{"!all()", ""},
		{"global()", "-  a=  a=b  a=c  a=bcb  b=b  a=b,b=b"},
		{"!global()", "projectcalico.org/namespace=x"},
		{"has(a)", "a=  a=b  a=c  a=bcb  a=b,b=b"},
		{"!has(a)", "-  b=b  projectcalico.org/namespace=x"},
		{"!!has(a)", "a=  a=b  a=c  a=bcb  a=b,b=b"},
		{"a == 'b'", "a=b  a=b,b=b"},
		{"a == ''", "a="},
		{"a == 'B'", ""},
		{"a != 'b'", "-  a=  a=c  a=bcb  b=b  projectcalico.org/namespace=x"},
		{"a != ''", "-  a=b  a=c  a=bcb  b=b  a=b,b=b  projectcalico.org/namespace=x"},
		{"!a == 'b'", "-  a=  a=c  a=bcb  b=b  projectcalico.org/namespace=x"},
		{"!a != 'b'", "a=b  a=b,b=b"},
		{"a in {'b', 'c'}", "a=b  a=c  a=b,b=b"},
		{"a in {''}", "a="},
		{"a in {}", ""},
		{"!a in {}", worlds},
		{"a not in {'b', 'c'}", "-  a=  a=bcb  b=b  projectcalico.org/namespace=x"},
		{"!a not in {'b', 'c'}", "a=b  a=c  a=b,b=b"},
		{"a not in {}", worlds},
		{"a contains 'c'", "a=c  a=bcb"},
		{"a contains ''", "a=  a=b  a=c  a=bcb  a=b,b=b"},
		{"!a contains 'c'", "-  a=  a=b  b=b  a=b,b=b  projectcalico.org/namespace=x"},
		{"a starts with 'bc'", "a=bcb"},
		{"a starts with ''", "a=  a=b  a=c  a=bcb  a=b,b=b"},
		{"a ends with 'cb'", "a=bcb"},
		{"a ends with 'b'", "a=b  a=bcb  a=b,b=b"},
		{"!a ends with 'b'", "-  a=  a=c  b=b  projectcalico.org/namespace=x"},
		{"a == 'b' && b == 'b'", "a=b,b=b"},
		{"a == 'c' || b == 'b'", "a=c  b=b  a=b,b=b"},
		// ! binds tighter than &&, and that tighter than ||.
		{"!has(a) && has(b)", "b=b"},
		{"!(has(a) && has(b))", "-  a=  a=b  a=c  a=bcb  b=b  projectcalico.org/namespace=x"},
		{"!has(a) || has(b)", "-  b=b  a=b,b=b  projectcalico.org/namespace=x"},
		{"!(has(a) || has(b))", "-  projectcalico.org/namespace=x"},
		{"a == 'c' || has(a) && has(b)", "a=c  a=b,b=b"},
		{"has(b) && has(a) || a == 'c'", "a=c  a=b,b=b"},
		{"(a == 'c' || has(a)) && has(b)", "a=b,b=b"},
		{"has(b) && (a == 'c' || has(a))", "a=b,b=b"},
		{"! has(a) || a starts with 'b' && a in {'b','z'}", "-  a=b  b=b  a=b,b=b  projectcalico.org/namespace=x"},
	}
	for _, tt := range tests {
		s := parse(t, tt.text)
		var have []string
		for _, world := range strings.Split(worlds, "  ") {
			labels := labelsOf(strings.ReplaceAll(strings.TrimPrefix(world, "-"), ",", " "))
			if s.Matches(labels) {
				have = append(have, world)
			}
		}
		if have := strings.Join(have, "  "); have != tt.want {
			t.Errorf("%s\nmatches %s\n  want  %s", tt.text, have, tt.want)
		}
	}
}

func TestString(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", `all()`},
		{"\t", `all()`},
		{"all( )", `all()`},
		{" global(\t) ", `global()`},
		{"has( a )", `has(a)`},
		{"a=='b'", `a == "b"`},
		{`a=="b"`, `a == "b"`},
		{`a == 'say "b"'`, `a == 'say "b"'`},
		{`a == "it's"`, `a == "it's"`},
		{"a == ' ä\n\\'", "a == \" ä\n\\\""},
		{"a!='b'", `a != "b"`},
		{"!a == 'b'", `a != "b"`},
		{"!!(a == 'b')", `a == "b"`},
		{"! ! ! has(a)", `!has(a)`},
		{"a in{'c','b',\"c\"}", `a in {"b", "c"}`},
		{"a in { 'b' , }", `a == "b"`},
		{"a in {'b','b'}", `a == "b"`},
		{"a in { }", `!all()`},
		{"a  not\tin  {'c','b'}", `a not in {"b", "c"}`},
		{"a notin{'b'}", `a != "b"`},
		{"a not in {}", `all()`},
		{"!(a in {'c','b'})", `a not in {"b", "c"}`},
		{"a contains'b'", `a contains "b"`},
		{"!(a contains 'b')", `!a contains "b"`},
		{"a starts  with 'b'", `a starts with "b"`},
		{"a startswith 'b'", `a starts with "b"`},
		{"a ends\twith 'b'", `a ends with "b"`},
		{"a endswith'b'", `a ends with "b"`},
		{"((has(a)))", `has(a)`},
		{"has(a)&&has(b)||has(c)", `has(a) && has(b) || has(c)`},
		{"(has(a)&&has(b))||has(c)", `has(a) && has(b) || has(c)`},
		{"has(a)&&(has(b)||has(c))", `has(a) && (has(b) || has(c))`},
		{"has(a)&&(has(b)&&has(c))&&has(d)", `has(a) && has(b) && has(c) && has(d)`},
		{"has(a)||(has(b)||(has(c)||has(d)))", `has(a) || has(b) || has(c) || has(d)`},
		{"(has(a)||has(b))", `has(a) || has(b)`},
		{"!(has(a)&&has(b))", `!(has(a) && has(b))`},
		{"!!(has(a)&&has(b))&&has(c)", `has(a) && has(b) && has(c)`},
		{"has(c)&&!(has(a)&&has(b))", `has(c) && !(has(a) && has(b))`},
		{"has(c)&&!(has(a)||has(b))", `has(c) && !(has(a) || has(b))`},
		{"has(c)||!(has(a)||!(has(b)&&has(d)))", `has(c) || !(has(a) || !(has(b) && has(d)))`},
		// The order of operands stays.
		{"has(b) && has(a)", `has(b) && has(a)`},
		// Names as Kubernetes and Calico write them, and names that are words elsewhere.
		{"app.kubernetes.io/name == 'x'", `app.kubernetes.io/name == "x"`},
		{"has(calico/k8s_NS-.1/role)", `has(calico/k8s_NS-.1/role)`},
		{"-a == 'x' && 1 == 'x' && / == 'x'", `-a == "x" && 1 == "x" && / == "x"`},
		{"has == 'x' && all != 'x' && has(global)", `has == "x" && all != "x" && has(global)`},
		{"contains contains 'contains'", `contains contains "contains"`},
		{"in in {'in', 'x'} && not not in {'not', 'x'}", `in in {"in", "x"} && not not in {"not", "x"}`},
		{"starts starts with 'x' && endswith ends with 'x'", `starts starts with "x" && endswith ends with "x"`},
	}
	for _, tt := range tests {
		s := parse(t, tt.text)
		if have := s.String(); have != tt.want {
			t.Errorf("%s is\n     %s\nwant %s", tt.text, have, tt.want)
		}
		if again := parse(t, s.String()); !again.Equal(s) || again.String() != s.String() {
			t.Errorf("%s becomes %s when read again", s, again)
		}
	}
}

func TestEqual(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"", "all()", true},
		{"a in {'x', 'y'}", `a in {"y","x",}`, true},
		{"!(a == 'x')", "a != 'x'", true},
		{"a == 'x'", "a == 'y'", false},
		{"a == 'x'", "b == 'x'", false},
		{"a == 'x'", "a != 'x'", false},
		{"a starts with 'x'", "a ends with 'x'", false},
		{"has(a) && has(b) || has(c)", "has(a) && (has(b) || has(c))", false},
		{"all()", "global()", false},
	}
	for _, tt := range tests {
		if have := parse(t, tt.a).Equal(parse(t, tt.b)); have != tt.want {
			t.Errorf("%s Equal %s is %v", tt.a, tt.b, have)
		}
	}
}

func TestZeroSelectorIsAll(t *testing.T) {
	var zero selector.Selector
	if !zero.Matches(nil) || zero.String() != "all()" || !zero.Equal(parse(t, "all()")) || zero.HasGlobal() {
		t.Errorf("the zero Selector is %s, want all()", zero)
	}
	if r := zero.Requirements(); r.Never || len(r.Labels) > 0 {
		t.Errorf("the zero Selector requires %v", r)
	}
}

func TestHasGlobal(t *testing.T) {
	for text, want := range map[string]bool{
		"global()": true, "!global()": true, "has(a) && (has(b) || !global())": true,
		"all()": false, "has(global)": false, "global == 'global()'": false,
	} {
		if have := parse(t, text).HasGlobal(); have != want {
			t.Errorf("HasGlobal of %s is %v", text, have)
		}
	}
}

func TestMatchesFuncAsksForTheLabelsOfTheSelectorOnly(t *testing.T) {
	var asked []string
	lookup := func(key string) (string, bool) {
		asked = append(asked, key)
		return "x", key == "b"
	}
	if !parse(t, "a == 'x' || b == 'x' && !has(c) || has(d)").MatchesFunc(lookup) {
		t.Error("no match")
	}
	if have := strings.Join(asked, " "); have != "a b c" {
		t.Errorf("asked for %s, want a b c", have)
	}
}

// manyValues gives "'0', '1', … ".
func manyValues(n int) string {
	var values []string
	for i := range n {
		values = append(values, "'"+strconv.Itoa(i)+"'")
	}
	return strings.Join(values, ", ")
}

func TestLargeSet(t *testing.T) {
	in, notIn := parse(t, "a in {"+manyValues(500)+"}"), parse(t, "a not in {"+manyValues(500)+"}")
	for i := -1; i <= 500; i++ {
		labels := map[string]string{"a": strconv.Itoa(i)}
		if want := i >= 0 && i < 500; in.Matches(labels) != want || notIn.Matches(labels) == want {
			t.Errorf("a=%d: in %v, not in %v", i, in.Matches(labels), notIn.Matches(labels))
		}
	}
}

const busy = `(app == "web" || app in {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"}) && tier != "x" && ` +
	`has(team) && !(zone contains "q" || zone ends with "z") && name starts with "n" && !global()`

func busyLabels() map[string]string {
	return labelsOf("app=k tier=y team=t zone=eu-west-1 name=n-17 projectcalico.org/namespace=default other=1")
}

func TestMatchesAllocatesNothing(t *testing.T) {
	s, labels := parse(t, busy), busyLabels()
	if !s.Matches(labels) {
		t.Fatal("no match")
	}
	if n := testing.AllocsPerRun(100, func() { s.Matches(labels) }); n != 0 {
		t.Errorf("Matches allocates %v times", n)
	}
	lookup := func(key string) (string, bool) { value, ok := labels[key]; return value, ok }
	if n := testing.AllocsPerRun(100, func() { s.MatchesFunc(lookup) }); n != 0 {
		t.Errorf("MatchesFunc allocates %v times", n)
	}
}

func BenchmarkMatches(b *testing.B) {
	for name, text := range map[string]string{
		"equal": `app == "k"`, "busy": busy, "set": "app in {" + manyValues(1000) + "}",
	} {
		b.Run(name, func(b *testing.B) {
			s, err := selector.Parse(text)
			if err != nil {
				b.Fatal(err)
			}
			labels := busyLabels()
			b.ReportAllocs()
			for b.Loop() {
				s.Matches(labels)
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := selector.Parse(busy); err != nil {
			b.Fatal(err)
		}
	}
}
