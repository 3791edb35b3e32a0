// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// The limits of the sig-network cluster policy.
const (
	maxPort            = 65535
	maxClusterPriority = 1000
	maxClusterItems    = 25
	maxClusterRuleName = 100
)

// clusterPolicy has the rules of the sig-network definition.
func (c *checker) clusterPolicy(s *ClusterNetworkPolicySpec) {
	c.choice("spec.tier", s.Tier, ClusterTierAdmin, ClusterTierBaseline)
	if s.Priority < 0 || s.Priority > maxClusterPriority {
		c.fail("spec.priority", s.Priority, "must be 0..%d", maxClusterPriority)
	}
	c.oneSet("spec.subject", part{"namespaces", s.Subject.Namespaces != nil}, part{"pods", s.Subject.Pods != nil})
	c.labelSelector("spec.subject.namespaces", s.Subject.Namespaces)
	c.namespacedPods("spec.subject.pods", s.Subject.Pods)
	c.items("spec.ingress", len(s.Ingress), 0)
	for i, r := range s.Ingress {
		at := index("spec.ingress", i)
		c.clusterRule(at, r)
		c.items(at+".from", len(r.From), 1)
		for j, p := range r.From {
			c.clusterSource(index(at+".from", j), p)
		}
	}
	c.items("spec.egress", len(s.Egress), 0)
	for i, r := range s.Egress {
		at := index("spec.egress", i)
		c.clusterRule(at, ClusterPolicyRule{Name: r.Name, Action: r.Action, Protocols: r.Protocols})
		c.items(at+".to", len(r.To), 1)
		for j, p := range r.To {
			c.clusterDestination(index(at+".to", j), p)
		}
		c.namedPortOfNetwork(at, r)
	}
}

// clusterRule checks what rules of both directions have, and so not From.
func (c *checker) clusterRule(field string, r ClusterPolicyRule) {
	if utf8.RuneCountInString(r.Name) > maxClusterRuleName {
		c.fail(field+".name", r.Name, "must have at most %d characters", maxClusterRuleName)
	}
	c.choice(field+".action", r.Action, ClusterActionAccept, string(Deny), string(Pass))
	if r.Protocols != nil { // none at all is every protocol, and an empty list a mistake
		c.items(field+".protocols", len(r.Protocols), 1)
	}
	for i, p := range r.Protocols {
		at := index(field+".protocols", i)
		c.oneSet(at, part{"tcp", p.TCP != nil}, part{"udp", p.UDP != nil}, part{"sctp", p.SCTP != nil},
			part{"destinationNamedPort", p.DestinationNamedPort != ""})
		c.clusterPorts(at+".tcp", p.TCP)
		c.clusterPorts(at+".udp", p.UDP)
		c.clusterPorts(at+".sctp", p.SCTP)
		switch {
		case isDigits(p.DestinationNamedPort):
			c.fail(at+".destinationNamedPort", p.DestinationNamedPort,
				"must be a name, which needs a letter: for a number write tcp, udp or sctp with destinationPort: {number: %s}", p.DestinationNamedPort)
		case p.DestinationNamedPort != "":
			c.containerPortName(at+".destinationNamedPort", p.DestinationNamedPort)
		}
	}
}

func (c *checker) clusterPorts(field string, p *ClusterPolicyPorts) {
	if p == nil {
		return
	}
	field += ".destinationPort"
	if p.DestinationPort == nil {
		c.fail(field, "", "must be set: every port is range: {start: 1, end: %d}", maxPort)
		return
	}
	port := p.DestinationPort
	c.oneSet(field, part{"number", port.Number != 0}, part{"range", port.Range != nil})
	if port.Number < 0 || port.Number > maxPort {
		c.fail(field+".number", port.Number, "must be 1..%d", maxPort)
	}
	if r := port.Range; r != nil && (r.Start < 1 || r.End > maxPort || r.Start >= r.End) {
		c.fail(field+".range", fmt.Sprintf("%d-%d", r.Start, r.End), "must be within 1..%d, and its start before its end", maxPort)
	}
}

// clusterSource checks a peer of an ingress rule.
func (c *checker) clusterSource(field string, p ClusterPolicyPeer) {
	if p.Nodes != nil {
		c.fail(field+".nodes", "", "must not be set: only egress rules could have it, and korat does not support it there either")
	}
	if len(p.Networks) > 0 {
		c.fail(field+".networks", strings.Join(p.Networks, ","), "must not be set: only egress rules have it")
	}
	if p.Nodes == nil && len(p.Networks) == 0 {
		c.oneSet(field, part{"namespaces", p.Namespaces != nil}, part{"pods", p.Pods != nil})
	}
	c.labelSelector(field+".namespaces", p.Namespaces)
	c.namespacedPods(field+".pods", p.Pods)
}

// clusterDestination checks a peer of an egress rule.
func (c *checker) clusterDestination(field string, p ClusterPolicyPeer) {
	if p.Nodes != nil {
		c.fail(field+".nodes", "", "is not supported by korat: name the nodes' addresses in networks, or write a GlobalNetworkPolicy that selects a GlobalNetworkSet of them")
	}
	c.oneSet(field, part{"namespaces", p.Namespaces != nil}, part{"pods", p.Pods != nil}, part{"nodes", p.Nodes != nil},
		part{"networks", len(p.Networks) > 0})
	c.items(field+".networks", len(p.Networks), 0)
	for i, network := range p.Networks {
		c.network(index(field+".networks", i), network)
	}
	c.labelSelector(field+".namespaces", p.Namespaces)
	c.namespacedPods(field+".pods", p.Pods)
}

func (c *checker) namespacedPods(field string, p *NamespacedPods) {
	if p != nil {
		c.labelSelector(field+".namespaceSelector", &p.NamespaceSelector)
		c.labelSelector(field+".podSelector", &p.PodSelector)
	}
}

// namedPortOfNetwork refuses what can match nothing: a network has no names for ports.
func (c *checker) namedPortOfNetwork(field string, r ClusterPolicyEgress) {
	networks := false
	for _, p := range r.To {
		networks = networks || len(p.Networks) > 0
	}
	for i, p := range r.Protocols {
		if networks && p.DestinationNamedPort != "" {
			c.fail(index(field+".protocols", i)+".destinationNamedPort", p.DestinationNamedPort,
				"must not be set in a rule with networks, which have no named ports: give the number, or the networks a rule of their own")
		}
	}
}

// choice checks that a field holds one of the values that there are.
func (c *checker) choice(field, value string, values ...string) {
	for _, v := range values {
		if value == v {
			return
		}
	}
	last := len(values) - 1
	c.fail(field, value, "must be %s or %s", strings.Join(values[:last], ", "), values[last])
}

// items checks how many items a list has.
func (c *checker) items(field string, n, least int) {
	if n < least || n > maxClusterItems {
		c.fail(field, n, "must have %d..%d items", least, maxClusterItems)
	}
}

// part is one of several fields of which exactly one must be set.
type part struct {
	name string
	set  bool
}

func (c *checker) oneSet(field string, parts ...part) {
	var all, set []string
	for _, p := range parts {
		all = append(all, p.name)
		if p.set {
			set = append(set, p.name)
		}
	}
	if len(set) != 1 {
		c.fail(field, strings.Join(set, ","), "must have exactly one of %s", strings.Join(all, ", "))
	}
}
