// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"korat/api"
	"korat/policy/selector"
)

// cluster reads a ClusterNetworkPolicy of policy.networking.k8s.io. In its tiers what no rule decides goes on, so
// that it applies in a direction if it has rules.
func (c *conversion) cluster(s *api.ClusterNetworkPolicySpec) *Policy {
	p := &Policy{
		ID: c.id(KindCluster), Tier: TierAdmin, Order: float64(s.Priority), Selector: c.subject(&s.Subject),
		AppliesIngress: len(s.Ingress) > 0, AppliesEgress: len(s.Egress) > 0,
	}
	switch s.Tier {
	case api.ClusterTierAdmin:
	case api.ClusterTierBaseline:
		p.Tier = TierBaseline
	default:
		c.fail("spec.tier", s.Tier, "must be Admin or Baseline")
	}
	p.Ingress = c.expanded(api.Ingress, len(s.Ingress), func(i int) expansion {
		r, field := &s.Ingress[i], index("spec.ingress", i)
		return expansion{
			rule:  Rule{Name: r.Name, Index: i, Action: c.clusterAction(field+".action", r.Action)},
			peers: c.clusterPeers(field+".from", r.From), ports: c.clusterPorts(field+".protocols", r.Protocols),
		}
	})
	p.Egress = c.expanded(api.Egress, len(s.Egress), func(i int) expansion {
		r, field := &s.Egress[i], index("spec.egress", i)
		return expansion{
			rule:  Rule{Name: r.Name, Index: i, Action: c.clusterAction(field+".action", r.Action)},
			peers: c.clusterPeers(field+".to", r.To), ports: c.clusterPorts(field+".protocols", r.Protocols),
		}
	})
	return p
}

func (c *conversion) subject(s *api.ClusterPolicySubject) selector.Selector {
	switch {
	case s.Namespaces != nil && s.Pods == nil:
		return *c.pods("spec.subject.namespaces", s.Namespaces, nil)
	case s.Pods != nil && s.Namespaces == nil:
		return *c.pods("spec.subject.pods", &s.Pods.NamespaceSelector, &s.Pods.PodSelector)
	}
	c.fail("spec.subject", "", "must have either namespaces or pods")
	return c.has(LabelOrchestrator)
}

func (c *conversion) clusterAction(field, action string) api.Action {
	switch action {
	case api.ClusterActionAccept:
		return api.Allow
	case string(api.Deny), string(api.Pass):
		return api.Action(action)
	}
	c.fail(field, action, "must be Accept, Deny or Pass")
	return api.Deny
}

func (c *conversion) clusterPeers(field string, peers []api.ClusterPolicyPeer) []Entity {
	if len(peers) == 0 {
		c.fail(field, "", "must have 1 to 25 peers")
	}
	var out []Entity
	for i := range peers {
		out = append(out, c.clusterPeer(index(field, i), &peers[i]))
	}
	return out
}

func (c *conversion) clusterPeer(field string, p *api.ClusterPolicyPeer) Entity {
	set := 0
	for _, is := range []bool{p.Namespaces != nil, p.Pods != nil, p.Nodes != nil, len(p.Networks) > 0} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		c.fail(field, "", "must have one of namespaces, pods and networks")
	case p.Nodes != nil:
		c.fail(field+".nodes", "", "is not supported by korat: use networks")
	case p.Namespaces != nil:
		return Entity{Selector: c.pods(field+".namespaces", p.Namespaces, nil)}
	case p.Pods != nil:
		return Entity{Selector: c.pods(field+".pods", &p.Pods.NamespaceSelector, &p.Pods.PodSelector)}
	}
	if c.direction == api.Ingress && len(p.Networks) > 0 {
		c.fail(field+".networks", p.Networks, "must be unset in an ingress rule")
	}
	return Entity{Nets: c.nets(field+".networks", p.Networks)}
}

func (c *conversion) clusterPorts(field string, protocols []api.ClusterPolicyProtocol) []protocolPort {
	var out []protocolPort
	for i := range protocols {
		out = append(out, c.clusterPort(index(field, i), &protocols[i])...)
	}
	return out
}

// clusterPort gives one match, or, for a name, one of each protocol that a pod's port can have.
func (c *conversion) clusterPort(field string, p *api.ClusterPolicyProtocol) []protocolPort {
	var out []protocolPort
	for _, of := range []struct {
		name     string
		protocol Protocol
		ports    *api.ClusterPolicyPorts
	}{{"tcp", TCP, p.TCP}, {"udp", UDP, p.UDP}, {"sctp", SCTP, p.SCTP}} {
		if of.ports != nil {
			out = append(out, protocolPort{protocol: of.protocol, ports: c.clusterRange(field+"."+of.name, of.ports.DestinationPort)})
		}
	}
	named := p.DestinationNamedPort != ""
	if named != (len(out) == 0) || len(out) > 1 {
		c.fail(field, "", "must have one of tcp, udp, sctp and destinationNamedPort")
	}
	if named {
		for _, protocol := range []Protocol{TCP, UDP, SCTP} {
			out = append(out, protocolPort{protocol: protocol, name: p.DestinationNamedPort})
		}
	}
	return out
}

// clusterRange gives the zero PortRange for every port.
func (c *conversion) clusterRange(field string, p *api.ClusterPolicyPort) PortRange {
	if p == nil {
		return PortRange{}
	}
	first, last := p.Number, p.Number
	if p.Range != nil {
		first, last = p.Range.Start, p.Range.End
	}
	if first < 1 || last < first || last > 65535 || p.Range != nil && p.Number != 0 {
		c.fail(field+".destinationPort", "", "must have either number or range, of 1..65535")
		return PortRange{}
	}
	return PortRange{uint16(first), uint16(last)}
}
