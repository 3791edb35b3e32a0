// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxRules is Calico's bound on the rules of one direction.
const maxRules = 1024

// performanceHint is the only one there is.
const performanceHint = "AssumeNeededOnEveryNode"

// How profiles of namespaces and of service accounts begin.
const (
	profileNamespace      = "kns."
	profileServiceAccount = "ksa."
)

// policyKind checks the kinds of projectcalico.org that policies are made of.
func (c *checker) policyKind(obj Object) {
	switch o := obj.(type) {
	case *Tier:
		c.tier(o)
	case *Profile:
		c.profile(o)
	case *NetworkPolicy:
		c.policy(&o.Spec.PolicyBase, true)
	case *GlobalNetworkPolicy:
		c.globalPolicy(&o.Spec)
	case *StagedNetworkPolicy:
		if c.staged(o.Spec.StagedAction, &o.Spec.PolicyBase) {
			c.policy(&o.Spec.PolicyBase, true)
		}
	case *StagedGlobalNetworkPolicy:
		c.stagedGlobal(&o.Spec)
	case *NetworkSet:
		c.networkSet(o, &o.Spec)
	case *GlobalNetworkSet:
		c.networkSet(o, &o.Spec)
	case *HostEndpoint:
		c.hostEndpoint(o)
	}
}

func (c *checker) tier(t *Tier) {
	if !isLabel(t.Name) && isSubdomain(t.Name) { // otherwise something was said of the name already
		c.fail("metadata.name", t.Name, "must be a DNS-1123 label: lower-case letters, digits and inner dashes, at most 63 bytes")
	}
	c.choice("spec.defaultAction", string(t.Spec.DefaultAction), string(Deny), string(Pass))
	c.order("spec.order", t.Spec.Order)
	order, action, fixed := fixedTier(t.Name)
	if !fixed {
		return
	}
	if t.Spec.Order == nil {
		c.fail("spec.order", "", "must be %.0f for this tier", order)
	} else if *t.Spec.Order != order {
		c.fail("spec.order", plain(*t.Spec.Order), "must be %.0f for this tier: give the others orders around it", order)
	}
	if t.Spec.DefaultAction != action {
		c.fail("spec.defaultAction", string(t.Spec.DefaultAction), "must be %s for this tier: make another tier for what shall differ", action)
	}
}

// plain is a number in digits alone.
func plain(f float64) json.Number { return json.Number(strconv.FormatFloat(f, 'f', -1, 64)) }

func (c *checker) order(field string, order *float64) {
	if order != nil && (math.IsNaN(*order) || math.IsInf(*order, 0)) {
		c.fail(field, *order, "must be a finite number: leave it out to come last")
	}
}

func (c *checker) profile(p *Profile) {
	if namespace, ok := strings.CutPrefix(p.Name, profileNamespace); ok && !isLabel(namespace) {
		c.fail("metadata.name", p.Name, "must be %s and a namespace's name: choose another prefix for a profile of your own", profileNamespace)
	}
	if account, ok := strings.CutPrefix(p.Name, profileServiceAccount); ok {
		namespace, name, _ := strings.Cut(account, ".")
		if !isLabel(namespace) || !isSubdomain(name) {
			c.fail("metadata.name", p.Name, "must be %s<namespace>.<service account>: choose another prefix for a profile of your own", profileServiceAccount)
		}
	}
	c.rules("spec.ingress", p.Spec.Ingress, place{direction: Ingress, profile: true})
	c.rules("spec.egress", p.Spec.Egress, place{direction: Egress, profile: true})
	for _, key := range sortedKeys(p.Spec.LabelsToApply) {
		if key == labelNamespace || key == labelOrchestrator || key == labelServiceAccount {
			c.fail(entry("spec.labelsToApply", key), p.Spec.LabelsToApply[key], "must not be set: endpoints have it of themselves, and what lacks it is meant to")
		}
		own := strings.TrimPrefix(strings.TrimPrefix(key, prefixNamespace), prefixServiceAccount)
		c.label(entry("spec.labelsToApply", key), own, p.Spec.LabelsToApply[key])
	}
}

// policy checks what namespaced and global policies have in common.
func (c *checker) policy(s *PolicyBase, namespaced bool) {
	if !isLabel(s.Tier) {
		c.fail("spec.tier", s.Tier, "must be a tier's name: a DNS-1123 label of at most 63 bytes")
	}
	c.order("spec.order", s.Order)
	c.endpointSelector("spec.selector", s.Selector)
	c.endpointSelector("spec.serviceAccountSelector", s.ServiceAccountSelector)
	if len(s.Types) == 0 {
		c.fail("spec.types", s.Types, "must hold %s, %s or both", Ingress, Egress)
	}
	for i, t := range s.Types {
		c.choice(index("spec.types", i), string(t), string(Ingress), string(Egress))
		once(c, "spec.types", s.Types, i)
	}
	c.rules("spec.ingress", s.Ingress, place{direction: Ingress, namespaced: namespaced})
	c.rules("spec.egress", s.Egress, place{direction: Egress, namespaced: namespaced})
	for i, hint := range s.PerformanceHints {
		if hint != performanceHint {
			c.fail(index("spec.performanceHints", i), hint, "must be %s, the only hint there is", performanceHint)
		}
		once(c, "spec.performanceHints", s.PerformanceHints, i)
	}
}

func (c *checker) globalPolicy(s *GlobalNetworkPolicySpec) {
	c.policy(&s.PolicyBase, false)
	c.namespaceSelector("spec.namespaceSelector", s.NamespaceSelector)
	if s.DoNotTrack && s.PreDNAT {
		c.fail("spec.preDNAT", true, "must be false beside spec.doNotTrack: DNAT needs connection tracking: write two policies")
	}
	if (s.DoNotTrack || s.PreDNAT) && !s.ApplyOnForward {
		c.fail("spec.applyOnForward", false, "must be true beside spec.doNotTrack and spec.preDNAT: they come before it is known what will be forwarded")
	}
	if !s.PreDNAT {
		return
	}
	if len(s.Egress) > 0 {
		c.fail("spec.egress", len(s.Egress), "must have no rules beside spec.preDNAT: they are for what comes in")
	} else if i := slices.Index(s.Types, Egress); i >= 0 {
		c.fail(index("spec.types", i), string(Egress), "must be %s alone beside spec.preDNAT", Ingress)
	}
}

func (c *checker) stagedGlobal(s *StagedGlobalNetworkPolicySpec) {
	if c.staged(s.StagedAction, &s.PolicyBase) {
		c.globalPolicy(&s.GlobalNetworkPolicySpec)
		return
	}
	c.undeleted("spec.namespaceSelector", s.NamespaceSelector, s.NamespaceSelector != "")
	c.undeleted("spec.doNotTrack", s.DoNotTrack, s.DoNotTrack)
	c.undeleted("spec.preDNAT", s.PreDNAT, s.PreDNAT)
	c.undeleted("spec.applyOnForward", s.ApplyOnForward, s.ApplyOnForward)
}

// staged checks what staged policies have on top; whole says that the rest is a policy as others are.
func (c *checker) staged(action string, s *PolicyBase) (whole bool) {
	c.choice("spec.stagedAction", action, StagedSet, StagedDelete, StagedLearn, StagedIgnore)
	if action != StagedDelete {
		return true
	}
	if !isLabel(s.Tier) {
		c.fail("spec.tier", s.Tier, "must be a tier's name: a DNS-1123 label of at most 63 bytes")
	}
	if s.Order != nil {
		c.undeleted("spec.order", plain(*s.Order), true)
	}
	c.undeleted("spec.selector", s.Selector, s.Selector != "")
	c.undeleted("spec.serviceAccountSelector", s.ServiceAccountSelector, s.ServiceAccountSelector != "")
	c.undeleted("spec.types", s.Types, len(s.Types) > 0)
	c.undeleted("spec.ingress", len(s.Ingress), len(s.Ingress) > 0)
	c.undeleted("spec.egress", len(s.Egress), len(s.Egress) > 0)
	c.undeleted("spec.performanceHints", s.PerformanceHints, len(s.PerformanceHints) > 0)
	return false
}

// undeleted refuses a field that is set where the deletion of a policy is staged.
func (c *checker) undeleted(field string, value any, set bool) {
	if set {
		c.fail(field, value, "must be empty with spec.stagedAction %s, which has no more than a tier", StagedDelete)
	}
}

// once refuses an entry that is in the list before.
func once[T ~string](c *checker, field string, list []T, i int) {
	if slices.Contains(list[:i], list[i]) {
		c.fail(index(field, i), string(list[i]), "is listed twice: remove one")
	}
}
