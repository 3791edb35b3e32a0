// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"math"
	"net/netip"

	"korat/api"
	"korat/policy"
	"korat/policy/compile"
	"korat/policy/selector"
)

func pick[T any](w *walk, all ...T) T { return all[w.IntN(len(all))] }

// some gives a few of them.
func some[T any](w *walk, most int, all ...T) []T {
	var few []T
	for range w.IntN(most + 1) {
		few = append(few, pick(w, all...))
	}
	return few
}

// change makes one change, and says which.
func (w *walk) change() string {
	switch n := w.IntN(42); {
	case n == 0:
		return w.changeOptions()
	case n > 39:
		return w.changePools()
	case n < 3:
		return w.changeTier()
	case n < 14:
		return w.changePolicy()
	case n < 18:
		return w.changeProfile()
	case n < 20:
		s := policy.Service{Namespace: "a", Name: pick(w, "s", "t")}
		w.services[s] = nil
		for range w.IntN(4) {
			p := w.address()
			w.services[s] = append(w.services[s], policy.Member{
				Prefix: netip.PrefixFrom(p.Addr(), p.Addr().BitLen()), Protocol: policy.TCP, Port: 80,
			})
		}
		w.have.SetService(s, w.services[s])
		return fmt.Sprintf("service %s = %v", s, w.services[s])
	case n < 28:
		return w.changePeer()
	default:
		return w.changeLocal()
	}
}

func (w *walk) changeOptions() string {
	w.options.Families = pick(w, api.Families(), []api.Family{api.IPv4}, api.Families())
	w.options.Groups = w.IntN(3) > 0
	w.options.Reject = pick(w, true, false)
	w.options.ToHost = pick(w, compile.ToHostRules, compile.ToHostDrop)
	w.options.ServiceCIDRs = some(w, 1, netip.MustParsePrefix("10.96.0.0/12"))
	w.options.FailsafeIn = some(w, 3, compile.Failsafe{Protocol: policy.TCP, Port: 22}, compile.Failsafe{Protocol: policy.UDP, Port: 68, Net: netip.MustParsePrefix("10.0.0.0/8")})
	w.have.SetOptions(w.options)
	return fmt.Sprintf("options %v", w.options)
}

// changePools changes nothing else, and must touch nothing else.
func (w *walk) changePools() string {
	w.options.Pools = nil
	for _, cidr := range prefixes("10.1.0.0/16", "10.2.0.0/24", "10.3.0.0/24", "fd00::/64", "fd00:1::/64") {
		if w.IntN(2) == 0 {
			w.options.Pools = append(w.options.Pools, policy.Pool{Prefix: cidr, NATOutgoing: w.IntN(2) == 0})
		}
	}
	w.have.SetOptions(w.options)
	return fmt.Sprintf("pools %v", w.options.Pools)
}

func (w *walk) changeTier() string {
	name := pick(w, "x", "y", policy.TierDefault)
	if _, there := w.tiers[name]; there && w.IntN(3) == 0 {
		delete(w.tiers, name)
		w.have.DeleteTier(name)
		return "no tier " + name
	}
	t := policy.Tier{Name: name, Order: pick(w, 1, 2, math.Inf(1)), Default: pick(w, api.Deny, api.Pass)}
	w.tiers[name] = t
	w.have.SetTier(t)
	return fmt.Sprintf("tier %v", t)
}

func (w *walk) changePolicy() string {
	id := policy.ID{Kind: pick(w, policy.KindGlobal, policy.KindStagedGlobal), Name: fmt.Sprint("p", w.IntN(12))}
	if w.IntN(3) == 0 {
		id = policy.ID{Kind: policy.KindNetworkPolicy, Namespace: "a", Name: fmt.Sprint("a-policy-with-a-long-name-", w.IntN(3))}
	}
	if old := w.policies[id]; old != nil && w.IntN(4) == 0 {
		delete(w.policies, id)
		w.have.DeletePolicy(id)
		if w.IntN(3) > 0 {
			return "no policy " + id.String()
		}
		w.policies[id] = old // at once again
		w.have.SetPolicy(old)
		return "again policy " + id.String()
	}
	p := &policy.Policy{
		ID: id, Tier: pick(w, "x", "y", policy.TierDefault, policy.TierDefault), Order: pick(w, 1, 2, math.Inf(1)),
		Selector: w.selector(), Staged: id.Kind == policy.KindStagedGlobal, Stage: pick(w, policy.Normal, policy.Normal, policy.Forward, policy.PreDNAT, policy.Untracked),
		AppliesIngress: w.IntN(4) > 0, AppliesEgress: w.IntN(3) == 0,
		Ingress: w.rules(), Egress: w.rules(),
	}
	if old := w.policies[id]; old != nil && w.IntN(2) == 0 { // its rules alone
		changed := *old
		changed.Ingress, changed.Egress = p.Ingress, p.Egress
		p = &changed
	}
	w.policies[id] = p
	w.have.SetPolicy(p)
	return fmt.Sprintf("policy %+v", *p)
}

func (w *walk) selector() selector.Selector {
	return must(selector.Parse(pick(w, "all()", "has(a)", "a == 'x'", "a in {'x', 'y'}", "b == 'y'", "inherited == 'x'", "a == 'x' && has(b)")))
}

func (w *walk) rules() []policy.Rule {
	var all []policy.Rule
	for range w.IntN(4) {
		all = append(all, w.rule())
	}
	return all
}

func (w *walk) rule() policy.Rule {
	r := policy.Rule{Action: pick(w, api.Allow, api.Allow, api.Deny, api.Log, api.Pass)}
	if w.IntN(5) == 0 {
		return r
	}
	r.Family = pick(w, 0, 0, 0, api.IPv4, api.IPv6)
	r.Protocol = pick(w, 0, policy.TCP, policy.UDP, policy.SCTP, policy.ICMP, policy.ICMPv6)
	if r.Protocol == policy.ICMP && w.IntN(2) == 0 {
		r.ICMP = &policy.ICMPType{Type: 8, Code: int16(w.IntN(3) - 1)}
	}
	ported := r.Protocol == policy.TCP || r.Protocol == policy.UDP
	for _, e := range []*policy.Entity{&r.Source, &r.Destination} {
		if w.IntN(2) == 0 {
			continue
		}
		for range w.IntN(4) {
			e.Nets = append(e.Nets, w.address())
		}
		e.NotNets = some(w, 1, prefixes("10.1.0.0/24", "fd00::/80")...)
		if w.IntN(3) == 0 {
			s := w.selector()
			e.Selector = &s
		}
		if w.IntN(8) == 0 {
			s := w.selector()
			e.NotSelector = &s
		}
		if w.IntN(10) == 0 {
			e.Service = &policy.Service{Namespace: "a", Name: pick(w, "s", "t")}
		}
		if ported {
			e.Ports = some(w, 20, policy.PortRange{First: 80, Last: 80}, policy.PortRange{First: 1000, Last: 1009}, w.port(), w.port(), w.port())
			e.NamedPorts = some(w, 2, "http", "dns")
			e.NotPorts = some(w, 1, w.port())
			e.NotNamedPorts = some(w, 1, "dns")
		}
	}
	return r
}

func (w *walk) port() policy.PortRange {
	first := uint16(w.IntN(60000))
	return policy.PortRange{First: first, Last: first + uint16(w.IntN(2)*w.IntN(300))}
}

// address gives a prefix, now and then one that covers all.
func (w *walk) address() netip.Prefix {
	text := pick(w, "10.1.0.%d/32", "10.1.%d.0/24", "fd00::%x/128", "fd00:%x::/64")
	if w.IntN(6) == 0 {
		return netip.MustParsePrefix(pick(w, "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "8000::/1"))
	}
	return netip.MustParsePrefix(fmt.Sprintf(text, w.IntN(6)))
}

func (w *walk) changeProfile() string {
	name := pick(w, "kns.a", "kns.b", "other")
	if w.profiles[name] != nil && w.IntN(3) == 0 {
		delete(w.profiles, name)
		w.have.DeleteProfile(name)
		return "no profile " + name
	}
	p := &policy.Profile{Name: name, Labels: pick(w, nil, map[string]string{"inherited": "x"}), Ingress: w.rules(), Egress: w.rules()}
	w.profiles[name] = p
	w.have.SetProfile(p)
	return fmt.Sprintf("profile %+v", *p)
}

func (w *walk) labels() map[string]string {
	labels := map[string]string{}
	for _, key := range some(w, 2, "a", "b") {
		labels[key] = pick(w, "x", "y")
	}
	return labels
}

func (w *walk) changePeer() string {
	id := fmt.Sprint("peer", w.IntN(10))
	if _, there := w.peers[id]; there && w.IntN(4) == 0 {
		delete(w.peers, id)
		w.have.DeletePeer(id)
		return "no " + id
	}
	it := policy.Item{Labels: w.labels(), Parents: some(w, 2, "kns.a", "kns.b", "other")}
	for range w.IntN(3) {
		it.Prefixes = append(it.Prefixes, w.address())
	}
	it.Ports = some(w, 2, policy.NamedPort{Name: "http", Protocol: policy.TCP, Port: 80}, policy.NamedPort{Name: "dns", Protocol: policy.UDP, Port: 53})
	w.peers[id] = it
	w.have.SetPeer(id, it)
	return fmt.Sprintf("%s = %v", id, it)
}

func (w *walk) changeLocal() string {
	id := fmt.Sprint("local", w.IntN(40))
	if _, there := w.locals[id]; there && w.IntN(3) == 0 {
		delete(w.locals, id)
		w.have.DeleteLocal(id)
		return "no " + id
	}
	profiles := some(w, 2, "kns.a", "kns.b", "other")
	name := fmt.Sprintf("%s%x", pick(w, "cali", "cali", "cali", "calia", "caliaaaaaa"), w.IntN(64))
	if w.IntN(20) == 0 {
		name = pick(w, "cali+", "calia+", "eth0", "cali", "")
	}
	host := w.IntN(6) == 0
	if host {
		name = pick(w, "eth0", "eth1", "*", "eth2+")
	}
	l := compile.Local{Interface: name, Host: host, Labels: w.labels(), Parents: profiles, Profiles: profiles}
	w.locals[id] = l
	w.have.SetLocal(id, l)
	return fmt.Sprintf("%s = %v", id, l)
}
