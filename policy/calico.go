// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"maps"
	"slices"

	"korat/api"
	"korat/policy/selector"
)

func (c *conversion) namespaced(s *api.NetworkPolicySpec, kind Kind) *Policy {
	return c.calico(&s.PolicyBase, kind, c.namespace())
}

func (c *conversion) global(s *api.GlobalNetworkPolicySpec, kind Kind) *Policy {
	var namespaces selector.Selector
	if s.NamespaceSelector != "" {
		namespaces = c.namespaces("spec.namespaceSelector", s.NamespaceSelector)
	}
	p := c.calico(&s.PolicyBase, kind, namespaces)
	switch {
	case s.DoNotTrack && s.PreDNAT:
		c.fail("spec.preDNAT", true, "must be false, as doNotTrack is true")
		p.Stage = Untracked
	case s.DoNotTrack:
		p.Stage = Untracked
	case s.PreDNAT:
		if p.AppliesEgress {
			c.fail("spec.types", api.Egress, "must be Ingress alone, as preDNAT is true")
		}
		p.Stage, p.AppliesEgress, p.Egress = PreDNAT, false, nil
	case s.ApplyOnForward:
		p.Stage = Forward
	}
	return p
}

// staged gives the Policy if it is to be counted.
func (c *conversion) staged(action string, p *Policy) *Policy {
	switch action {
	case "", api.StagedSet:
	case api.StagedDelete, api.StagedLearn, api.StagedIgnore:
		return nil
	default:
		c.fail("spec.stagedAction", action, "must be Set, Delete, Learn or Ignore")
	}
	p.Staged = true
	return p
}

// calico reads what Calico's kinds have in common. They are for endpoints in the namespaces.
func (c *conversion) calico(s *api.PolicyBase, kind Kind, namespaces selector.Selector) *Policy {
	p := &Policy{ID: c.id(kind), Tier: cmp.Or(s.Tier, TierDefault), Order: orderOf(s.Order)}
	own := c.selector("spec.selector", s.Selector)
	var accounts selector.Selector
	if s.ServiceAccountSelector != "" {
		accounts = c.serviceAccounts("spec.serviceAccountSelector", s.ServiceAccountSelector)
	}
	p.Selector = selector.And(namespaces, own, accounts)

	p.AppliesIngress, p.AppliesEgress = c.types("spec.types", s.Types)
	if len(s.Types) == 0 {
		p.AppliesEgress = len(s.Egress) > 0
		p.AppliesIngress = len(s.Ingress) > 0 || !p.AppliesEgress
	}
	if p.AppliesIngress {
		p.Ingress = c.within(api.Ingress, func() []Rule { return c.rules("spec.ingress", s.Ingress) })
	}
	if p.AppliesEgress {
		p.Egress = c.within(api.Egress, func() []Rule { return c.rules("spec.egress", s.Egress) })
	}
	return p
}

// maxNamedPairs is how many pairs of named ports a rule may have: each is a rule in the kernel.
const maxNamedPairs = 64

func (c *conversion) rules(field string, rules []api.Rule) []Rule {
	var out []Rule
	for i := range rules {
		r := c.rule(index(field, i), &rules[i])
		r.Index = i
		out = append(out, r)
	}
	return out
}

func (c *conversion) rule(field string, r *api.Rule) Rule {
	out := Rule{
		Action: c.action(field+".action", r.Action), Family: c.family(field+".ipVersion", r.IPVersion),
		Protocol: c.protocol(field+".protocol", r.Protocol), NotProtocol: c.protocol(field+".notProtocol", r.NotProtocol),
		ICMP: c.icmp(field+".icmp", r.ICMP), NotICMP: c.icmp(field+".notICMP", r.NotICMP),
		Source: c.entity(field+".source", &r.Source), Destination: c.entity(field+".destination", &r.Destination),
	}
	if out.ICMP != nil || out.NotICMP != nil {
		out.Family = c.icmpFamily(field, r)
	}
	c.netsFamily(field, &out)
	if !out.Protocol.hasPorts() && (out.Source.hasPorts() || out.Destination.hasPorts()) {
		c.fail(field+".protocol", protocolText(r.Protocol), "must be TCP, UDP, SCTP or UDPLite, as there are ports")
	}
	if len(out.Source.NamedPorts)*len(out.Destination.NamedPorts) > maxNamedPairs {
		c.fail(field+".destination.ports", len(out.Destination.NamedPorts), "must have fewer names beside those of source.ports: at most %d pairs", maxNamedPairs)
	}
	if r.Metadata != nil {
		for _, key := range slices.Sorted(maps.Keys(r.Metadata.Annotations)) {
			out.Comments = append(out.Comments, key+"="+r.Metadata.Annotations[key])
		}
	}
	return out
}

func (c *conversion) action(field string, a api.Action) api.Action {
	switch a {
	case api.Allow, api.Deny, api.Log, api.Pass:
	default:
		c.fail(field, string(a), "must be Allow, Deny, Log or Pass")
	}
	return a
}

func (c *conversion) entity(field string, e *api.EntityRule) Entity {
	out := Entity{
		Nets: c.nets(field+".nets", e.Nets), NotNets: c.nets(field+".notNets", e.NotNets),
		Selector: c.entitySelector(field, e),
	}
	if e.NotSelector != "" {
		not := c.selector(field+".notSelector", e.NotSelector)
		out.NotSelector = &not
	}
	if e.Services != nil {
		out.Service = c.service(field+".services", e.Services)
	}
	out.Ports, out.NamedPorts = c.ports(field+".ports", e.Ports)
	out.NotPorts, out.NotNamedPorts = c.ports(field+".notPorts", e.NotPorts)
	return out
}

// entitySelector joins all that picks endpoints by labels; nil if nothing does. As soon as anything does, notSelector
// too, a NetworkPolicy means endpoints of its own namespace, unless it names others.
func (c *conversion) entitySelector(field string, e *api.EntityRule) *selector.Selector {
	var parts []selector.Selector
	switch {
	case e.NamespaceSelector != "":
		parts = append(parts, c.namespaces(field+".namespaceSelector", e.NamespaceSelector))
	case c.key.Namespace != "" && (e.Selector != "" || e.ServiceAccounts != nil || e.NotSelector != ""):
		parts = append(parts, c.namespace())
	}
	if e.Selector != "" {
		parts = append(parts, c.selector(field+".selector", e.Selector))
	}
	if e.ServiceAccounts != nil {
		parts = append(parts, c.accounts(field+".serviceAccounts", e.ServiceAccounts))
	}
	if len(parts) == 0 {
		return nil
	}
	all := selector.And(parts...)
	return &all
}

func (c *conversion) accounts(field string, m *api.ServiceAccountMatch) selector.Selector {
	if len(m.Names) == 0 && m.Selector == "" {
		c.fail(field, "", "must have names or a selector")
	}
	var named, labelled selector.Selector
	if len(m.Names) > 0 {
		named = c.built(field+".names", m.Names)(selector.In(LabelServiceAccount, m.Names...))
	}
	if m.Selector != "" {
		labelled = c.serviceAccounts(field+".selector", m.Selector)
	}
	return selector.And(named, labelled)
}

func (c *conversion) service(field string, s *api.ServiceMatch) *Service {
	out := Service{cmp.Or(s.Namespace, c.key.Namespace), s.Name}
	if out.Name == "" {
		c.fail(field+".name", "", "must be set")
	}
	if out.Namespace == "" {
		c.fail(field+".namespace", "", "must be set, as the policy has no namespace")
	}
	return &out
}
