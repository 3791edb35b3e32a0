// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/explain"
	"korat/policy/policytest"
)

// TestVerdicts sends random packets through the chains that random policies come to, and wants the verdict that
// package explain gives, which shares no code with this one.
func TestVerdicts(t *testing.T) {
	seed := seedOf(t)
	allowed, all := 0, 0
	for round := range 800 {
		w := newWalk(seed + uint64(round))
		j := w.judgement(t)
		for range 30 {
			all++
			if j.judge(w) {
				allowed++
			}
			if t.Failed() {
				t.Fatalf("COMPILE_SEED=%d", seed+uint64(round))
			}
		}
	}
	if allowed < all/10 || allowed > all*9/10 {
		t.Errorf("%d of %d packets are allowed: that proves little", allowed, all)
	}
}

// judgement is a kernel and a World with the same policies.
type judgement struct {
	*testing.T
	compiler *compile.Compiler
	kernel   *kernel
	world    *explain.World
	pods     []explain.Endpoint
}

func (w *walk) judgement(t *testing.T) *judgement {
	j := &judgement{T: t}
	parts := explain.Parts{Services: map[policy.Service][]explain.ServiceEndpoint{}, Nodes: []explain.Node{{Name: "n1", Addresses: hosts()}}}
	for _, name := range []string{"x", "y"} {
		tier := policy.Tier{Name: name, Order: float64(w.IntN(2_000_000)), Default: pick(w, api.Deny, api.Pass)}
		w.tiers[name] = tier
		parts.Tiers = append(parts.Tiers, tier)
	}
	for range 12 {
		w.changePolicy()
	}
	for range 4 {
		w.changeProfile()
	}
	for _, p := range w.policies {
		parts.Policies = append(parts.Policies, p)
	}
	for _, p := range w.profiles {
		parts.Profiles = append(parts.Profiles, p)
	}
	for i := range 6 {
		ep := explain.Endpoint{Namespace: "a", Name: fmt.Sprint("pod", i), Node: "n1", Interface: fmt.Sprint("cali", i)}
		ep.Item = policy.Item{Labels: w.labels(), Parents: some(w, 2, "kns.a", "kns.b", "other"), Prefixes: prefixes(fmt.Sprintf("10.1.%d.%d/32", i%3, i), fmt.Sprintf("fd00::%x/128", i))}
		ep.Ports = some(w, 2, policy.NamedPort{Name: "http", Protocol: policy.TCP, Port: 80}, policy.NamedPort{Name: "dns", Protocol: policy.UDP, Port: 53})
		ep.Profiles = ep.Parents
		parts.Endpoints = append(parts.Endpoints, ep)
		w.peers[ep.Name] = ep.Item
		w.locals[ep.Name] = compile.Local{Interface: ep.Interface, Labels: ep.Labels, Parents: ep.Parents, Profiles: ep.Parents}
	}
	for i, name := range some(w, 2, "eth0", "eth1", "*") {
		hep := explain.Endpoint{Name: fmt.Sprint("hep", i), Host: true, Node: "n1", Interface: name}
		if slices.ContainsFunc(parts.Endpoints, func(ep explain.Endpoint) bool { return ep.Interface == name }) {
			continue
		}
		hep.Item = policy.Item{Labels: w.labels(), Parents: some(w, 1, "kns.a", "other")}
		hep.Profiles = hep.Parents
		parts.Endpoints = append(parts.Endpoints, hep)
		w.locals[hep.Name] = compile.Local{Interface: name, Host: true, Labels: hep.Labels, Parents: hep.Parents, Profiles: hep.Parents}
	}
	if w.IntN(2) == 0 {
		parts.FailsafeInbound = []explain.Failsafe{{Protocol: policy.TCP, Port: 80}}
		parts.FailsafeOutbound = []explain.Failsafe{{Protocol: policy.UDP, Port: 53, Net: netip.MustParsePrefix("10.1.0.0/22")}}
		w.options.FailsafeIn = []compile.Failsafe{{Protocol: policy.TCP, Port: 80}}
		w.options.FailsafeOut = []compile.Failsafe{{Protocol: policy.UDP, Port: 53, Net: netip.MustParsePrefix("10.1.0.0/22")}}
	}
	w.options.Reject, w.options.RejectLoops = w.IntN(2) == 0, w.IntN(2) == 0
	if w.IntN(2) == 0 {
		w.options.ToHost, parts.EndpointToHost = compile.ToHostDrop, "Drop"
	}
	w.options.ServiceCIDRs = some(w, 2, prefixes("10.1.5.0/24", "10.1.0.0/28", "fd00:5::/64")...)
	parts.ServiceCIDRs = w.options.ServiceCIDRs
	for i := range 3 {
		set := explain.NetworkSet{Name: fmt.Sprint("set", i), Item: policy.Item{Labels: w.labels(), Prefixes: []netip.Prefix{w.address(), w.address()}}}
		parts.Sets = append(parts.Sets, set)
		w.peers[set.Name] = set.Item
	}
	service := policy.Service{Namespace: "a", Name: "s"}
	for _, ep := range parts.Endpoints[:2] {
		parts.Services[service] = append(parts.Services[service], explain.ServiceEndpoint{Address: ep.Prefixes[0].Addr(), Protocol: policy.TCP, Port: 80})
		w.services[service] = append(w.services[service], policy.Member{Prefix: ep.Prefixes[0], Protocol: policy.TCP, Port: 80})
	}
	c := compile.New(w.options)
	// What explain takes for granted of namespaces has to be told here.
	for _, name := range []string{"kns.a", "kns.b"} {
		if w.profiles[name] == nil {
			w.profiles[name] = policy.Implied(name)
		}
	}
	w.tell(c)
	c.Update()
	w.have = c
	w.settle()
	for range w.IntN(3) { // what others do to interfaces does no harm
		w.regroup()
	}
	for name := range w.interfaces() {
		if w.groups[name] == 0 {
			w.group(name, c.Group(name))
		}
	}
	c.Update()
	j.compiler, j.kernel, j.world, j.pods = c, policytest.NewMachine(t, c), explain.New(parts), parts.Endpoints
	j.kernel.Local, j.kernel.Groups = hosts(), w.groups
	return j
}

func hosts() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.168.0.1"), netip.MustParseAddr("fd00:ffff::1")}
}

// judge compares the verdicts on one packet, and says whether it is allowed.
func (j *judgement) judge(w *walk) bool {
	v6 := w.IntN(2)
	from, to := j.end(w, v6), j.end(w, v6)
	for from.Node == "" && to.Node == "" || from == to {
		from, to = j.end(w, v6), j.end(w, v6)
	}
	f := explain.Flow{
		From: from, To: to, Protocol: pick(w, policy.TCP, policy.TCP, policy.UDP, policy.UDP, policy.SCTP, 47, 4),
		SourcePort: j.port(w), DestinationPort: j.port(w), Leaves: pick(w, "eth0", "eth1"), Enters: pick(w, "eth0", "eth1"),
	}
	if w.IntN(4) == 0 {
		f.Protocol = []policy.Protocol{policy.ICMP, policy.ICMPv6}[v6]
		f.ICMP = policy.ICMPType{Type: pick[uint8](w, 8, 135, 3), Code: int16(w.IntN(2))}
	}
	p := &packet{
		In: from.Interface, Out: to.Interface, Source: from.Address, Destination: to.Address, Protocol: f.Protocol,
		SourcePort: f.SourcePort, DestinationPort: f.DestinationPort, ICMP: f.ICMP, Mark: pick[uint32](w, 0, 0x10000, 0x20000, 0x30000),
	}
	j.kernel.Trail = nil
	have, want := j.travel(p, f), j.world.Allowed(f)
	ruled := p.In != "" && p.Out != "" && strings.Contains(p.In+p.Out, "cali")
	if have == fell && !ruled {
		have = accepted // no policy has a say, or the host's own rules decide
	}
	if have == fell || (have == accepted) != want {
		for _, p := range w.profiles {
			j.Logf("profile %+v", *p)
		}
		for _, p := range w.policies {
			j.Logf("policy %+v", *p)
		}
		j.Errorf("%s: explain allows it: %v; the chains say otherwise:\n%s\n%v", p, want, strings.Join(j.kernel.Trail, "\n"), j.world.Explain(f))
	}
	return want
}

// travel passes a packet through the hooks on its way, as far as it gets.
func (j *judgement) travel(p *packet, f explain.Flow) policytest.Fate {
	k := j.kernel
	fromHost, toHost := f.From.Node != "" && p.In == "", f.To.Node != "" && p.Out == ""
	if fromHost && f.To.Node == "" {
		p.Out = f.Leaves
	} else if f.From.Node == "" {
		p.In = f.Enters
	}
	if !fromHost && f.To.Node == "" {
		p.Out = f.Leaves
	}
	if fromHost {
		p.Translated = f.SourcePort%2 == 0
		return k.Through(p, hook{Table: chain.Raw, Name: "OUTPUT"}, hook{Table: chain.Mangle, Name: "OUTPUT"}, hook{Table: chain.Filter, Name: "OUTPUT"}, hook{Table: chain.Mangle, Name: "POSTROUTING"})
	}
	early := k.Through(p, hook{Table: chain.Raw, Name: "PREROUTING"}, hook{Table: chain.Mangle, Name: "PREROUTING"})
	switch {
	case early == dropped:
		return dropped
	case toHost:
		return k.Through(p, hook{Table: chain.Filter, Name: "INPUT"})
	}
	return k.Through(p, hook{Table: chain.Filter, Name: "FORWARD"}, hook{Table: chain.Mangle, Name: "POSTROUTING"})
}

// end gives a pod, the node or a host outside.
func (j *judgement) end(w *walk, v6 int) explain.End {
	switch n := w.IntN(10); {
	case n < 6:
		pod := j.pods[n]
		return explain.End{Node: "n1", Interface: pod.Interface, Address: pod.Prefixes[v6].Addr()}
	case n == 6:
		return explain.End{Node: "n1", Address: hosts()[v6]}
	}
	return explain.End{Address: netip.MustParseAddr(fmt.Sprintf([]string{"10.1.%d.9", "fd00:%x::9"}[v6], w.IntN(6)))}
}

func (j *judgement) port(w *walk) uint16 {
	return pick[uint16](w, 80, 53, 1000, 1005, 4789, uint16(w.IntN(65536)))
}
