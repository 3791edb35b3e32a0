// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"korat/api"
	"korat/policy"
)

// check makes one check of an endpoint.
func (e *evaluation) check(ep *Endpoint, d api.PolicyType, stage Stage) Side {
	s := e.side(ep, d, stage)
	if !ep.Doubt.Labelled() {
		return unknownLabels(s)
	}
	passed := false // by the rule or the default of a tier that applied
	for _, t := range e.applying(appliedKey{ep, d, stage}) {
		decided, passing := e.tier(&s, t)
		if decided {
			return s
		}
		passed = passed || passing
	}
	switch stage {
	case PreDNAT, Untracked:
		s.open, s.Allowed = true, true
		s.Decided = Decision{Action: api.Pass, Why: "no rule of this stage matches; the later stages decide"}
	case Forwarded:
		s.Allowed = true
		s.Decided = Decision{Action: api.Allow, Why: "no policy with applyOnForward applies: what the host forwards is allowed"}
		if passed {
			s.Decided.Why = "the policies with applyOnForward pass it"
		}
	default:
		e.byProfiles(&s, ep, passed)
	}
	return s
}

// unknownLabels is the check of an endpoint of which nobody knows which policies are for it.
func unknownLabels(s Side) Side {
	if s.Stage == PreDNAT || s.Stage == Untracked {
		s.open, s.Allowed = true, true
		s.Decided = Decision{Action: api.Pass, Why: "its labels are not known: a later stage denies"}
		return s
	}
	s.Decided = Decision{Action: api.Deny, Why: "its labels are not known, nor which policies are for it"}
	return s
}

func (e *evaluation) side(ep *Endpoint, d api.PolicyType, stage Stage) Side {
	return Side{Endpoint: ep.String(), Node: ep.Node, Direction: d, Stage: stage}
}

// tier goes through the policies of one tier. It says whether one of them decided, else whether the packet is passed to
// the next tier, which it is not if no policy applies.
func (e *evaluation) tier(s *Side, t tierPolicies) (decided, passed bool) {
	look := TierCheck{Tier: t.tier.Name}
	var by *Decision
	for _, p := range t.policies {
		tried, found := e.list(p.ID, p.Rules(s.Direction))
		if tried.Staged = p.Staged; p.Staged {
			found = nil
		}
		if e.words {
			look.Policies = append(look.Policies, tried)
		}
		if by = found; by != nil {
			break
		}
	}
	if by == nil && t.ends(s.Stage) {
		by = &Decision{Action: t.tier.Default, Why: "no rule of tier " + t.tier.Name + " matches"}
		look.End = by.Action
	}
	if e.words {
		s.Tiers = append(s.Tiers, look)
	}
	if by == nil || by.Action == api.Pass {
		return false, by != nil
	}
	by.Tier = t.tier.Name
	s.Decided, s.Allowed = *by, by.Action == api.Allow
	return true, false
}

// list goes through the rules of a policy or profile, and gives what it found and the decision, nil if there is none.
func (e *evaluation) list(id policy.ID, rules []policy.Rule) (ListCheck, *Decision) {
	look := ListCheck{Policy: id}
	for i := range rules {
		r := &rules[i]
		e.why = ""
		matched := e.matches(r)
		if e.words {
			look.Rules = append(look.Rules, RuleCheck{r.Index, r.Name, r.Action, matched, e.why})
		}
		if matched && r.Action != api.Log {
			look.Action, look.Part = r.Action, i
			return look, &Decision{Action: r.Action, Policy: &id, Rule: r.Index, Part: i, Name: r.Name, Why: "the rule matches"}
		}
	}
	return look, nil
}

// byProfiles decides by the profiles what no tier has decided.
func (e *evaluation) byProfiles(s *Side, ep *Endpoint, passed bool) {
	for _, name := range ep.Profiles {
		prof := e.profile(name)
		if prof == nil {
			continue
		}
		tried, by := e.list(policy.ID{Kind: policy.KindProfile, Name: name}, prof.Rules(s.Direction))
		if e.words {
			s.Profiles = append(s.Profiles, tried)
		}
		if by != nil && by.Action != api.Pass {
			s.Decided, s.Allowed = *by, by.Action == api.Allow
			return
		}
	}
	s.Decided = Decision{Action: api.Deny, Reason: ByProfiles, Why: "no policy applies, and no profile allows it"}
	if passed {
		s.Decided.Why = "policies pass it, and no profile allows it"
	}
}
