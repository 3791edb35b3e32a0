// SPDX-License-Identifier: Apache-2.0

package index_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/policy"
	"korat/policy/index"
)

// A script changes Sets line by line; what looks and questions find is written below them, indented:
//
//	item ID key=value … ^parent … prefix … name:protocol:port …    delete item ID
//	parent NAME key=value …                                         delete parent NAME
//	query ID SELECTOR                                               delete query ID
//	port ID NAME PROTOCOL SELECTOR
//	look                                                            members ID
func TestSets(t *testing.T) {
	tests := []struct{ name, script string }{
		{"items come, change and go", `
item a app=web 10.0.0.1/32 2001:db8::1/128
query web app == 'web'
look
	web new
members web
	10.0.0.1/32 2001:db8::1/128 (2)
item b app=web 10.0.0.2/32
item c app=db 10.0.0.3/32
look
	web +10.0.0.2/32
item b app=db 10.0.0.2/32
item c app=web 10.0.0.3/32
item a app=web 10.0.0.1/32 10.0.0.9/32
look
	web +10.0.0.3/32 +10.0.0.9/32 -10.0.0.2/32 -2001:db8::1/128
delete item a
look
	web -10.0.0.1/32 -10.0.0.9/32
look
`},
		{"what comes and goes between looks is not told", `
item a app=web 10.0.0.1/32
query web app == 'web'
look
	web new
delete item a
item b app=web 10.0.0.2/32
query db app == 'db'
item a app=web 10.0.0.1/32
item b app=db 10.0.0.2/32
delete query db
delete query web
query web app == 'web'
look
members web
	10.0.0.1/32 (1)
members db
	(0)
`},
		{"an address that two items have", `
item a app=web 10.0.0.1/32
item b app=web 10.0.0.1/32 10.0.0.2/32
query web app == 'web'
look
	web new
members web
	10.0.0.1/32 10.0.0.2/32 (2)
delete item a
look
item a app=db 10.0.0.1/32
item b app=web 10.0.0.2/32
look
	web -10.0.0.1/32
item a app=web 10.0.0.1/32
delete item b
look
	web +10.0.0.1/32 -10.0.0.2/32
`},
		{"an address that two items of one parent have", `
parent p team=red
item a ^p 10.0.0.1/32
item b ^p 10.0.0.1/32
query red team == 'red'
look
	red new
parent p team=blue
look
	red -10.0.0.1/32
parent p team=red
look
	red +10.0.0.1/32
delete parent p
parent p team=red
look
delete parent p
look
	red -10.0.0.1/32
`},
		{"labels of parents", `
query red team == 'red'
query blue team == 'blue'
query none !has(team)
look
	blue new
	none new
	red new
item a ^p ^q 10.0.0.1/32
item b team=blue ^p ^q 10.0.0.2/32
item c ^unknown 10.0.0.3/32
look
	blue +10.0.0.2/32
	none +10.0.0.1/32 +10.0.0.3/32
parent q team=blue
look
	blue +10.0.0.1/32
	none -10.0.0.1/32
parent p team=red
look
	blue -10.0.0.1/32
	red +10.0.0.1/32
item b ^q ^p 10.0.0.2/32
parent unknown team=red
look
	none -10.0.0.3/32
	red +10.0.0.3/32
delete parent p
look
	blue +10.0.0.1/32
	red -10.0.0.1/32
`},
		{"a query becomes another", `
item a app=web 10.0.0.1/32 http:6:80
item b app=db 10.0.0.2/32
query x app == 'web'
look
	x new
query x app in {'db', 'web'}
look
	x +10.0.0.2/32
port x http 6 app == 'web'
look
	x +10.0.0.1,6:80 -10.0.0.1/32 -10.0.0.2/32
delete query x
look
	x gone
members x
	(0)
query x app == 'web'
look
	x new
delete query x
query x app == 'db'
look
	x +10.0.0.2/32 -10.0.0.1/32
`},
		{"named ports", `
item a app=web 10.0.0.1/32 2001:db8::1/128 http:6:80 http:6:8080 http:17:80 dns:17:53
item b app=web 10.0.0.2/32 http:6:81
item nets app=web 10.0.0.0/8 http:6:80
port tcp http 6 app == 'web'
port any http 0 app == 'web'
port sctp http 132 app == 'web'
members tcp
	10.0.0.1,6:80 10.0.0.1,6:8080 10.0.0.2,6:81 2001:db8::1,6:80 2001:db8::1,6:8080 (5)
members any
	10.0.0.1,6:80 10.0.0.1,6:8080 10.0.0.1,17:80 10.0.0.2,6:81 2001:db8::1,6:80 2001:db8::1,6:8080 2001:db8::1,17:80 (7)
members sctp
	(0)
look
	any new
	sctp new
	tcp new
item b app=web 10.0.0.2/32 http:6:82
item a app=web 10.0.0.1/32 http:6:80
look
	any +10.0.0.2,6:82 -10.0.0.1,6:8080 -10.0.0.1,17:80 -10.0.0.2,6:81 -2001:db8::1,6:80 -2001:db8::1,6:8080 -2001:db8::1,17:80
	tcp +10.0.0.2,6:82 -10.0.0.1,6:8080 -10.0.0.2,6:81 -2001:db8::1,6:80 -2001:db8::1,6:8080
`},
		{"prefixes are masked and counted once", `
item nets kind=net 10.1.2.3/8 10.0.0.0/8 0.0.0.0/0
query nets kind == 'net'
members nets
	0.0.0.0/0 10.0.0.0/8 (2)
`},
		{"what is not there is deleted without harm", `
delete item a
delete parent p
delete query q
members q
	(0)
look
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := strings.TrimSpace(tt.script)
			if diff := cmp.Diff(want, strings.TrimSpace(played(t, want))); diff != "" {
				t.Errorf("have (+) is not want (-):\n%s", diff)
			}
		})
	}
}

// played gives the script with what is found now.
func played(t *testing.T, script string) string {
	sets, text := index.NewSets(), strings.Builder{}
	for line := range strings.Lines(script) {
		if strings.HasPrefix(line, "\t") {
			continue
		}
		line = strings.TrimSuffix(line, "\n")
		text.WriteString(line + "\n")
		for found := range strings.Lines(answer(t, sets, line)) {
			text.WriteString("\t" + found)
		}
	}
	return text.String()
}

func answer(t *testing.T, sets *index.Sets, line string) string {
	words := strings.Fields(line)
	switch words[0] {
	case "item":
		sets.SetItem(words[1], itemOf(t, words[2:]))
	case "parent":
		sets.SetParent(words[1], itemOf(t, words[2:]).Labels)
	case "query":
		sets.SetQuery(words[1], index.Query{Selector: parse(t, strings.Join(words[2:], " "))})
	case "port":
		sets.SetQuery(words[1], index.Query{
			Selector: parse(t, strings.Join(words[4:], " ")), Port: words[2], Protocol: policy.Protocol(number(t, words[3])),
		})
	case "delete":
		map[string]func(string){
			"item": sets.DeleteItem, "parent": func(name string) { sets.DeleteParent(name) }, "query": sets.DeleteQuery,
		}[words[1]](words[2])
	case "look":
		return deltaText(sets.Changes())
	case "members":
		text := ""
		for m := range sets.Members(words[1]) {
			text += m.String() + " "
		}
		return fmt.Sprintf("%s(%d)\n", text, sets.Len(words[1]))
	default:
		t.Fatalf("no command: %s", line)
	}
	return ""
}

func itemOf(t *testing.T, words []string) policy.Item {
	it := policy.Item{Labels: map[string]string{}}
	for _, word := range words {
		if key, value, ok := strings.Cut(word, "="); ok {
			it.Labels[key] = value
		} else if parent, ok := strings.CutPrefix(word, "^"); ok {
			it.Parents = append(it.Parents, parent)
		} else if prefix, err := netip.ParsePrefix(word); err == nil {
			it.Prefixes = append(it.Prefixes, prefix)
		} else {
			port := strings.Split(word, ":")
			it.Ports = append(it.Ports, policy.NamedPort{
				Name: port[0], Protocol: policy.Protocol(number(t, port[1])), Port: uint16(number(t, port[2])),
			})
		}
	}
	return it
}

func number(t *testing.T, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAltered holds that what comes and goes is told from what becomes another.
func TestAltered(t *testing.T) {
	sets := index.NewSets()
	one, other := policy.Item{Labels: map[string]string{"a": "1"}, Parents: []string{"p"}}, policy.Item{Labels: map[string]string{"a": "2"}}
	for i, step := range []struct {
		do   func() bool
		want bool
	}{
		{func() bool { return sets.SetParent("p", map[string]string{"b": "1"}) }, false},
		{func() bool { return sets.SetItem("i", one) }, false},
		{func() bool { return sets.SetItem("i", one) }, false},
		{func() bool { return sets.SetParent("p", map[string]string{"b": "1"}) }, false},
		{func() bool { return sets.SetParent("p", map[string]string{"b": "2"}) }, true},
		{func() bool { return sets.DeleteParent("p") }, true},
		{func() bool { return sets.SetItem("i", other) }, true},
		{func() bool { sets.DeleteItem("i"); return sets.SetItem("i", one) }, false},
		{func() bool { return sets.SetParent("q", map[string]string{"b": "2"}) }, false},
	} {
		if have := step.do(); have != step.want {
			t.Errorf("step %d: %v", i, have)
		}
	}
}
