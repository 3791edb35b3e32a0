// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxKubernetesPortName is the longest name that a container's port may have (RFC 6335, section 5.1).
const maxKubernetesPortName = 15

// kubernetesPolicy has the rules of Kubernetes' API server.
func (c *checker) kubernetesPolicy(s *KubernetesNetworkPolicySpec) {
	c.labelSelector("spec.podSelector", &s.PodSelector)
	for i, rule := range s.Ingress {
		at := index("spec.ingress", i)
		c.kubernetesPorts(at+".ports", rule.Ports)
		c.kubernetesPeers(at+".from", rule.From)
	}
	for i, rule := range s.Egress {
		at := index("spec.egress", i)
		c.kubernetesPorts(at+".ports", rule.Ports)
		c.kubernetesPeers(at+".to", rule.To)
	}
	if len(s.PolicyTypes) > 2 {
		c.fail("spec.policyTypes", s.PolicyTypes, "must be at most two: %s and %s", Ingress, Egress)
	}
	for i, t := range s.PolicyTypes {
		if t != Ingress && t != Egress {
			c.fail(index("spec.policyTypes", i), string(t), "must be %s or %s", Ingress, Egress)
		}
	}
}

func (c *checker) kubernetesPorts(field string, ports []KubernetesPolicyPort) {
	for i, p := range ports {
		at := index(field, i)
		if p.Protocol != nil && *p.Protocol != ProtocolTCP && *p.Protocol != ProtocolUDP && *p.Protocol != ProtocolSCTP {
			c.fail(at+".protocol", string(*p.Protocol), "must be TCP, UDP or SCTP")
		}
		if p.Port != nil {
			c.kubernetesPort(at+".port", p.Port.Port)
		}
		switch {
		case p.EndPort == nil:
		case p.Port == nil:
			c.fail(at+".endPort", *p.EndPort, "must not be set without port, where the range begins")
		case p.Port.Name != "":
			c.fail(at+".endPort", *p.EndPort, "must not be set: port %q is a name, not the number where a range begins", p.Port.Name)
		case *p.EndPort < int32(p.Port.First) || *p.EndPort > maxPort:
			c.fail(at+".endPort", *p.EndPort, "must be %d..%d: a range begins with port", p.Port.First, maxPort)
		}
	}
}

// kubernetesPort checks what Calico's ports may be and those of Kubernetes may not.
func (c *checker) kubernetesPort(field string, p Port) {
	switch {
	case isDigits(p.Name):
		c.fail(field, p.Name, "is the name of a port, as it is in quotes, and a name needs a letter: write the number without quotes")
	case p.Name != "":
		c.containerPortName(field, p.Name)
	case p.First != p.Last:
		c.fail(field, p.String(), "must be one port: write port: %d and endPort: %d", p.First, p.Last)
	case p.First == 0:
		c.fail(field, p.First, "must be 1..%d", maxPort)
	}
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// containerPortName checks a name that a port of a container can have.
func (c *checker) containerPortName(field, name string) {
	letter := strings.ContainsFunc(name, func(r rune) bool { return r >= 'a' && r <= 'z' })
	if !isLabel(name) || len(name) > maxKubernetesPortName || !letter || strings.Contains(name, "--") {
		c.fail(field, name, "must be a port's number or the name of a container's port: at most %d lower-case letters, digits and single inner dashes, and a letter among them", maxKubernetesPortName)
	}
}

func (c *checker) kubernetesPeers(field string, peers []KubernetesPolicyPeer) {
	for i, p := range peers {
		at := index(field, i)
		c.labelSelector(at+".podSelector", p.PodSelector)
		c.labelSelector(at+".namespaceSelector", p.NamespaceSelector)
		selects := p.PodSelector != nil || p.NamespaceSelector != nil
		switch {
		case p.IPBlock == nil && !selects:
			c.fail(at, "", "must have a podSelector, a namespaceSelector or an ipBlock; an empty selector, written {}, picks all")
		case p.IPBlock != nil && selects:
			c.fail(at, p.IPBlock.CIDR, "must not have a selector beside ipBlock: make two items of it")
		}
		if p.IPBlock != nil {
			c.ipBlock(at+".ipBlock", *p.IPBlock)
		}
	}
}

func (c *checker) ipBlock(field string, b IPBlock) {
	block, ok := c.network(field+".cidr", b.CIDR)
	for i, text := range b.Except {
		at := index(field+".except", i)
		except, valid := c.network(at, text)
		if ok && valid && (!block.Contains(except.Addr()) || except.Bits() <= block.Bits()) {
			c.fail(at, text, "must be a part of cidr %s, and not all of it", block)
		}
	}
}

// network checks and returns a CIDR whose host bits mean nothing, as Kubernetes has them.
func (c *checker) network(field, value string) (p netip.Prefix, ok bool) {
	p, err := netip.ParsePrefix(value)
	if err != nil || p.Addr().Is4In6() {
		return c.prefix(field, value)
	}
	return p.Masked(), true
}

// labelSelector checks one of Kubernetes' selectors; nil is one that is not set.
func (c *checker) labelSelector(field string, s *metav1.LabelSelector) {
	if s == nil {
		return
	}
	c.labels(field+".matchLabels", s.MatchLabels)
	for i, e := range s.MatchExpressions {
		c.expression(index(field+".matchExpressions", i), e)
	}
}

func (c *checker) expression(at string, e metav1.LabelSelectorRequirement) {
	if !isQualifiedName(e.Key) {
		c.fail(at+".key", e.Key, labelKeyRemedy)
	}
	switch e.Operator {
	case metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn:
		if len(e.Values) == 0 {
			c.fail(at+".values", "", "must have a value: operator is %s", e.Operator)
		}
	case metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist:
		if len(e.Values) > 0 {
			c.fail(at+".values", strings.Join(e.Values, ","), "must be empty: operator is %s", e.Operator)
		}
	default:
		c.fail(at+".operator", string(e.Operator), "must be In, NotIn, Exists or DoesNotExist")
	}
	for j, value := range e.Values {
		if value != "" && !isLabelWord(value) {
			c.fail(index(at+".values", j), value, labelValueRemedy)
		}
	}
}
