// SPDX-License-Identifier: Apache-2.0

package api

// The names of the tiers that always exist, whose orders and default actions are fixed.
const (
	tierDefault  = DefaultName
	tierAdmin    = "kube-admin"
	tierBaseline = "kube-baseline"
)

// fixedTier gives the only order and default action that one of the tiers that always exist may have.
func fixedTier(name string) (order float64, action Action, ok bool) {
	switch name {
	case tierAdmin:
		return 1_000, Pass, true
	case tierDefault:
		return 1_000_000, Deny, true
	case tierBaseline:
		return 10_000_000, Pass, true
	}
	return 0, "", false
}

// What a staged policy is for. Only with Set are its rules counted.
const (
	StagedSet    = "Set"
	StagedDelete = "Delete"
	StagedLearn  = "Learn"
	StagedIgnore = "Ignore"
)

// defaultPolicyKind fills in the kinds of projectcalico.org that policies are made of.
func defaultPolicyKind(obj Object) {
	switch o := obj.(type) {
	case *Tier:
		defaultTier(o)
	case *NetworkPolicy:
		defaultPolicyBase(&o.Spec.PolicyBase)
	case *GlobalNetworkPolicy:
		defaultPolicyBase(&o.Spec.PolicyBase)
	case *StagedNetworkPolicy:
		setDefault(&o.Spec.StagedAction, StagedSet)
		defaultStaged(o.Spec.StagedAction, &o.Spec.PolicyBase)
	case *StagedGlobalNetworkPolicy:
		setDefault(&o.Spec.StagedAction, StagedSet)
		defaultStaged(o.Spec.StagedAction, &o.Spec.PolicyBase)
	}
}

func defaultTier(t *Tier) {
	order, action, fixed := fixedTier(t.Name)
	if !fixed {
		setDefault(&t.Spec.DefaultAction, Deny)
		return
	}
	setDefault(&t.Spec.DefaultAction, action)
	if t.Spec.Order == nil {
		t.Spec.Order = &order
	}
}

// defaultPolicyBase gives the tier, and the directions in which there are rules: what has none at all is for
// ingress.
func defaultPolicyBase(s *PolicyBase) {
	setDefault(&s.Tier, tierDefault)
	if len(s.Types) > 0 {
		return
	}
	if len(s.Ingress) > 0 || len(s.Egress) == 0 {
		s.Types = append(s.Types, Ingress)
	}
	if len(s.Egress) > 0 {
		s.Types = append(s.Types, Egress)
	}
}

// defaultStaged is for staged policies: one that stands for a deletion has no rules and so no directions.
func defaultStaged(action string, s *PolicyBase) {
	if action == StagedDelete {
		setDefault(&s.Tier, tierDefault)
		return
	}
	defaultPolicyBase(s)
}
