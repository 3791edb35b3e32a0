// SPDX-License-Identifier: Apache-2.0

package explain_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/explain"
	"korat/policy/policytest"
	"korat/policy/selector"
)

// TestAgreesWithChains holds the verdicts against what the compiled chains do, as this test runs them: random worlds of
// two nodes, and random flows in each. EXPLAIN_SEED repeats one.
func TestAgreesWithChains(t *testing.T) {
	seed := rand.Uint64()
	if text := os.Getenv("EXPLAIN_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("EXPLAIN_SEED=%d", seed)
	r := &random{rand.New(rand.NewPCG(seed, 0))}
	allowed, all := 0, 0
	for range 150 {
		flows, passed := agree(t, r)
		all, allowed = all+flows, allowed+passed
	}
	if allowed < all/5 || allowed > all*4/5 {
		t.Errorf("%d of %d flows are allowed: that tells little", allowed, all)
	}
}

// FuzzAgreesWithChains does it with worlds that the fuzzer's numbers lead to.
func FuzzAgreesWithChains(f *testing.F) {
	f.Add(uint64(1), uint64(0))
	f.Fuzz(func(t *testing.T, seed, stream uint64) { agree(t, &random{rand.New(rand.NewPCG(seed, stream))}) })
}

// agree makes a world, holds the verdicts on flows in it against what the chains do, and counts them.
func agree(t *testing.T, r *random) (flows, allowed int) {
	t.Helper()
	p := r.parts()
	w := explain.New(p)
	nodes := map[string]*policytest.Machine{"a": policytest.NewMachine(t, compiled(p, "a")), "b": policytest.NewMachine(t, compiled(p, "b"))}
	for range 200 {
		f := r.flow(&p)
		want, have := through(nodes, &p, f), w.Allowed(f)
		flows++
		if have {
			allowed++
		}
		if have != want {
			t.Fatalf("%+v: the chains say %v\n%s\n%s", f, want, told(w.Explain(f)), inputs(&p))
		}
	}
	return flows, allowed
}

// compiled gives what a node's agent compiles.
func compiled(p explain.Parts, node string) *compile.Compiler {
	c := compile.New(compile.Options{
		Families: api.Families(), ServiceCIDRs: p.ServiceCIDRs, RejectLoops: len(p.ServiceCIDRs)%2 == 0,
		ToHost: map[string]compile.ToHost{"Drop": compile.ToHostDrop, "Accept": compile.ToHostAccept}[p.EndpointToHost],
	})
	for _, t := range p.Tiers {
		c.SetTier(t)
	}
	for _, pol := range p.Policies {
		c.SetPolicy(pol)
	}
	for _, prof := range p.Profiles {
		c.SetProfile(prof)
	}
	for i, ep := range p.Endpoints {
		id := fmt.Sprint(i)
		c.SetPeer(id, ep.Item)
		if ep.Node == node {
			c.SetLocal(id, compile.Local{Interface: ep.Interface, Labels: ep.Labels, Parents: ep.Parents, Profiles: ep.Profiles})
		}
		for _, name := range ep.Parents {
			if implied := policy.Implied(name); implied != nil && !c.HasProfile(name) {
				c.SetProfile(implied)
			}
		}
	}
	for i, set := range p.Sets {
		c.SetPeer(fmt.Sprint("set ", i), set.Item)
	}
	for s, behind := range p.Services {
		var members []policy.Member
		for _, b := range behind {
			members = append(members, policy.Member{Prefix: netip.PrefixFrom(b.Address, b.Address.BitLen()), Protocol: b.Protocol, Port: b.Port})
		}
		c.SetService(s, members)
	}
	c.Update()
	return c
}

// through sends the packet through the nodes.
func through(nodes map[string]*policytest.Machine, p *explain.Parts, f explain.Flow) bool {
	pkt := policytest.Packet{
		In: "eth0", Out: "eth0", Source: f.From.Address, Destination: f.To.Address, Protocol: f.Protocol,
		SourcePort: f.SourcePort, DestinationPort: f.DestinationPort, ICMP: f.ICMP,
	}
	known := func(e explain.End) int {
		return slices.IndexFunc(p.Endpoints, func(ep explain.Endpoint) bool { return ep.Node == e.Node && ep.Interface == e.Interface })
	}
	if f.From.Interface != "" {
		i := known(f.From)
		pkt.Spoofed = i >= 0 && !slices.ContainsFunc(p.Endpoints[i].Prefixes, func(net netip.Prefix) bool { return net.Contains(f.From.Address) })
	}
	switch {
	case f.From.Node == f.To.Node && f.From.Node != "":
		pkt.In, pkt.Out = f.From.Interface, f.To.Interface
		if pkt.In == "" {
			return true // by OUTPUT, where no chains are
		}
		if pkt.Out == "" {
			return passes(nodes[f.To.Node], &pkt, "INPUT")
		}
		return passes(nodes[f.To.Node], &pkt, "FORWARD")
	default:
		ok := true
		if f.From.Interface != "" {
			first := pkt
			first.In = f.From.Interface
			ok = passes(nodes[f.From.Node], &first, "FORWARD")
		}
		if f.To.Interface != "" {
			last := pkt
			last.Out, last.Spoofed = f.To.Interface, false
			ok = passes(nodes[f.To.Node], &last, "FORWARD") && ok
		}
		return ok
	}
}

// passes says whether a packet gets through what stands before a hook of filter, and through that.
func passes(m *policytest.Machine, p *policytest.Packet, hook string) bool {
	return m.Through(p, policytest.Hook{Table: chain.Raw, Name: "PREROUTING"}, policytest.Hook{Table: chain.Filter, Name: hook}) != policytest.Dropped
}

func told(v explain.Verdict) string {
	var b strings.Builder
	for _, s := range v.Sides {
		fmt.Fprintf(&b, "%+v\n", s)
	}
	return b.String()
}

func inputs(p *explain.Parts) string {
	var b strings.Builder
	for _, ep := range p.Endpoints {
		fmt.Fprintf(&b, "%+v\n", ep)
	}
	for _, pol := range p.Policies {
		fmt.Fprintf(&b, "%+v\n", *pol)
	}
	for _, pol := range p.Profiles {
		fmt.Fprintf(&b, "%+v\n", *pol)
	}
	fmt.Fprintf(&b, "%+v\n%+v\n%+v", p.Tiers, p.Sets, p.Services)
	return b.String()
}

// random makes worlds of few values, so that rules and packets meet.
type random struct{ *rand.Rand }

func pick[T any](r *random, from ...T) T { return from[r.IntN(len(from))] }

// some gives up to n of what make gives.
func some[T any](r *random, n int, make func() T) []T {
	var all []T
	for range r.IntN(n + 1) {
		all = append(all, make())
	}
	return all
}

// maybe is true once in n times.
func (r *random) maybe(n int) bool { return r.IntN(n) == 0 }

func (r *random) labels() map[string]string {
	labels := map[string]string{}
	for _, key := range []string{"x", "y"} {
		if r.maybe(2) {
			labels[key] = pick(r, "1", "2")
		}
	}
	return labels
}

func (r *random) selector() selector.Selector {
	s, err := selector.Parse(pick(r, "all()", "has(x)", "!has(x)", "x == '1'", "x != '1'", "y in {'1', '2'}", "x == '1' || y == '2'",
		"pcns.l == '1'", "projectcalico.org/namespace == 'n1'", "x == '1' && has(y)", "!all()", "global()"))
	if err != nil {
		panic(err)
	}
	return s
}

func (r *random) net() netip.Prefix {
	return netip.MustParsePrefix(pick(r, "10.0.0.0/24", "10.0.0.0/30", "10.0.0.2/32", "192.0.2.0/24", "0.0.0.0/0", "fd00::/64", "fd00::2/128", "::/0"))
}

func (r *random) services() netip.Prefix {
	return netip.MustParsePrefix(pick(r, "198.51.100.0/24", "10.0.0.4/31", "fd01::1/128"))
}

func (r *random) protocol() policy.Protocol {
	return pick(r, policy.TCP, policy.TCP, policy.UDP, policy.SCTP, policy.ICMP, policy.ICMPv6, 47)
}

func (r *random) portRange() policy.PortRange {
	first := uint16(78 + r.IntN(6))
	return policy.PortRange{First: first, Last: first + uint16(r.IntN(2))}
}

func (r *random) entity(ports bool) policy.Entity {
	var e policy.Entity
	if r.maybe(4) {
		e.Nets = some(r, 4, r.net)
	}
	if r.maybe(6) {
		e.NotNets = some(r, 4, r.net)
	}
	if r.maybe(3) {
		s := r.selector()
		e.Selector = &s
	}
	if r.maybe(8) {
		s := r.selector()
		e.NotSelector = &s
	}
	if r.maybe(12) {
		e.Service = &policy.Service{Namespace: "n1", Name: pick(r, "s", "t")}
	}
	if !ports {
		return e
	}
	name := func() string { return pick(r, "http", "dns") }
	if r.maybe(2) {
		e.Ports = some(r, pick(r, 2, 10), r.portRange)
	}
	if r.maybe(4) {
		e.NamedPorts = some(r, 2, name)
	}
	if r.maybe(6) {
		e.NotPorts = some(r, pick(r, 2, 10), r.portRange)
	}
	if r.maybe(8) {
		e.NotNamedPorts = some(r, 2, name)
	}
	return e
}

func (r *random) rule() policy.Rule {
	rule := policy.Rule{Action: pick(r, api.Allow, api.Allow, api.Allow, api.Deny, api.Pass, api.Log)}
	if r.maybe(8) {
		rule.Family = pick(r, api.Families()...)
	}
	if r.maybe(2) {
		rule.Protocol = r.protocol()
	}
	if r.maybe(10) {
		rule.NotProtocol = r.protocol()
	}
	icmp := func() *policy.ICMPType {
		return &policy.ICMPType{Type: uint8(8 + r.IntN(2)), Code: int16(r.IntN(3) - 1)}
	}
	if rule.Protocol == policy.ICMP || rule.Protocol == policy.ICMPv6 {
		if r.maybe(2) {
			rule.ICMP = icmp()
		}
		if r.maybe(4) {
			rule.NotICMP = icmp()
		}
	}
	ports := slices.Contains([]policy.Protocol{policy.TCP, policy.UDP, policy.SCTP}, rule.Protocol)
	rule.Source, rule.Destination = r.entity(ports && r.maybe(5)), r.entity(ports)
	return rule
}

func (r *random) policy(i int) *policy.Policy {
	p := &policy.Policy{
		ID: policy.ID{Kind: policy.KindGlobal, Name: fmt.Sprint("p", i)}, Tier: pick(r, "default", "default", "kube-admin", "mine", "absent"),
		Order: float64(r.IntN(3)), Selector: r.selector(), Staged: r.maybe(8), AppliesIngress: r.maybe(2), AppliesEgress: r.maybe(2),
		Stage: pick(r, policy.Normal, policy.Normal, policy.Forward, policy.PreDNAT),
	}
	if p.Staged {
		p.ID.Kind = policy.KindStagedGlobal
	}
	p.Ingress, p.Egress = some(r, 4, r.rule), some(r, 4, r.rule)
	if p.Tier == "absent" && r.maybe(2) {
		p.Tier = "default"
	}
	return p
}

func (r *random) endpoint(i int) explain.Endpoint {
	namespace := pick(r, "n1", "n2")
	ep := explain.Endpoint{Namespace: namespace, Name: fmt.Sprint("p", i), Node: pick(r, "a", "b"), Interface: fmt.Sprint("cali", i)}
	ep.Labels = r.labels()
	ep.Labels["projectcalico.org/namespace"] = namespace
	ep.Parents = []string{"kns." + namespace}
	ep.Profiles = ep.Parents
	if r.maybe(3) {
		ep.Profiles = []string{pick(r, "absent", "q"), pick(r, "q", "kns."+namespace)}
		ep.Parents = append(slices.Clone(ep.Profiles), ep.Parents...)
	}
	ep.Prefixes = []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 32), netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("fd00::%d", i)), 128),
	}
	for _, name := range []string{"http", "dns"} {
		if r.maybe(2) {
			ep.Ports = append(ep.Ports, policy.NamedPort{Name: name, Protocol: pick(r, policy.TCP, policy.UDP, 0), Port: uint16(79 + r.IntN(3))})
		}
	}
	return ep
}

func (r *random) parts() explain.Parts {
	p := explain.Parts{
		Tiers:    []policy.Tier{{Name: "mine", Order: float64(pick(r, 10, 2_000_000)), Default: pick(r, api.Deny, api.Pass)}},
		Profiles: []*policy.Profile{{Name: "q", Labels: r.labels(), Ingress: some(r, 3, r.rule), Egress: some(r, 3, r.rule)}},
		Services: map[policy.Service][]explain.ServiceEndpoint{},
		Settings: explain.Settings{EndpointToHost: pick(r, "", "Return", "Drop", "Accept"), ServiceCIDRs: some(r, 2, r.services)},
	}
	if r.maybe(2) {
		open := []policy.Rule{{Action: api.Allow}}
		p.Profiles = append(p.Profiles, &policy.Profile{Name: "kns.n1", Labels: map[string]string{"pcns.l": "1"}, Ingress: some(r, 2, r.rule), Egress: open})
	}
	for i := range 6 {
		p.Endpoints = append(p.Endpoints, r.endpoint(i+1))
	}
	for i := range r.IntN(10) {
		p.Policies = append(p.Policies, r.policy(i))
	}
	p.Sets = some(r, 2, func() explain.NetworkSet {
		return explain.NetworkSet{Item: policy.Item{Labels: r.labels(), Prefixes: some(r, 3, r.net)}}
	})
	p.Services[policy.Service{Namespace: "n1", Name: "s"}] = some(r, 4, func() explain.ServiceEndpoint {
		return explain.ServiceEndpoint{Address: pick(r, p.Endpoints...).Prefixes[r.IntN(2)].Addr(), Protocol: pick(r, policy.TCP, policy.UDP, 0), Port: uint16(79 + r.IntN(3))}
	})
	return p
}

// end is a pod, a node, a stranger or somebody outside.
func (r *random) end(p *explain.Parts, family int) explain.End {
	outside := netip.MustParseAddr([]string{pick(r, "192.0.2.9", "198.51.100.1"), "fd01::1"}[family])
	switch r.IntN(12) {
	case 0:
		return explain.End{Address: outside}
	case 1:
		return explain.End{Node: pick(r, "a", "b"), Address: outside}
	case 2:
		return explain.End{Node: pick(r, "a", "b"), Interface: "cali99", Address: outside}
	}
	ep := pick(r, p.Endpoints...)
	return explain.End{Node: ep.Node, Interface: ep.Interface, Address: ep.Prefixes[family].Addr()}
}

func (r *random) flow(p *explain.Parts) explain.Flow {
	family := r.IntN(2)
	f := explain.Flow{From: r.end(p, family), To: r.end(p, family), Protocol: pick(r, policy.TCP, policy.TCP, policy.TCP, r.protocol())}
	for f.From == f.To {
		f.To = r.end(p, family)
	}
	if r.maybe(20) {
		f.From.Address = pick(r, p.Endpoints...).Prefixes[family].Addr()
	}
	switch f.Protocol {
	case policy.ICMP, policy.ICMPv6:
		f.ICMP = policy.ICMPType{Type: pick[uint8](r, 8, 9, 135), Code: int16(r.IntN(2))}
	case policy.TCP, policy.UDP, policy.SCTP, policy.UDPLite:
		f.SourcePort, f.DestinationPort = uint16(78+r.IntN(6)), uint16(78+r.IntN(6))
		if f.Protocol == policy.UDP && r.maybe(4) {
			f.DestinationPort = 4789
		}
	}
	return f
}
