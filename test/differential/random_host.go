// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"
	"slices"

	"korat/api"
)

// hostEndpoint is of this node's uplink, of all its interfaces, of the one with its address, or another node's. An
// interface has one object.
func (r *Scene) hostEndpoint() api.Object {
	o := &api.HostEndpoint{}
	o.Labels, o.Spec.Node = r.labels(), thisNode
	addresses := func(ipv4, ipv6 string) []string {
		return pick(r, []string{ipv4, ipv6}, []string{ipv4}, []string{ipv6})
	}
	kind := r.IntN(5)
	if r.updating && kind == 2 {
		kind = 0
	}
	switch kind {
	case 0, 1:
		o.Name, o.Spec.InterfaceName = "uplink", uplink
	case 2:
		o.Name, o.Spec.InterfaceName = "all", "*"
	case 3:
		o.Name, o.Spec.ExpectedIPs = "address", addresses(hostIPv4, hostIPv6)
	default:
		o.Name, o.Spec.Node, o.Spec.ExpectedIPs = "other", otherNode, addresses("192.0.2.7", "2001:db8::7")
	}
	if o.Spec.InterfaceName == uplink && r.maybe(2) {
		o.Spec.ExpectedIPs = addresses(hostIPv4, hostIPv6)
	}
	o.Spec.Profiles = some(r, 0, 2, func() string { return "kns." + pick(r, namespaces()...) })
	for _, p := range r.namedPorts() {
		o.Spec.Ports = append(o.Spec.Ports, api.EndpointPort{Name: p.name, Protocol: api.Protocol(p.protocol), Port: p.port})
	}
	return o
}

// failsafes are few ports, so that policies of host endpoints matter; nil are Calico's.
func (r *Scene) failsafes() *[]api.ProtoPort {
	if r.maybe(3) {
		return nil
	}
	ports := some(r, 0, 2, func() api.ProtoPort {
		return api.ProtoPort{Protocol: pick[api.Protocol](r, "TCP", "UDP", "SCTP"), Port: r.port(), Net: pick(r, "", "", "192.0.2.0/24", "2001:db8::/32")}
	})
	return &ports
}

// forHosts says of a policy what only host endpoints heed.
func (r *Scene) forHosts(s *api.GlobalNetworkPolicySpec) {
	s.ApplyOnForward = true
	s.DoNotTrack, s.PreDNAT = r.maybe(4) && !r.updating, r.maybe(4)
	if s.PreDNAT { // which is before it is known whither a packet goes
		s.Egress, s.Types = nil, []api.PolicyType{api.Ingress}
	}
}

func serviceNames() []string { return []string{"front", "back"} }

// slice has some of the endpoints of a service: pods, and others.
func (r *Scene) slice() api.Object {
	o := &api.EndpointSlice{}
	o.Namespace, o.Name = pick(r, namespaces()...), r.name("slice")
	o.Labels = map[string]string{api.LabelServiceName: pick(r, serviceNames()...)}
	f := pick(r, api.IPv4, api.IPv4, api.IPv6)
	o.AddressType = fmt.Sprintf("IPv%d", f)
	o.Endpoints = some(r, 0, 5, func() api.SliceEndpoint {
		e := api.SliceEndpoint{Addresses: []string{r.anyAddress(f)}}
		if r.maybe(4) {
			e.Conditions = &api.SliceConditions{Ready: new(false)}
		}
		return e
	})
	o.Ports = some(r, 0, 3, func() api.SlicePort {
		p := api.SlicePort{Port: new(int32(r.port()))}
		if r.maybe(2) {
			p.Protocol = new(pick[api.Protocol](r, "TCP", "UDP", "SCTP"))
		}
		return p
	})
	return o
}

// anyAddress is a pod's, of this node or another, or a host's outside.
func (r *Scene) anyAddress(f api.Family) string {
	if r.maybe(3) {
		return strangerAddress(r.IntN(strangers), f)
	}
	return pick(r, append(slices.Clone(r.outside[f]), r.pods[f]...)...)
}

// services lets a rule name a service now and then, whose endpoints say their ports; more often where slices change, as
// few flows are to or from one.
func (r *Scene) services(rules []api.Rule, d api.PolicyType) {
	seldom := 10
	if r.updating {
		seldom = 3
	}
	for i := range rules {
		if !r.maybe(seldom) {
			continue
		}
		e := api.EntityRule{Services: &api.ServiceMatch{Name: pick(r, serviceNames()...), Namespace: pick(r, namespaces()...)}}
		if rule := &rules[i]; d == api.Ingress {
			e.Ports, e.NotPorts = rule.Source.Ports, rule.Source.NotPorts
			rule.Source = e
		} else {
			rule.Destination = e
		}
	}
}
