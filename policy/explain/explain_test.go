// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/policy"
	"korat/policy/selector"
)

func sel(t testing.TB, text string) selector.Selector {
	t.Helper()
	s, err := selector.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func selp(t testing.TB, text string) *selector.Selector {
	s := sel(t, text)
	return &s
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range texts {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// podOf is a pod of namespace "shop", or of another if the name says so, with labels "key=value".
func podOf(name, node, address string, labels ...string) Endpoint {
	namespace := "shop"
	if before, after, ok := strings.Cut(name, "/"); ok {
		namespace, name = before, after
	}
	ep := Endpoint{Namespace: namespace, Name: name, Node: node, Interface: "cali" + name}
	ep.Prefixes, ep.Parents = prefixes(address+"/32"), []string{"kns." + namespace}
	ep.Profiles = ep.Parents
	if strings.Contains(address, ":") {
		ep.Prefixes = prefixes(address + "/128")
	}
	ep.Labels = map[string]string{"projectcalico.org/namespace": namespace}
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		ep.Labels[key] = value
	}
	return ep
}

func (e Endpoint) end() End {
	return End{Node: e.Node, Interface: e.Interface, Address: e.Prefixes[0].Addr()}
}

func ports(ranges ...uint16) []policy.PortRange {
	var all []policy.PortRange
	for _, p := range ranges {
		all = append(all, policy.PortRange{First: p, Last: p})
	}
	return all
}

// gnp is a policy in the default tier.
func gnp(name string, order float64, sel selector.Selector) *policy.Policy {
	return &policy.Policy{ID: policy.ID{Kind: policy.KindGlobal, Name: name}, Tier: policy.TierDefault, Order: order, Selector: sel}
}

func text(v Verdict) string {
	var b strings.Builder
	verdict := func(ok bool) string {
		if ok {
			return "allowed"
		}
		return "denied"
	}
	list := func(l ListCheck) {
		staged := ""
		if l.Staged {
			staged = " staged"
		}
		fmt.Fprintf(&b, "    %s%s %s\n", l.Policy, staged, l.Action)
		for _, r := range l.Rules {
			if r.Matched {
				r.Why = "matches"
			}
			fmt.Fprintf(&b, "      %d %s: %s\n", r.Index, r.Action, r.Why)
		}
	}
	fmt.Fprintln(&b, verdict(v.Allowed))
	for _, s := range v.Sides {
		fmt.Fprintf(&b, "%s %s %s: %s\n", s.Endpoint, s.Direction, s.Stage, verdict(s.Allowed))
		for _, t := range s.Tiers {
			fmt.Fprintf(&b, "  tier %s %s\n", t.Tier, t.End)
			for _, l := range t.Policies {
				list(l)
			}
		}
		for _, l := range s.Profiles {
			list(l)
		}
		by := s.Decided.Why
		if s.Decided.Policy != nil {
			by = fmt.Sprintf("%s %d", s.Decided.Policy, s.Decided.Part)
		}
		fmt.Fprintf(&b, "  %s: %s\n", s.Decided.Action, by)
	}
	for _, n := range v.Notes {
		fmt.Fprintln(&b, "note:", n)
	}
	return strings.ReplaceAll(b.String(), " \n", "\n")
}

// judged compares what Explain tells, and that Allowed says the same.
func judged(t *testing.T, w *World, f Flow, want string) {
	t.Helper()
	v := w.Explain(f)
	if diff := cmp.Diff(strings.TrimLeft(want, "\n"), text(v)); diff != "" {
		t.Error(diff)
	}
	if allowed := w.Allowed(f); allowed != v.Allowed {
		t.Errorf("Allowed says %v", allowed)
	}
}

// Every field of a rule, with a flow from 10.0.0.1:40000 (web) to 10.0.0.2:80 by TCP.
func TestRule(t *testing.T) {
	web := podOf("web", "a", "10.0.0.1", "role=web")
	db := podOf("db", "a", "10.0.0.2", "role=db")
	db.Ports = []policy.NamedPort{{Name: "http", Protocol: policy.TCP, Port: 80}, {Name: "dns", Protocol: policy.UDP, Port: 80}}
	web.Ports = []policy.NamedPort{{Name: "client", Protocol: policy.TCP, Port: 40000}}
	service := policy.Service{Namespace: "shop", Name: "db"}
	w := New(Parts{
		Endpoints: []Endpoint{web, db},
		Sets:      []NetworkSet{{Item: policy.Item{Labels: map[string]string{"net": "mine"}, Prefixes: prefixes("10.0.0.0/31")}, Name: "mine"}},
		Services:  map[policy.Service][]ServiceEndpoint{service: {{netip.MustParseAddr("10.0.0.2"), policy.TCP, 80}}},
	})
	src := func(e policy.Entity) policy.Rule { return policy.Rule{Protocol: policy.TCP, Source: e} }
	dst := func(e policy.Entity) policy.Rule { return policy.Rule{Protocol: policy.TCP, Destination: e} }
	for _, c := range []struct {
		rule policy.Rule
		want string // empty: it matches
	}{
		{policy.Rule{}, ""},
		{policy.Rule{Family: api.IPv4}, ""},
		{policy.Rule{Family: api.IPv6}, "the packet is IPv4, not IPv6"},
		{policy.Rule{Protocol: policy.TCP}, ""},
		{policy.Rule{Protocol: policy.UDP}, "protocol is TCP, not UDP"},
		{policy.Rule{Protocol: 47}, "protocol is TCP, not 47"},
		{policy.Rule{NotProtocol: policy.TCP}, "protocol is TCP, which is excluded"},
		{policy.Rule{NotProtocol: policy.UDP}, ""},
		{policy.Rule{Protocol: policy.ICMP, ICMP: &policy.ICMPType{Type: 8, Code: -1}}, "protocol is TCP, not ICMP"},
		{policy.Rule{NotICMP: &policy.ICMPType{Type: 8, Code: -1}}, "protocol is TCP, which has no ICMP types"},
		{src(policy.Entity{Nets: prefixes("10.0.0.0/24")}), ""},
		{src(policy.Entity{Nets: prefixes("10.0.0.2/32", "fd00::/8")}), "source 10.0.0.1 (shop/web, GlobalNetworkSet mine) is not in one of 10.0.0.2/32, fd00::/8"},
		{src(policy.Entity{NotNets: prefixes("10.0.0.0/30")}), "source 10.0.0.1 (shop/web, GlobalNetworkSet mine) is in 10.0.0.0/30, which is excluded"},
		{dst(policy.Entity{NotNets: prefixes("10.0.0.0/31")}), ""},
		{src(policy.Entity{Selector: selp(t, "role == 'web'")}), ""},
		{src(policy.Entity{Selector: selp(t, "net == 'mine'")}), ""},
		{dst(policy.Entity{Selector: selp(t, "net == 'mine'")}), `destination 10.0.0.2 (shop/db) does not match net == "mine"`},
		{src(policy.Entity{Selector: selp(t, "pcns.projectcalico.org/name == 'shop'")}), ""},
		{src(policy.Entity{Selector: selp(t, "role == 'web' && net == 'mine'")}), `source 10.0.0.1 (shop/web, GlobalNetworkSet mine) does not match role == "web" && net == "mine"`},
		{src(policy.Entity{NotSelector: selp(t, "has(net)")}), "source 10.0.0.1 (shop/web, GlobalNetworkSet mine) matches has(net), which is excluded"},
		{dst(policy.Entity{NotSelector: selp(t, "has(net)")}), ""},
		{dst(policy.Entity{Ports: ports(80, 443)}), ""},
		{dst(policy.Entity{Ports: ports(81, 443)}), "destination port 80 is not one of 81, 443"},
		{dst(policy.Entity{Ports: ports(1, 2, 3, 4, 5, 6, 7, 8)}), "destination port 80 is not one of 1, 2, 3, 4, 5, 6, 2 more"},
		{dst(policy.Entity{Ports: []policy.PortRange{{First: 70, Last: 79}}}), "destination port 80 is not 70-79"},
		{dst(policy.Entity{Ports: []policy.PortRange{{First: 79, Last: 80}}}), ""},
		{src(policy.Entity{Ports: ports(40000)}), ""},
		{src(policy.Entity{Ports: ports(80)}), "source port 40000 is not 80"},
		{dst(policy.Entity{NotPorts: ports(80)}), "destination port 80 is excluded"},
		{dst(policy.Entity{NotPorts: ports(81)}), ""},
		{dst(policy.Entity{NamedPorts: []string{"http"}}), ""},
		{dst(policy.Entity{NamedPorts: []string{"http"}, Selector: selp(t, "role == 'db'")}), ""},
		{dst(policy.Entity{NamedPorts: []string{"dns"}}), "destination port 80 is not dns (UDP 80 of shop/db)"},
		{dst(policy.Entity{NamedPorts: []string{"ftp"}, Ports: ports(80)}), ""},
		{dst(policy.Entity{NamedPorts: []string{"ftp"}, Ports: ports(81)}), "destination port 80 is not one of 81, ftp (which 10.0.0.2 has not)"},
		{src(policy.Entity{NamedPorts: []string{"http"}}), "source port 40000 is not http (which 10.0.0.1 has not)"},
		{dst(policy.Entity{NotNamedPorts: []string{"http"}}), "destination port 80 is http, which is excluded"},
		{dst(policy.Entity{NotNamedPorts: []string{"dns"}}), ""},
		// The set has the address, but not the port.
		{src(policy.Entity{NamedPorts: []string{"client"}, Selector: selp(t, "has(net)")}), "source port 40000 is not client (TCP 40000 of shop/web)"},
		{src(policy.Entity{NotNamedPorts: []string{"client"}, Selector: selp(t, "has(net)")}), "source port 40000 is client, which is excluded"},
		{dst(policy.Entity{Service: &service}), ""},
		{src(policy.Entity{Service: &service}), "source 10.0.0.1 (shop/web, GlobalNetworkSet mine) is not an endpoint of service shop/db"},
		{dst(policy.Entity{Service: &policy.Service{Namespace: "shop", Name: "x"}}), "destination 10.0.0.2 (shop/db), TCP port 80 is not an endpoint of service shop/x"},
	} {
		f := &Flow{From: web.end(), To: db.end(), Protocol: policy.TCP, SourcePort: 40000, DestinationPort: 80}
		e := &evaluation{World: w, flow: f, words: true}
		if matched := e.matches(&c.rule); matched != (c.want == "") || e.why != c.want {
			t.Errorf("%+v: matched %v, have %q, want %q", c.rule, matched, e.why, c.want)
		}
	}
}

func TestRuleICMP(t *testing.T) {
	echo := &policy.ICMPType{Type: 8, Code: -1}
	for _, c := range []struct {
		rule policy.Rule
		want string
	}{
		{policy.Rule{Protocol: policy.ICMP, ICMP: echo}, ""},
		{policy.Rule{Protocol: policy.ICMP, ICMP: &policy.ICMPType{Type: 8}}, ""},
		{policy.Rule{Protocol: policy.ICMP, ICMP: &policy.ICMPType{Type: 8, Code: 1}}, "ICMP message is type 8, code 0, not type 8, code 1"},
		{policy.Rule{Protocol: policy.ICMP, NotICMP: echo}, "ICMP message is type 8, code 0, which is excluded"},
		{policy.Rule{Protocol: policy.ICMP, NotICMP: &policy.ICMPType{Type: 3, Code: -1}}, ""},
		{policy.Rule{Destination: policy.Entity{Ports: ports(80)}}, "protocol is ICMP, which has no ports"},
		{policy.Rule{Destination: policy.Entity{NotPorts: ports(0)}}, ""},
	} {
		end := End{Address: netip.MustParseAddr("10.0.0.1")}
		f := &Flow{From: end, To: end, Protocol: policy.ICMP, ICMP: policy.ICMPType{Type: 8}}
		e := &evaluation{World: New(Parts{}), flow: f, words: true}
		if matched := e.matches(&c.rule); matched != (c.want == "") || e.why != c.want {
			t.Errorf("%+v: matched %v, have %q, want %q", c.rule, matched, e.why, c.want)
		}
	}
}

func TestTiersAndProfiles(t *testing.T) {
	web, db := podOf("web", "a", "10.0.0.1"), podOf("db", "b", "10.0.0.2")
	f := Flow{From: web.end(), To: db.end(), Protocol: policy.TCP, DestinationPort: 80}
	toDB := sel(t, "projectcalico.org/namespace == 'shop'")
	ingress := func(name string, order float64, rules ...policy.Rule) *policy.Policy {
		p := gnp(name, order, toDB)
		p.AppliesIngress, p.Ingress = true, rules
		for i := range rules {
			rules[i].Index = i
		}
		return p
	}
	in := func(p *policy.Policy, tier string) *policy.Policy { p.Tier = tier; return p }
	staged := func(p *policy.Policy) *policy.Policy { p.Staged = true; return p }
	udp := policy.Rule{Action: api.Allow, Protocol: policy.UDP}
	act := func(a api.Action) policy.Rule { return policy.Rule{Action: a} }
	const allowedOut = "shop/web Egress : allowed\n    kns.shop Allow\n      0 Allow: matches\n  Allow: kns.shop 0\n"
	for name, c := range map[string]struct {
		policies []*policy.Policy
		want     string
	}{
		"no policy": {nil, `
allowed
` + allowedOut + `shop/db Ingress : allowed
    kns.shop Allow
      0 Allow: matches
  Allow: kns.shop 0
`},
		"end of the tier": {[]*policy.Policy{ingress("p", 1, udp), ingress("q", 1)}, `
denied
` + allowedOut + `shop/db Ingress : denied
  tier default Deny
    gnp/p
      0 Allow: protocol is TCP, not UDP
    gnp/q
  Deny: no rule of tier default matches
`},
		"the order, and Log": {[]*policy.Policy{ingress("z", math.Inf(1), act(api.Deny)), ingress("last", 2, udp, act(api.Log), act(api.Allow), act(api.Deny)), ingress("first", 1, udp)}, `
allowed
` + allowedOut + `shop/db Ingress : allowed
  tier default
    gnp/first
      0 Allow: protocol is TCP, not UDP
    gnp/last Allow
      0 Allow: protocol is TCP, not UDP
      1 Log: matches
      2 Allow: matches
  Allow: gnp/last 2
`},
		"Pass leads to the next tier, and at last to the profiles": {[]*policy.Policy{
			in(ingress("a", 1, act(api.Pass), act(api.Deny)), policy.TierAdmin), in(ingress("a2", 2, act(api.Deny)), policy.TierAdmin), ingress("p", 1, act(api.Pass)),
		}, `
allowed
` + allowedOut + `shop/db Ingress : allowed
  tier kube-admin
    gnp/a Pass
      0 Pass: matches
  tier default
    gnp/p Pass
      0 Pass: matches
    kns.shop Allow
      0 Allow: matches
  Allow: kns.shop 0
`},
		"a tier's default": {[]*policy.Policy{in(ingress("a", 1, udp), policy.TierBaseline)}, `
allowed
` + allowedOut + `shop/db Ingress : allowed
  tier kube-baseline Pass
    gnp/a
      0 Allow: protocol is TCP, not UDP
    kns.shop Allow
      0 Allow: matches
  Allow: kns.shop 0
`},
		"staged": {[]*policy.Policy{staged(ingress("s", 1, act(api.Deny)))}, `
allowed
` + allowedOut + `shop/db Ingress : allowed
  tier default
    gnp/s staged Deny
      0 Deny: matches
    kns.shop Allow
      0 Allow: matches
  Allow: kns.shop 0
`},
		"for host endpoints alone": {[]*policy.Policy{{Tier: "default", Stage: policy.PreDNAT, AppliesIngress: true}, {Tier: "default", Stage: policy.Untracked, AppliesIngress: true}}, `
allowed
` + allowedOut + `shop/db Ingress : allowed
    kns.shop Allow
      0 Allow: matches
  Allow: kns.shop 0
`},
		"of a tier that is not there": {[]*policy.Policy{in(ingress("x", 1, udp), "absent"), ingress("p", 1, act(api.Pass))}, `
denied
` + allowedOut + `shop/db Ingress : denied
  tier default
    gnp/p Pass
      0 Pass: matches
  tier absent Deny
    gnp/x
      0 Allow: protocol is TCP, not UDP
  Deny: no rule of tier absent matches
`},
	} {
		t.Run(name, func(t *testing.T) {
			judged(t, New(Parts{Endpoints: []Endpoint{web, db}, Policies: c.policies}), f, c.want)
		})
	}
}

func TestProfiles(t *testing.T) {
	web := podOf("web", "a", "10.0.0.1")
	web.Profiles = []string{"absent", "kns.shop", "second", "third"}
	out := func(name string, rules ...policy.Rule) *policy.Profile {
		return &policy.Profile{Name: name, Egress: rules}
	}
	f := Flow{From: web.end(), To: End{Address: netip.MustParseAddr("192.0.2.1")}, Protocol: policy.TCP}
	w := New(Parts{Endpoints: []Endpoint{web}, Profiles: []*policy.Profile{
		out("kns.shop", policy.Rule{Action: api.Pass}), out("second"), out("third", policy.Rule{Action: api.Deny}),
	}})
	judged(t, w, f, `
denied
shop/web Egress : denied
    kns.shop Pass
      0 Pass: matches
    second
    third Deny
      0 Deny: matches
  Deny: third 0
`)
	web.Profiles = nil
	judged(t, New(Parts{Endpoints: []Endpoint{web}}), f, `
denied
shop/web Egress : denied
  Deny: no policy applies, and no profile allows it
`)
}
