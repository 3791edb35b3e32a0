// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/policy/selector"
)

// kubernetes reads a NetworkPolicy of networking.k8s.io.
func (c *conversion) kubernetes(s *api.KubernetesNetworkPolicySpec) *Policy {
	p := &Policy{
		ID: c.id(KindKubernetes), Tier: TierDefault, Order: OrderKubernetes,
		Selector: selector.And(c.namespace(), c.labels("spec.podSelector", &s.PodSelector)),
	}
	p.AppliesIngress, p.AppliesEgress = c.types("spec.policyTypes", s.PolicyTypes)
	if len(s.PolicyTypes) == 0 {
		p.AppliesIngress, p.AppliesEgress = true, len(s.Egress) > 0
	}
	if p.AppliesIngress {
		p.Ingress = c.expanded(api.Ingress, len(s.Ingress), func(i int) expansion {
			r, field := &s.Ingress[i], index("spec.ingress", i)
			return expansion{
				rule:  Rule{Index: i, Action: api.Allow},
				peers: c.kubernetesPeers(field+".from", r.From), ports: c.kubernetesPorts(field+".ports", r.Ports),
			}
		})
	}
	if p.AppliesEgress {
		p.Egress = c.expanded(api.Egress, len(s.Egress), func(i int) expansion {
			r, field := &s.Egress[i], index("spec.egress", i)
			return expansion{
				rule:  Rule{Index: i, Action: api.Allow},
				peers: c.kubernetesPeers(field+".to", r.To), ports: c.kubernetesPorts(field+".ports", r.Ports),
			}
		})
	}
	return p
}

func (c *conversion) kubernetesPeers(field string, peers []api.KubernetesPolicyPeer) []Entity {
	var out []Entity
	for i := range peers {
		out = append(out, c.kubernetesPeer(index(field, i), &peers[i]))
	}
	return out
}

func (c *conversion) kubernetesPeer(field string, p *api.KubernetesPolicyPeer) Entity {
	if p.IPBlock != nil {
		if p.PodSelector != nil || p.NamespaceSelector != nil {
			c.fail(field, "", "must have either ipBlock or selectors")
		}
		cidr, _ := c.net(field+".ipBlock.cidr", p.IPBlock.CIDR)
		return Entity{Nets: inOrder([]netip.Prefix{cidr}), NotNets: c.nets(field+".ipBlock.except", p.IPBlock.Except)}
	}
	if p.PodSelector == nil && p.NamespaceSelector == nil {
		c.fail(field, "", "must have ipBlock, podSelector or namespaceSelector")
	}
	return Entity{Selector: c.pods(field, p.NamespaceSelector, p.PodSelector)}
}

// pods gives those that Kubernetes' two selectors pick: without one of namespaces they are of the object's own.
// Network sets have namespaces and labels too, but no orchestrator.
func (c *conversion) pods(field string, namespaces, pods *metav1.LabelSelector) *selector.Selector {
	var parts []selector.Selector
	if namespaces != nil {
		s := c.labels(field+".namespaceSelector", namespaces)
		parts = append(parts, c.inherited(s, namespacePrefix, LabelNamespace))
	} else {
		parts = append(parts, c.namespace())
	}
	if pods != nil {
		parts = append(parts, c.labels(field+".podSelector", pods))
	}
	all := selector.And(append(parts, c.has(LabelOrchestrator))...)
	return &all
}

func (c *conversion) kubernetesPorts(field string, ports []api.KubernetesPolicyPort) []protocolPort {
	var out []protocolPort
	for i := range ports {
		out = append(out, c.kubernetesPort(index(field, i), &ports[i]))
	}
	return out
}

func (c *conversion) kubernetesPort(field string, p *api.KubernetesPolicyPort) protocolPort {
	out := protocolPort{protocol: TCP}
	if p.Protocol != nil {
		out.protocol = c.protocol(field+".protocol", p.Protocol)
	}
	if !out.protocol.hasPorts() {
		c.fail(field+".protocol", protocolText(p.Protocol), "must be TCP, UDP or SCTP")
	}
	if p.EndPort != nil && (p.Port == nil || p.Port.Name != "") {
		c.fail(field+".endPort", *p.EndPort, "must be unset, as port is no number")
		return out
	}
	if p.Port == nil {
		return out
	}
	out.name, out.ports = p.Port.Name, PortRange{p.Port.First, p.Port.Last}
	digits := strings.Trim(out.name, "0123456789:") == "" // in quotes, which make them a name that no port has
	if digits && (out.name != "" || out.ports.First == 0 || out.ports.First != out.ports.Last) {
		c.fail(field+".port", p.Port.String(), "must be 1..65535, without quotes, or a name")
	}
	if p.EndPort != nil {
		if *p.EndPort < int32(p.Port.First) || *p.EndPort > 65535 {
			c.fail(field+".endPort", *p.EndPort, "must be port..65535")
			return out
		}
		out.ports.Last = uint16(*p.EndPort)
	}
	return out
}
