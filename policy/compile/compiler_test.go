// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/policytest"
	"korat/policy/selector"
)

// ruled is a policy for all pods.
func ruled(name string, rules ...policy.Rule) *policy.Policy {
	return &policy.Policy{ID: policy.ID{Kind: policy.KindGlobal, Name: name}, Tier: policy.TierDefault, AppliesIngress: true, Ingress: rules}
}

// pod gives a Compiler with one pod.
func pod() *compile.Compiler {
	c := compile.New(compile.Options{Families: []api.Family{api.IPv4}})
	c.SetLocal("pod", compile.Local{Interface: "cali1", Profiles: []string{"nobody"}})
	return c
}

func allow(port uint16) policy.Rule {
	return policy.Rule{
		Action: api.Allow, Protocol: policy.TCP,
		Destination: policy.Entity{Ports: []policy.PortRange{{First: port, Last: port}}},
	}
}

func from(net string, r policy.Rule) policy.Rule {
	r.Source.Nets = prefixes(net)
	return r
}

// TestReports maps what reports have in their prefixes to what they stand for.
func TestReports(t *testing.T) {
	c := pod()
	deny := policy.Rule{Action: api.Deny}
	web := ruled("web", allow(80), from("192.0.2.0/24", deny), policy.Rule{Action: api.Log}, from("198.51.100.0/24", deny))
	c.SetPolicy(web)
	c.Update()
	want := `
cali-drop-ipip: {6 Egress  0 }
cali-drop-spoofed: {4 Egress  0 }
cali-drop-tracked: {9   0 }
cali-drop-vxlan: {5 Egress  0 }
cali-from-wl-dispatch: {3 Egress  0 }
cali-fw: {2 Egress  0 }
cali-pi-gnp/web: {0 Ingress gnp/web 1 }
cali-pi-gnp/web: {0 Ingress gnp/web 2 }
cali-pi-gnp/web: {0 Ingress gnp/web 3 }
cali-to-wl-dispatch: {3 Ingress  0 }
cali-tw: {1 Ingress  0 default}`
	if diff := cmp.Diff(want[1:], reports(t, c)); diff != "" {
		t.Errorf("have (+) is not want (-):\n%s", diff)
	}

	// A rule that moves keeps its ID, and one that goes is not known any more.
	before := verdictsOf(c)
	c.SetPolicy(ruled("web", from("203.0.113.0/24", deny), allow(80), from("198.51.100.0/24", deny)))
	c.Update()
	kept, gone := before[2], before[0] // in the order of the chain: 1, 2, 3
	if o, ok := c.Rule(kept); !ok || o.Rule != 2 {
		t.Errorf("the rule that is number 2 now: have %v, %v", o, ok)
	}
	if o, ok := c.Rule(gone); ok {
		t.Errorf("the rule that is gone is said to be %v", o)
	}
	c.DeletePolicy(web.ID)
	c.Update()
	if o, ok := c.Rule(kept); ok {
		t.Errorf("a rule of the policy that is gone is said to be %v", o)
	}
}

// verdictsOf gives the IDs in the reports of the policy's chain.
func verdictsOf(c *compile.Compiler) []string {
	var all []string
	for _, r := range c.Chains()[chain.Key{Family: api.IPv4, Table: chain.Filter, Name: "cali-pi-gnp/web"}].Rules {
		if r.Action.Verb == chain.Report {
			all = append(all, r.Action.Text[2:])
		}
	}
	return all
}

func reports(t *testing.T, c *compile.Compiler) string {
	var lines []string
	for key, ch := range c.Chains() {
		for _, r := range ch.Rules {
			if r.Action.Verb != chain.Report {
				continue
			}
			o, known := c.Rule(r.Action.Text[2:])
			if !known {
				t.Errorf("%s: %s is not known", key, r)
			}
			name := key.Name
			if i := strings.LastIndex(name, "-"); len(name) == chain.MaxName && i > 0 {
				name = name[:7] // without the hash
			}
			id := ""
			if o.What == compile.ByRule {
				id = o.Policy.String()
			}
			lines = append(lines, fmt.Sprintf("%s: {%d %s %s %d %s}", name, o.What, o.Direction, id, o.Rule, o.Tier))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestWhere finds rules in the chains.
func TestWhere(t *testing.T) {
	c := pod()
	six := allow(6)
	six.Family = api.IPv6
	p := ruled("web", allow(80), six, policy.Rule{Action: api.Deny}, allow(81))
	c.SetPolicy(p)
	c.Update()
	var have []string
	for i := range p.Ingress {
		have = append(have, fmt.Sprint(c.Where(p.ID, api.Ingress, i)))
	}
	have = append(have, fmt.Sprint(c.Where(policy.ID{Kind: policy.KindProfile, Name: "nobody"}, api.Ingress, 0)), fmt.Sprint(c.Where(policy.ID{}, api.Ingress, 0)))
	want := []string{"[{IPv4 filter cali-pi-gnp/web [0]}]", "[]", "[{IPv4 filter cali-pi-gnp/web [1 2]}]", "[]", "[]", "[]"}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("have (+) is not want (-):\n%s", diff)
	}
}

// TestApplied lists what applies to an endpoint, and its chain.
func TestApplied(t *testing.T) {
	c := pod()
	second, first, last := ruled("b"), ruled("a"), ruled("c")
	last.Tier, last.AppliesIngress = "late", false
	elsewhere := ruled("elsewhere")
	elsewhere.Selector = must(selector.Parse("has(nothing)"))
	for _, p := range []*policy.Policy{last, second, elsewhere, first} {
		c.SetPolicy(p)
	}
	if _, known := c.Applied("pod"); known {
		t.Error("an endpoint before the first Update has something")
	}
	c.Update()
	applied, _ := c.Applied("pod")
	var have []string
	for _, tier := range applied.Tiers {
		for _, p := range tier.Policies {
			have = append(have, tier.Name+" "+p.ID.String())
		}
	}
	have = append(have, applied.Profiles...)
	if want := []string{"default gnp/a", "default gnp/b", "late gnp/c", "nobody"}; !slices.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
	key, _ := c.ChainAt(compile.Check{Local: "pod", Family: api.IPv4, Direction: api.Ingress})
	if c.Chains()[key] == nil || !strings.HasPrefix(key.Name, "cali-tw-") {
		t.Errorf("the pod's chain is %q", key)
	}
	if _, known := c.ChainAt(compile.Check{Local: "pod", Family: api.IPv6, Direction: api.Ingress}); known {
		t.Error("the pod has a chain in a family that is not in use")
	}
	if _, known := c.Applied("nobody"); known {
		t.Error("an endpoint that is not there has something")
	}
}

// TestEdges holds what an Update says of small changes.
func TestEdges(t *testing.T) {
	c := pod()
	role := must(selector.Parse("role == 'client'"))
	r := policy.Rule{Action: api.Allow, Source: policy.Entity{Selector: &role}}
	c.SetPolicy(ruled("web", r))
	c.SetPeer("client", policy.Item{Labels: map[string]string{"role": "client"}, Prefixes: prefixes("10.0.0.1/32")})
	steps := []struct {
		what   string
		do     func()
		chains int
		sets   string
	}{
		{"everything is new", func() {}, 19, "new +10.0.0.1/32"},
		{"nothing", func() {}, 0, ""},
		{"a peer", func() {
			c.SetPeer("other", policy.Item{Labels: map[string]string{"role": "client"}, Prefixes: prefixes("10.0.0.2/32", "fd00::1/128")})
		}, 0, "+10.0.0.2/32"},
		{"it comes and goes", func() {
			c.SetPeer("third", policy.Item{Labels: map[string]string{"role": "client"}, Prefixes: prefixes("10.0.0.3/32")})
			c.DeletePeer("third")
		}, 0, ""},
		{"the same policy in another object", func() { c.SetPolicy(ruled("web", r)) }, 0, ""},
		{"away and back", func() { c.DeletePolicy(ruled("web").ID); c.SetPolicy(ruled("web", r)) }, 0, ""},
		{"one more rule", func() { c.SetPolicy(ruled("web", r, allow(80))) }, 1, ""},
		{"everything", func() {
			c.SetPeer("all", policy.Item{Labels: map[string]string{"role": "client"}, Prefixes: prefixes("0.0.0.0/0", "0.0.0.0/1")})
		}, 0, "+0.0.0.0/1 +128.0.0.0/1"},
		{"half of it", func() {
			c.SetPeer("all", policy.Item{Labels: map[string]string{"role": "client"}, Prefixes: prefixes("0.0.0.0/1")})
		}, 0, "-128.0.0.0/1"},
		{"no pod", func() { c.DeleteLocal("pod") }, 5, "gone"},
	}
	for _, s := range steps {
		s.do()
		u := c.Update()
		sets := ""
		for _, change := range u.Sets {
			sets = changed(change)
		}
		if len(u.Chains) != s.chains || sets != s.sets {
			t.Errorf("%s: have %d chains %v, sets %q; want %d and %q", s.what, len(u.Chains), u.Chains, sets, s.chains, s.sets)
		}
	}
}

func changed(c compile.SetChange) string {
	var parts []string
	if c.New {
		parts = append(parts, "new")
	}
	if c.Gone {
		parts = append(parts, "gone")
	}
	for _, m := range c.Removed {
		parts = append(parts, "-"+m.String())
	}
	for _, m := range c.Added {
		parts = append(parts, "+"+m.String())
	}
	return strings.Join(parts, " ")
}

// TestRefusedRules holds what becomes of rules that the API refuses: they allow nothing, and deny more than they say.
func TestRefusedRules(t *testing.T) {
	any80 := allow(80)
	any80.Protocol = 0
	deny80, pass80 := any80, any80
	deny80.Action, pass80.Action = api.Deny, api.Pass
	c := pod()
	c.SetPolicy(ruled("odd", any80, pass80, from("192.0.2.0/24", deny80)))
	c.Update()
	have := policytest.Chains(c.Chains(), func(k chain.Key) bool { return strings.HasPrefix(k.Name, "cali-pi") })
	want := "IPv4 filter cali-pi-gnp/odd\n\tsrc 192.0.2.0/24 → report"
	if !strings.HasPrefix(have, want) || strings.Count(have, "\n") != 3 {
		t.Errorf("have:\n%s\nwant:\n%s… and DROP", have, want)
	}
}

// TestDispatchLeads looks at pods of as many classes, by their names and by their groups: each leads to its chain, others to
// a DROP, and on the way are no more rules than a tree may have.
func TestDispatchLeads(t *testing.T) {
	for groups, most := range map[bool]int{false: 60, true: 40} {
		c := compile.New(compile.Options{Families: []api.Family{api.IPv4}, Groups: groups})
		name := func(i uint16) string { return fmt.Sprintf("cali%x", 0x1000000+int(i)*0x9e3779b1%0xefffff) }
		for i := range uint16(200) {
			c.SetLocal(name(i), compile.Local{Interface: name(i), Profiles: []string{name(i)}})
			c.SetProfile(&policy.Profile{Name: name(i), Ingress: []policy.Rule{allow(1000 + i)}})
		}
		c.Update()
		k := policytest.NewMachine(t, c)
		k.Groups = map[string]uint32{}
		for i := range uint16(200) {
			k.Groups[name(i)] = c.Group(name(i))
		}
		tried := 0
		p := packet{Source: netip.MustParseAddr("192.0.2.1"), Destination: netip.MustParseAddr("10.0.0.1"), Protocol: policy.TCP}
		for i := range uint16(200) {
			for port, want := range map[uint16]policytest.Fate{1000 + i: accepted, 1001 + i: dropped} {
				p.Out, p.DestinationPort = name(i), port
				k.Tried = 0
				if have := k.Through(&p, hook{Table: chain.Filter, Name: "FORWARD"}); have != want {
					t.Errorf("%s, port %d: have %v, want %v", name(i), port, have, want)
				}
				tried = max(tried, k.Tried)
			}
			p.Out, p.DestinationPort = name(i)+"0", 1000+i
			if k.Through(&p, hook{Table: chain.Filter, Name: "FORWARD"}) != dropped {
				t.Errorf("%s is not known, and not dropped", p.Out)
			}
		}
		if tried > most {
			t.Errorf("groups %v: a packet tries %d rules", groups, tried)
		}
		t.Logf("groups %v: a packet tries at most %d rules", groups, tried)
	}
}
