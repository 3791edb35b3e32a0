// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/policy/chain"
	"korat/policy/render"
)

func to(name string) chain.Action { return chain.Action{Verb: chain.Jump, Text: name} }

func chainOf(rules ...chain.Rule) *chain.Chain { return &chain.Chain{Rules: rules} }

// in gives a rule that nothing distinguishes but the interface.
func in(device string) chain.Rule { return rule(drop, chain.In(device)) }

func ids(rules ...chain.Rule) render.Held {
	h := render.Held{IDs: []string{}}
	for _, r := range rules {
		h.IDs = append(h.IDs, r.ID)
	}
	return h
}

var comment = regexp.MustCompile(`-m comment --comment "cali:[^" ]{16}" `)

func TestTransaction(t *testing.T) {
	hook, last := rule(to("cali-FORWARD")), chain.NewRule("", chain.Action{}, chain.Mark{Value: 0x10000, Mask: 0x10000})
	for _, c := range []struct {
		name, want string
		change     render.Change
	}{
		{
			"first", `*filter
:cali-FORWARD - [0:0]
:cali-a - [0:0]
-A cali-FORWARD -i cali+ -j cali-a
-A cali-a -i cali1 -j DROP
-I FORWARD 1 -j cali-FORWARD
-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT
COMMIT
`, render.Change{Set: map[string]*chain.Chain{
				"FORWARD":      {Rules: []chain.Rule{hook}, Last: []chain.Rule{last}},
				"cali-FORWARD": chainOf(rule(to("cali-a"), chain.In("cali+"))),
				"cali-a":       chainOf(in("cali1")),
			}},
		},
		{
			"rules in the middle, at the end and in another's place", `*filter
-A cali-a -i n4 -j DROP
-R cali-a 5 -i n3 -j DROP
-I cali-a 3 -i n1 -j DROP
-I cali-a 4 -i n2 -j DROP
-D cali-a 1
-A cali-b -i n1 -j DROP
COMMIT
`, render.Change{
				Have: map[string]render.Held{"cali-a": ids(in("o1"), in("k1"), in("k2"), in("k3"), in("o2"), in("k4")), "cali-b": ids()},
				Set: map[string]*chain.Chain{
					"cali-a": chainOf(in("k1"), in("n1"), in("n2"), in("k2"), in("k3"), in("n3"), in("k4"), in("n4")),
					"cali-b": chainOf(in("n1")),
				},
			},
		},
		{
			"nothing stays", `*filter
:cali-a - [0:0]
:cali-b - [0:0]
-A cali-a -i n1 -j DROP
COMMIT
`, render.Change{
				Have: map[string]render.Held{"cali-a": {IDs: []string{"", "x"}}, "cali-b": ids(in("o1"))},
				Set:  map[string]*chain.Chain{"cali-a": chainOf(in("n1")), "cali-b": chainOf()},
			},
		},
		{
			"hooks are replaced, chains go", `*filter
-D INPUT -j cali-INPUT
-D KUBE-X -g cali-a
-D FORWARD -i x -j cali-FORWARD
-I FORWARD 1 -j cali-FORWARD
-F cali-INPUT
-F cali-a
-X cali-INPUT
-X cali-a
COMMIT
`, render.Change{
				Have: map[string]render.Held{
					"INPUT": {Lines: []string{"-A INPUT -j cali-INPUT"}}, "FORWARD": {Lines: []string{"-A FORWARD -i x -j cali-FORWARD"}},
					"KUBE-X": {Lines: []string{"-A KUBE-X -g cali-a"}}, "cali-INPUT": ids(in("o1")), "cali-a": ids(),
				},
				Set:    map[string]*chain.Chain{"FORWARD": chainOf(hook)},
				Delete: []string{"cali-a", "INPUT", "KUBE-X", "cali-INPUT", "cali-gone"},
			},
		},
	} {
		c.change.Family, c.change.Table = api.IPv4, chain.Filter
		tr, bad := c.change.Transaction()
		have := comment.ReplaceAllString(string(tr.Text), "")
		if diff := cmp.Diff(c.want, have); diff != "" || len(bad) > 0 {
			t.Errorf("%s: %v: want (-), have (+):\n%s", c.name, bad, diff)
		}
		lines := strings.Split(strings.TrimSuffix(have, "\n"), "\n")
		if len(lines) != len(tr.About) || tr.Changes != len(lines)-2 {
			t.Fatalf("%s: have %d lines, %d changes and say of %d what they are about", c.name, len(lines), tr.Changes, len(tr.About))
		}
		for i, about := range tr.About {
			if !strings.Contains(lines[i], about) {
				t.Errorf("%s: line %q is about %s", c.name, lines[i], about)
			}
		}
	}
}

func TestTransactionErrors(t *testing.T) {
	_, bad := render.Change{Family: api.IPv4, Table: chain.Filter, Set: map[string]*chain.Chain{
		"cali-good": chainOf(in("cali1")),
		"cali-bad":  chainOf(in("cali1"), in("no interface")),
		"cali-last": {Last: []chain.Rule{in("cali1")}},
		"cali-\n":   chainOf(),
	}}.Transaction()
	have := ""
	for _, name := range []string{"cali-good", "cali-bad", "cali-last", "cali-\n"} {
		have += fmt.Sprintf("%q: %v\n", name, bad[name])
	}
	const want = `"cali-good": <nil>
"cali-bad": rule "in no interface → DROP": interface "no interface": not a name of 1 to 15 bytes of printable ASCII
"cali-last": has rules that stand last, which only the kernel's own chains have
"cali-\n": chain "cali-\n": not a name of 1 to 28 bytes of printable ASCII
`
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("want (-), have (+):\n%s", diff)
	}
}

func TestText(t *testing.T) {
	chains := map[chain.Key]*chain.Chain{
		{Family: api.IPv4, Table: chain.Filter, Name: "cali-a"}: chainOf(in("cali1")),
		{Family: api.IPv4, Table: chain.Raw, Name: "cali-b"}:    chainOf(),
		{Family: api.IPv6, Table: chain.Raw, Name: "cali-c"}:    chainOf(in("no interface")),
	}
	have, err := render.Text(api.IPv4, chains)
	if err != nil {
		t.Fatal(err)
	}
	const want = "*raw\n:cali-b - [0:0]\nCOMMIT\n*filter\n:cali-a - [0:0]\n-A cali-a -i cali1 -j DROP\nCOMMIT\n"
	if diff := cmp.Diff(want, comment.ReplaceAllString(have, "")); diff != "" {
		t.Errorf("want (-), have (+):\n%s", diff)
	}
	if _, err := render.Text(api.IPv6, chains); err == nil || !strings.HasPrefix(err.Error(), "chain cali-c: ") {
		t.Errorf("have %v", err)
	}
}

// TestEdits applies the commands to random chains as iptables does.
func TestEdits(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	chainFrom := func(pool int) []chain.Rule {
		rules := make([]chain.Rule, random.IntN(12))
		for i := range rules {
			rules[i] = in("d" + strconv.Itoa(random.IntN(pool)))
		}
		return rules
	}
	for range 20_000 {
		pool := 3 + random.IntN(30) // few are there twice, or many
		have, want := chainFrom(pool), chainFrom(pool)
		tr, _ := render.Change{
			Family: api.IPv4, Table: chain.Filter,
			Have: map[string]render.Held{"cali-a": ids(have...)}, Set: map[string]*chain.Chain{"cali-a": chainOf(want...)},
		}.Transaction()
		if after := applied(t, ids(have...).IDs, string(tr.Text)); !slices.Equal(after, ids(want...).IDs) {
			t.Fatalf("from %v to %v: have %v after\n%s", ids(have...).IDs, ids(want...).IDs, after, tr.Text)
		}
		if slices.Equal(ids(have...).IDs, ids(want...).IDs) && tr.Changes > 0 {
			t.Fatalf("%v is as wanted, and is changed:\n%s", ids(have...).IDs, tr.Text)
		}
	}
}

// applied gives a chain after the commands. An insertion must stand before a rule that was there before.
func applied(t *testing.T, have []string, text string) []string {
	t.Helper()
	now, fresh := slices.Clone(have), map[int]bool{}
	shift := func(from, by int) {
		moved := map[int]bool{}
		for at := range fresh {
			if at >= from {
				at += by
			}
			moved[at] = true
		}
		fresh = moved
	}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		at := 0
		if len(words) > 2 {
			at, _ = strconv.Atoi(words[2])
			at--
			line = strings.Replace(line, " "+words[2], "", 1) // as iptables-save prints it
		}
		switch {
		case words[0][0] == ':':
			now = nil
		case words[0] == "-A":
			fresh[len(now)] = true
			now = append(now, render.OwnID(strings.Join(words, " ")))
		case words[0] == "-R":
			now[at], fresh[at] = render.OwnID(line), true
		case words[0] == "-D":
			if fresh[at] {
				t.Fatalf("a new rule is deleted:\n%s", text)
			}
			now = slices.Delete(now, at, at+1)
			shift(at, -1)
		case words[0] == "-I":
			if fresh[at] {
				t.Fatalf("inserted before a new rule:\n%s", text)
			}
			now = slices.Insert(now, at, render.OwnID(line))
			shift(at, 1)
			fresh[at] = true
		}
	}
	return now
}
