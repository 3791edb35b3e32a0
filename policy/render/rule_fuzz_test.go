// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/policy/chain"
	"korat/policy/render"
)

// FuzzRule wants texts of others to stay within the words that they are meant to be, whatever they hold.
func FuzzRule(f *testing.F) {
	for _, s := range []string{"", "a", "-j ACCEPT", "\" -j ACCEPT \"", "a\nCOMMIT", "\\\"", "ü", "!", "#", "a b", "x\x00y", "\t"} {
		f.Add(s, s, s, s)
	}
	f.Fuzz(func(t *testing.T, comment, target, set, log string) {
		for _, c := range []struct {
			rule chain.Rule
			want []string
		}{
			{chain.NewRule(comment, drop), []string{"-j", "DROP"}},
			{chain.NewRule(comment, to(target)), []string{"-j", target}},
			{chain.NewRule(comment, drop, chain.InSet{Set: set}), []string{"-m", "set", "--match-set", set, "src", "-j", "DROP"}},
			{chain.NewRule(comment, drop, chain.In(set)), []string{"-i", set, "-j", "DROP"}},
			{
				chain.NewRule(comment, chain.Action{Verb: chain.Report, Group: 2, Text: log}),
				[]string{"-j", "NFLOG", "--nflog-group", "2", "--nflog-prefix", log},
			},
		} {
			text, err := render.Rule(c.rule, api.IPv4)
			if err != nil {
				continue
			}
			have := words(t, text)
			if c.rule.Action.Verb == chain.Report && log == "" {
				c.want = c.want[:4]
			}
			at := slices.Index(have, "comment") - 1
			if at < 0 || at+4 > len(have) {
				t.Fatalf("%q: has no comment", text)
			}
			mark := "cali:" + c.rule.ID
			if comment != "" {
				mark += " "
			}
			if said := have[at+3]; !strings.HasPrefix(said, mark) || comment == "" && said != mark {
				t.Errorf("%q: have the comment %q, want it to begin with %q", text, said, mark)
			}
			if want := slices.Insert(slices.Clone(c.want), at, have[at:at+4]...); !slices.Equal(have, want) {
				t.Errorf("%q: have the words %q, want %q", text, have, want)
			}
		}
	})
}

// FuzzOwnID wants lines of any kind to be read, and to be the same rule whatever it has counted.
func FuzzOwnID(f *testing.F) {
	for _, s := range []string{
		"-i a -o b", "-s 192.0.2.0/24 ! -d 2001:db8::/64 -p tcp -m tcp --dport 80:90", "-m multiport ! --sports 1,2:3", "-m set ! --match-set a dst,dst",
		"-m mark ! --mark 0x0/0x1 -m connmark --mark 0x1/0x1", "-m conntrack ! --ctstate NEW,DNAT", "-m devgroup --src-group 0x1/0x3", "-m", "!", "-m set !",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, conditions string) {
		if strings.ContainsAny(conditions, "\"\n") {
			return
		}
		have := render.OwnID("-A cali-x " + conditions + " -j cali-y")
		if counted := render.OwnID("-A cali-x " + conditions + " -c 12 345 -j cali-y"); counted != have {
			t.Errorf("%q: have the ID %q, and %q with counters", conditions, have, counted)
		}
	})
}

// words splits a line as iptables-restore does.
func words(t *testing.T, line string) []string {
	t.Helper()
	if strings.ContainsAny(line, "\n\x00\\'") || strings.Count(line, `"`)%2 != 0 {
		t.Fatalf("%q is not one line of quoted words", line)
	}
	var all []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			if part == "" {
				t.Fatalf("%q has a word that is empty, which iptables-restore leaves out", line)
			}
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}
