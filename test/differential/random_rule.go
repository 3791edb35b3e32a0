// SPDX-License-Identifier: Apache-2.0

package differential

import "korat/api"

// rule is one of Calico's, for packets of one family or of both.
func (r *Scene) rule(pass bool) api.Rule {
	rule := api.Rule{Action: pick(r, api.Allow, api.Allow, api.Allow, api.Allow, api.Deny, api.Deny, api.Log, api.Pass)}
	if rule.Action == api.Pass && !pass {
		rule.Action = api.Deny
	}
	family := pick(r, 0, 0, api.IPv4, api.IPv4, api.IPv6)
	if family != 0 && r.maybe(3) {
		rule.IPVersion = new(int(family))
	}
	r.protocols(&rule, family)
	ports := rule.Protocol != nil && map[api.Protocol]bool{"TCP": true, "UDP": true, "SCTP": true, "UDPLite": true, "6": true}[*rule.Protocol]
	rule.Source = r.entity(family, ports && r.maybe(4))
	rule.Destination = r.entity(family, ports)
	if r.maybe(8) {
		rule.Metadata = &api.RuleMetadata{Annotations: map[string]string{"why": "it's -j ACCEPT; `id` $(id) %s"}}
	}
	return rule
}

func (r *Scene) protocols(rule *api.Rule, family api.Family) {
	if r.maybe(2) {
		rule.Protocol = new(pick[api.Protocol](r, "TCP", "TCP", "TCP", "UDP", "UDP", "SCTP", "UDPLite", "47", "6", "ICMP", "ICMPv6"))
	}
	if r.maybe(12) {
		rule.NotProtocol = new(pick[api.Protocol](r, "TCP", "UDP", "SCTP", "47", "ICMP"))
	}
	echo := 8
	switch {
	case rule.Protocol == nil:
		return
	case *rule.Protocol == "ICMP" && family != api.IPv6:
	case *rule.Protocol == "ICMPv6" && family != api.IPv4:
		echo = 128
	default:
		return
	}
	message := func() *api.ICMP {
		i := &api.ICMP{Type: new(pick(r, echo, echo, 13, 139))}
		if r.maybe(2) {
			i.Code = new(r.IntN(2))
		}
		return i
	}
	if r.maybe(2) {
		rule.ICMP = message()
	}
	if r.maybe(3) {
		rule.NotICMP = message()
	}
}

// entity is one end of a rule, which most often says little.
func (r *Scene) entity(family api.Family, ports bool) api.EntityRule {
	var e api.EntityRule
	net := func() string { return r.net(family) }
	if family != 0 && r.maybe(2) {
		e.Nets = some(r, 1, pick(r, 1, 2, 6), net)
	}
	if family != 0 && r.maybe(4) {
		e.NotNets = some(r, 1, pick(r, 1, 6), func() string {
			for {
				if n := net(); n != "0.0.0.0/0" && n != "::/0" {
					return n
				}
			}
		})
	}
	if r.maybe(3) {
		e.Selector = r.selector()
	}
	if r.maybe(10) {
		e.NotSelector = r.selector()
	}
	if r.maybe(6) {
		e.NamespaceSelector = r.ofNamespaces()
	}
	if r.maybe(12) {
		e.ServiceAccounts = &api.ServiceAccountMatch{Names: some(r, 0, 1, func() string { return pick(r, accounts()...) }), Selector: pick(r, "", "has(trust)", "trust == 'high'")}
	}
	if ports && r.maybe(2) {
		e.Ports = r.ports()
	}
	if ports && r.maybe(6) {
		e.NotPorts = r.ports()
	}
	return e
}

// ports are numbers, ranges and names; now and then more than one rule of iptables' has room for.
func (r *Scene) ports() []api.Port {
	if r.maybe(4) {
		return some(r, 8, 24, func() api.Port {
			first := pick[uint16](r, 50, 75, 440, 8000, 9000) + uint16(r.IntN(12))
			return api.Port{First: first, Last: first + uint16(r.IntN(2))}
		})
	}
	return some(r, 1, 3, func() api.Port {
		switch r.IntN(5) {
		case 0:
			return api.Port{Name: pick(r, portNames()...)}
		case 1:
			return api.Port{First: 8000, Last: 8010}
		case 2:
			return pick(r, api.Port{First: 1, Last: 65535}, api.Port{First: 80, Last: 443}, api.Port{First: 1024, Last: 65535})
		}
		port := r.port()
		return api.Port{First: port, Last: port}
	})
}
