// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/policy"
)

// brief has a line for each check.
func brief(v Verdict) string {
	var lines []string
	for _, s := range v.Sides {
		verdict := "denied"
		if s.Allowed {
			verdict = "allowed"
		}
		by := s.Decided.Why
		if s.Decided.Policy != nil {
			by = s.Decided.Policy.String()
		}
		stage := ""
		if s.Stage != Local {
			stage = string(s.Stage) + " "
		}
		lines = append(lines, stage+string(s.Direction)+" of "+s.Endpoint+" "+verdict+": "+by)
	}
	for _, n := range v.Notes {
		lines = append(lines, "note: "+n)
	}
	return strings.Join(lines, "\n")
}

func briefly(t *testing.T, w *World, f Flow, want string) {
	t.Helper()
	v := w.Explain(f)
	if diff := cmp.Diff(want, brief(v)); diff != "" {
		t.Error(diff)
	}
	if allowed := w.Allowed(f); allowed != v.Allowed || v.Allowed == strings.Contains(want, " denied:") {
		t.Errorf("Explain says %v, Allowed %v", v.Allowed, allowed)
	}
}

func at4(addr string) End { return End{Address: netip.MustParseAddr(addr)} }

// Which endpoints are asked, from where to where.
func TestPath(t *testing.T) {
	web, db, far := podOf("web", "a", "10.0.0.1"), podOf("db", "a", "10.0.0.2"), podOf("far", "b", "10.0.1.1")
	v6 := podOf("v6", "a", "fd00::1")
	w := New(Parts{Endpoints: []Endpoint{web, db, far, v6}, Nodes: []Node{{"a", []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}})
	nodeA, nodeB := End{Node: "a", Address: netip.MustParseAddr("192.0.2.1")}, End{Node: "b", Address: netip.MustParseAddr("192.0.2.2")}
	stranger := End{Node: "a", Interface: "cali123", Address: netip.MustParseAddr("10.0.0.9")}
	spoof := web.end()
	spoof.Address = db.end().Address
	node6 := End{Node: "a", Address: netip.MustParseAddr("fd01::1")}
	local := v6.end()
	local.Address = netip.MustParseAddr("fe80::1")
	tcp := func(from, to End) Flow { return Flow{From: from, To: to, Protocol: policy.TCP, DestinationPort: 80} }
	const back = "note: what policies allow a pod to send to its own node, the node's own firewall decides (defaultEndpointToHostAction: Return)"
	for _, c := range []struct {
		flow Flow
		want string
	}{
		{tcp(web.end(), db.end()), "Egress of shop/web allowed: kns.shop\nIngress of shop/db allowed: kns.shop"},
		{tcp(web.end(), far.end()), "Egress of shop/web allowed: kns.shop\nIngress of shop/far allowed: kns.shop"},
		{tcp(web.end(), at4("8.8.8.8")), "Egress of shop/web allowed: kns.shop"},
		{tcp(at4("8.8.8.8"), web.end()), "Ingress of shop/web allowed: kns.shop"},
		{tcp(at4("8.8.8.8"), at4("8.8.4.4")), "note: no endpoint of this cluster is concerned: nothing is checked"},
		{tcp(web.end(), web.end()), "note: shop/web talks to itself: that does not leave the pod"},
		{tcp(nodeA, web.end()), "note: what a node sends to itself and to its own pods is not checked"},
		{tcp(nodeA, nodeA), "note: what a node sends to itself and to its own pods is not checked"},
		{tcp(nodeB, web.end()), "Ingress of shop/web allowed: kns.shop"},
		{tcp(web.end(), nodeA), "Egress of shop/web allowed: kns.shop\n" + back},
		{tcp(web.end(), nodeB), "Egress of shop/web allowed: kns.shop"},
		{tcp(stranger, web.end()), "Egress of cali123 denied: interface cali123 of a is of no pod that is known: what comes by it is dropped\nIngress of shop/web allowed: kns.shop"},
		{tcp(web.end(), stranger), "Egress of shop/web allowed: kns.shop\nIngress of cali123 denied: interface cali123 of a is of no pod that is known: what goes to it is dropped"},
		{tcp(spoof, far.end()), "Egress of shop/web denied: source 10.0.0.2 is not an address of shop/web: a spoofed source is dropped\nIngress of shop/far allowed: kns.shop"},
		{Flow{From: web.end(), To: at4("8.8.8.8"), Protocol: policy.UDP, DestinationPort: 4789}, "Egress of shop/web denied: UDP port 4789 is VXLAN, which pods may not send"},
		{Flow{From: web.end(), To: at4("8.8.8.8"), Protocol: policy.UDP, SourcePort: 4789}, "Egress of shop/web allowed: kns.shop"},
		{Flow{From: web.end(), To: at4("8.8.8.8"), Protocol: 4}, "Egress of shop/web denied: protocol 4 is IPv4 in IP, which pods may not send"},
		{Flow{From: local, To: node6, Protocol: policy.ICMPv6, ICMP: policy.ICMPType{Type: 135}}, "Egress of shop/v6 allowed: neighbour and multicast discovery between a pod and its node is always allowed"},
		{
			Flow{From: End{Node: "a", Interface: "cali9", Address: local.Address}, To: node6, Protocol: policy.ICMPv6, ICMP: policy.ICMPType{Type: 133}},
			"note: neighbour and multicast discovery with a node is allowed by any interface of a pod",
		},
		{Flow{From: local, To: node6, Protocol: policy.ICMPv6, ICMP: policy.ICMPType{Type: 128}}, "Egress of shop/v6 allowed: kns.shop\n" + back},
	} {
		briefly(t, w, c.flow, c.want)
	}
}

func TestEndpointToHost(t *testing.T) {
	web := podOf("web", "a", "10.0.0.1")
	node := End{Node: "a", Address: netip.MustParseAddr("192.0.2.1")}
	for action, want := range map[string]string{
		"Drop":   "Egress of shop/web allowed: kns.shop\nIngress of node a denied: FelixConfiguration's defaultEndpointToHostAction is Drop",
		"Accept": "Egress of shop/web allowed: kns.shop\nnote: what policies allow a pod to send to its own node is accepted there (defaultEndpointToHostAction: Accept)",
	} {
		briefly(t, New(Parts{Endpoints: []Endpoint{web}, Settings: Settings{EndpointToHost: action}}), Flow{From: web.end(), To: node, Protocol: policy.TCP}, want)
	}
}

// What is for an address of a service, and nobody has made an endpoint's, no node forwards.
func TestServiceCIDRs(t *testing.T) {
	web, db := podOf("web", "a", "10.0.0.1"), podOf("db", "b", "10.96.0.9")
	host := End{Node: "b", Address: netip.MustParseAddr("192.0.2.2")}
	w := New(Parts{Endpoints: []Endpoint{web, db}, Settings: Settings{ServiceCIDRs: prefixes("10.96.0.0/12", "192.0.2.0/30")}})
	const loop = "is in 10.96.0.0/12, which FelixConfiguration's serviceCIDRs have, and is no endpoint's: no service is known there"
	for want, f := range map[string]Flow{
		"Egress of shop/web allowed: kns.shop\nforward Egress of node a denied: 10.96.0.1 " + loop:                                       {From: web.end(), To: at4("10.96.0.1")},
		"Egress of shop/web allowed: kns.shop":                                                                                           {From: web.end(), To: at4("10.112.0.1")},
		"Egress of shop/web allowed: kns.shop\nIngress of shop/db allowed: kns.shop\nforward Egress of node a denied: 10.96.0.9 " + loop: {From: web.end(), To: db.end()},
		"Ingress of shop/db allowed: kns.shop\nforward Egress of node b denied: 10.96.0.9 " + loop:                                       {From: at4("8.8.8.8"), To: db.end()},
		"note: no endpoint of this cluster is concerned: nothing is checked":                                                             {From: host, To: at4("10.96.0.1")},
	} {
		briefly(t, w, f, want)
	}
	own := End{Node: "a", Address: netip.MustParseAddr("192.0.2.1")}
	briefly(t, w, Flow{From: web.end(), To: own}, "Egress of shop/web allowed: kns.shop\n"+
		"note: what policies allow a pod to send to its own node, the node's own firewall decides (defaultEndpointToHostAction: Return)")
}

func TestResolve(t *testing.T) {
	web := podOf("web", "a", "10.0.0.1")
	uplink := Endpoint{Name: "uplink", Host: true, Node: "a", Interface: "eth0", Item: policy.Item{Prefixes: prefixes("192.0.2.1/32")}}
	w := New(Parts{Endpoints: []Endpoint{uplink, web}, Nodes: []Node{{"a", []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}})
	for addr, want := range map[string]End{
		"10.0.0.1":        web.end(),
		"::ffff:10.0.0.1": web.end(),
		"192.0.2.1":       {Node: "a", Address: netip.MustParseAddr("192.0.2.1")},
		"192.0.2.2":       {Address: netip.MustParseAddr("192.0.2.2")},
	} {
		if have := w.Resolve(netip.MustParseAddr(addr)); have != want {
			t.Errorf("%s: have %v, want %v", addr, have, want)
		}
	}
}

// hostPolicy is for all host endpoints, both ways, with one rule.
func hostPolicy(name string, stage policy.Stage, r policy.Rule) *policy.Policy {
	rules := []policy.Rule{r}
	return &policy.Policy{
		ID: policy.ID{Kind: policy.KindGlobal, Name: name}, Tier: policy.TierDefault, Stage: stage,
		AppliesIngress: true, AppliesEgress: true, Ingress: rules, Egress: rules,
	}
}

func TestHostEndpoints(t *testing.T) {
	far := podOf("far", "b", "10.0.1.1")
	uplink := func(node, iface string) Endpoint {
		return Endpoint{Name: node + "-" + iface, Host: true, Node: node, Interface: iface, Item: policy.Item{Labels: map[string]string{"host": node}}}
	}
	nodeA, nodeB := End{Node: "a", Address: netip.MustParseAddr("192.0.2.1")}, End{Node: "b", Address: netip.MustParseAddr("192.0.2.2")}
	port := func(action api.Action, port uint16) policy.Rule {
		return policy.Rule{Action: action, Protocol: policy.TCP, Destination: policy.Entity{Ports: ports(port)}}
	}
	onHosts := func(p *policy.Policy) *policy.Policy { p.Selector = sel(t, "has(host)"); return p }
	ssh := []Failsafe{{Protocol: policy.TCP, Port: 22}}
	const guessA, guessB = "note: the flow is taken to go by host endpoint a-eth0 of node a", "note: the flow is taken to go by host endpoint b-* of node b"
	const atEnd = "no rule of tier default matches"
	for name, c := range map[string]struct {
		policies []*policy.Policy
		from, to End
		port     uint16
		want     string
	}{
		"none": {nil, nodeA, nodeB, 80, "Egress of host endpoint a-eth0 denied: no policy applies, and no profile allows it\n" +
			"Ingress of host endpoint b-* denied: no policy applies, and no profile allows it\n" + guessA + "\n" + guessB},
		"failsafe": {nil, nodeA, nodeB, 22, "Egress of host endpoint a-eth0 denied: no policy applies, and no profile allows it\n" +
			"Ingress of host endpoint b-* allowed: the port is one of the failsafe ports, which no policy closes\n" + guessA + "\n" + guessB},
		"normal": {
			[]*policy.Policy{hostPolicy("n", policy.Normal, port(api.Allow, 80))},
			nodeA, nodeB, 80,
			"Egress of host endpoint a-eth0 allowed: gnp/n\nIngress of host endpoint b-* allowed: gnp/n\n" + guessA + "\n" + guessB,
		},
		"normal does not see what is forwarded": {
			[]*policy.Policy{onHosts(hostPolicy("n", policy.Normal, port(api.Deny, 80)))},
			at4("8.8.8.8"), far.end(), 80,
			"forward Ingress of host endpoint b-* allowed: no policy with applyOnForward applies: what the host forwards is allowed\nIngress of shop/far allowed: kns.shop\n" + guessB,
		},
		"forward": {
			[]*policy.Policy{onHosts(hostPolicy("f", policy.Forward, port(api.Allow, 81)))},
			far.end(), at4("8.8.8.8"), 80,
			"Egress of shop/far allowed: kns.shop\nforward Egress of host endpoint b-* denied: " + atEnd + "\n" + guessB,
		},
		"forward is normal too": {
			[]*policy.Policy{hostPolicy("f", policy.Forward, port(api.Allow, 80))},
			at4("8.8.8.8"), nodeB, 80,
			"Ingress of host endpoint b-* allowed: gnp/f\n" + guessB,
		},
		"forward, for pods too": {
			[]*policy.Policy{hostPolicy("f", policy.Forward, port(api.Allow, 80))},
			at4("8.8.8.8"), far.end(), 80,
			"forward Ingress of host endpoint b-* allowed: gnp/f\nIngress of shop/far allowed: gnp/f\n" + guessB,
		},
		"preDNAT denies": {
			[]*policy.Policy{hostPolicy("p", policy.PreDNAT, port(api.Deny, 80))},
			at4("8.8.8.8"), far.end(), 80,
			"preDNAT Ingress of host endpoint b-* denied: gnp/p\nIngress of shop/far allowed: kns.shop\n" + guessB,
		},
		"preDNAT allows, and the pod decides": {
			[]*policy.Policy{hostPolicy("p", policy.PreDNAT, port(api.Allow, 80)), onHosts(hostPolicy("f", policy.Forward, port(api.Deny, 80)))},
			at4("8.8.8.8"), far.end(), 80,
			"preDNAT Ingress of host endpoint b-* allowed: gnp/p\nIngress of shop/far allowed: kns.shop\n" + guessB,
		},
		"preDNAT says nothing": {
			[]*policy.Policy{hostPolicy("p", policy.PreDNAT, port(api.Allow, 81)), hostPolicy("n", policy.Normal, port(api.Allow, 80))},
			at4("8.8.8.8"), nodeB, 80,
			"preDNAT Ingress of host endpoint b-* allowed: no rule of this stage matches; the later stages decide\nIngress of host endpoint b-* allowed: gnp/n\n" + guessB,
		},
		"untracked allows": {
			[]*policy.Policy{hostPolicy("u", policy.Untracked, port(api.Allow, 80))},
			at4("8.8.8.8"), nodeB, 80,
			"untracked Ingress of host endpoint b-* allowed: gnp/u\n" + guessB + "\nnote: host endpoint b-* does not track the connection: its replies need rules of their own",
		},
		"untracked says nothing": {
			[]*policy.Policy{hostPolicy("u", policy.Untracked, port(api.Allow, 81)), hostPolicy("n", policy.Normal, port(api.Allow, 80))},
			nodeA, at4("8.8.8.8"), 80,
			"untracked Egress of host endpoint a-eth0 allowed: no rule of this stage matches; the later stages decide\nEgress of host endpoint a-eth0 allowed: gnp/n\n" + guessA,
		},
		"failsafe comes before untracked": {
			[]*policy.Policy{hostPolicy("u", policy.Untracked, port(api.Deny, 22))},
			at4("8.8.8.8"), nodeB, 22,
			"Ingress of host endpoint b-* allowed: the port is one of the failsafe ports, which no policy closes\n" + guessB,
		},
		"failsafe is not for what is forwarded": {
			[]*policy.Policy{hostPolicy("p", policy.PreDNAT, port(api.Deny, 22)), onHosts(hostPolicy("f", policy.Forward, port(api.Deny, 22)))},
			at4("8.8.8.8"), far.end(), 22,
			"forward Ingress of host endpoint b-* denied: gnp/f\nIngress of shop/far allowed: kns.shop\n" + guessB,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := New(Parts{Endpoints: []Endpoint{far, uplink("a", "eth0"), uplink("b", "*"), uplink("b", "eth7")}, Policies: c.policies, FailsafeInbound: ssh})
			got := w.Explain(Flow{From: c.from, To: c.to, Protocol: policy.TCP, DestinationPort: c.port})
			if diff := cmp.Diff(c.want, brief(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Which of a node's host endpoints a flow goes by.
func TestHostInterface(t *testing.T) {
	host := func(name, iface string, addrs ...string) Endpoint {
		return Endpoint{Name: name, Host: true, Node: "a", Interface: iface, Item: policy.Item{Prefixes: prefixes(addrs...)}}
	}
	nodes := []Node{{"a", []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
	for _, c := range []struct {
		enters, to string
		endpoints  []Endpoint
		want       string
	}{
		{"eth0", "192.0.2.1", []Endpoint{host("all", "*"), host("one", "eth0"), host("two", "eth1")}, "one"},
		{"eth2", "192.0.2.1", []Endpoint{host("all", "*"), host("one", "eth0")}, "all"},
		{"eth2", "192.0.2.1", []Endpoint{host("one", "eth0")}, ""},
		{"eth2", "192.0.2.1", []Endpoint{host("all", "*"), host("addressed", "", "192.0.2.1/32")}, "addressed"},
		{"eth2", "10.9.9.9", []Endpoint{host("all", "*"), host("addressed", "", "192.0.2.1/32")}, "addressed"},
		{"", "192.0.2.9", []Endpoint{host("one", "eth0"), host("two", "eth1", "192.0.2.9/32")}, "two"},
		{"", "192.0.2.1", []Endpoint{host("one", "eth0"), host("two", "eth1")}, ""},
		{"", "192.0.2.1", []Endpoint{host("one", "eth0")}, "one"},
		// Of several for one interface the first by name counts, as with the agent.
		{"eth2", "192.0.2.1", []Endpoint{host("a", "*"), host("c", "", "192.0.2.1/32"), host("b", "", "192.0.2.1/32")}, "b"},
		{"eth2", "10.9.9.9", []Endpoint{host("a", "*"), host("c", "", "192.0.2.1/32"), host("b", "", "192.0.2.1/32")}, "b"},
		{"", "192.0.2.1", []Endpoint{host("c", "", "192.0.2.1/32"), host("b", "", "192.0.2.1/32")}, "b"},
		{"eth2", "10.9.9.9", []Endpoint{host("b", "*"), host("a", "*")}, "a"},
		{"eth2", "192.0.2.9", []Endpoint{host("b", "", "192.0.2.1/32"), host("c", "", "192.0.2.9/32")}, "c"},
	} {
		w := New(Parts{Endpoints: c.endpoints, Nodes: nodes})
		to := at4(c.to)
		to.Node = "a"
		v := w.Explain(Flow{From: at4("8.8.8.8"), To: to, Protocol: policy.TCP, Enters: c.enters})
		have := ""
		if len(v.Sides) > 0 {
			have = strings.TrimPrefix(v.Sides[0].Endpoint, "host endpoint ")
		}
		if have != c.want {
			t.Errorf("%+v: have %q", c, have)
		}
	}
}
