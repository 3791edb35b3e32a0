// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"math"

	"korat/api"
	"korat/policy"
)

// appliedKey is a check that an endpoint may make.
type appliedKey struct {
	endpoint  *Endpoint
	direction api.PolicyType
	stage     Stage
}

// tierPolicies are the policies of a tier that apply in one check, in order.
type tierPolicies struct {
	tier     policy.Tier
	policies []*policy.Policy
}

// enforced says whether any of them is more than staged.
func (t tierPolicies) enforced() bool {
	for _, p := range t.policies {
		if !p.Staged {
			return true
		}
	}
	return false
}

// ends says whether the tier's default is for what none of the policies decides at the stage.
func (t tierPolicies) ends(s Stage) bool { return t.enforced() && (s == Local || s == Forwarded) }

// applying gives the tiers that have policies for the endpoint in a direction, at a stage. It remembers them.
func (w *World) applying(key appliedKey) []tierPolicies {
	tiers, ok := w.applied[key]
	if ok {
		return tiers
	}
	for _, tier := range w.tiers {
		var pols []*policy.Policy
		for _, p := range w.policies[tier.Name] {
			if p.Applies(key.direction) && at(p.Stage, key) && p.Selector.Matches(w.labels[key.endpoint]) {
				pols = append(pols, p)
			}
		}
		if len(pols) > 0 {
			tiers = append(tiers, tierPolicies{tier, pols})
		}
	}
	w.applied[key] = tiers
	return tiers
}

// at says whether a policy of the stage counts in the check: for a pod, which has one stage alone, what host
// endpoints have apart from it does not.
func at(s policy.Stage, key appliedKey) bool {
	switch key.stage {
	case PreDNAT:
		return s == policy.PreDNAT
	case Untracked:
		return s == policy.Untracked
	case Forwarded:
		return s == policy.Forward
	default:
		return s == policy.Normal || s == policy.Forward
	}
}

// Order is what applies to an endpoint, in order.
type Order struct {
	Endpoint string `json:"endpoint"`
	Node     string `json:"node"`
	// Labels are those that policies see: its own and those that it inherits.
	Labels  map[string]string `json:"labels,omitempty"`
	Ingress []OrderedTier     `json:"ingress"`
	Egress  []OrderedTier     `json:"egress"`
	// Profiles decide what no policy applies to, and what all tiers pass.
	Profiles []string `json:"profiles,omitempty"`
	// Chains are the kernel's for the endpoint, if somebody has asked.
	Chains []string `json:"chains,omitempty"`
}

// OrderedTier is a tier of which policies apply, at one stage.
type OrderedTier struct {
	Stage Stage  `json:"stage,omitempty"`
	Tier  string `json:"tier"`
	// Default is what becomes of what none of the policies decides: Pass too where the tier's own does not count, because all
	// are staged or the stage is not the last.
	Default  api.Action      `json:"default"`
	Policies []OrderedPolicy `json:"policies"`
}

// OrderedPolicy is a policy that applies.
type OrderedPolicy struct {
	Policy policy.ID `json:"policy"`
	// Order is nil if the policy has none.
	Order    *float64 `json:"order,omitempty"`
	Selector string   `json:"selector"`
	Staged   bool     `json:"staged,omitempty"`
	Rules    int      `json:"rules"`
}

// Endpoints gives those of a name: the interfaces of a pod, or, without a namespace, a host endpoint.
func (w *World) Endpoints(namespace, name string) []*Endpoint {
	var found []*Endpoint
	for i := range w.parts.Endpoints {
		if ep := &w.parts.Endpoints[i]; ep.Name == name && ep.Namespace == namespace && ep.Host == (namespace == "") {
			found = append(found, ep)
		}
	}
	return found
}

// Order lists what applies to an endpoint of the World.
func (w *World) Order(ep *Endpoint) Order {
	return Order{
		Endpoint: ep.String(), Node: ep.Node, Labels: w.labels[ep], Profiles: ep.Profiles,
		Ingress: w.ordered(ep, api.Ingress), Egress: w.ordered(ep, api.Egress),
	}
}

func (w *World) ordered(ep *Endpoint, d api.PolicyType) []OrderedTier {
	stages := []Stage{Local}
	if ep.Host {
		stages = []Stage{Untracked, PreDNAT, Local, Forwarded}
	}
	tiers := []OrderedTier{} // in JSON a list, empty or not
	for _, stage := range stages {
		for _, t := range w.applying(appliedKey{ep, d, stage}) {
			tier := OrderedTier{Stage: stage, Tier: t.tier.Name, Default: api.Pass}
			if t.ends(stage) {
				tier.Default = t.tier.Default
			}
			for _, p := range t.policies {
				tier.Policies = append(tier.Policies, orderedPolicy(p, d))
			}
			tiers = append(tiers, tier)
		}
	}
	return tiers
}

func orderedPolicy(p *policy.Policy, d api.PolicyType) OrderedPolicy {
	o := OrderedPolicy{Policy: p.ID, Selector: p.Selector.String(), Staged: p.Staged, Rules: len(p.Rules(d))}
	if !math.IsInf(p.Order, 1) {
		o.Order = &p.Order
	}
	return o
}
