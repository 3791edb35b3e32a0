// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"korat/api"
	"korat/policy"
)

// Verdict is what becomes of a flow.
type Verdict struct {
	Allowed bool `json:"allowed"`
	// Sides are the checks on its way, in their order. All are made, even after one that denies.
	Sides []Side `json:"sides"`
	// Notes tell of what is not checked, and of what was guessed.
	Notes []string `json:"notes,omitempty"`
}

// Stage is where on its way a packet meets the policies of a host endpoint.
type Stage string

// The stages. Local, which is empty, is what a host endpoint's own host sends and receives, and all that a pod does.
const (
	Local     Stage = ""
	Forwarded Stage = "forward"
	PreDNAT   Stage = "preDNAT"
	Untracked Stage = "untracked"
)

// Side is the check of one endpoint in one direction.
type Side struct {
	Endpoint  string         `json:"endpoint"`
	Node      string         `json:"node"`
	Direction api.PolicyType `json:"direction"`
	Stage     Stage          `json:"stage,omitempty"`
	Allowed   bool           `json:"allowed"`
	Decided   Decision       `json:"decided"`
	// Tiers and Profiles are what was looked at, in order. What comes after the decision is not in them.
	Tiers    []TierCheck `json:"tiers,omitempty"`
	Profiles []ListCheck `json:"profiles,omitempty"`
	// open says that a stage before the normal one has decided nothing.
	open bool
}

// Decision is what decided. Without a Policy it is a default, which Why tells.
type Decision struct {
	Action api.Action `json:"action"`
	Tier   string     `json:"tier,omitempty"`
	Policy *policy.ID `json:"policy,omitempty"`
	// Rule is the index of the object's rule in its direction, and Name what the object calls it.
	Rule int    `json:"rule"`
	Name string `json:"name,omitempty"`
	// Part is the index of the Policy's rule: there may be several for one of the object's.
	Part int `json:"-"`
	// Reason is of what is no rule's and no tier's, and of what the kernel has a rule for.
	Reason Reason `json:"-"`
	Why    string `json:"why"`
	// Located is where the kernel has it, if somebody has asked.
	Located *Located `json:"located,omitempty"`
}

// Reason is what denies, if that is no rule of a policy and no end of a tier.
type Reason string

// The reasons: that no profile allows it, and what no policy can allow.
const (
	ByProfiles Reason = "profiles"
	BySource   Reason = "source"
	ByVXLAN    Reason = "vxlan"
	ByIPIP     Reason = "ipip"
	ByService  Reason = "service"
	ByHost     Reason = "host"
)

// Located is a rule's place in the kernel.
type Located struct {
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	Number int    `json:"number"`
	// Counted is nil where that is not known.
	*Counted
	// Expected says that it is where the datastore has it put: the kernel was not asked.
	Expected bool `json:"expected,omitempty"`
}

// Counted is what a rule has counted.
type Counted struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// TierCheck is a tier of which policies apply.
type TierCheck struct {
	Tier     string      `json:"tier"`
	Policies []ListCheck `json:"policies"`
	// End says how the tier ended without a rule's decision: Deny or Pass.
	End api.Action `json:"end,omitempty"`
}

// ListCheck is one policy or profile.
type ListCheck struct {
	Policy policy.ID   `json:"policy"`
	Staged bool        `json:"staged,omitempty"`
	Rules  []RuleCheck `json:"rules,omitempty"`
	// Action is what a rule decided; empty if none did. Of a staged policy it is what it would decide.
	Action api.Action `json:"action,omitempty"`
	// Part is the index of that rule among the policy's.
	Part int `json:"-"`
	// Located is where the kernel has a staged policy's, if somebody has asked.
	Located *Located `json:"located,omitempty"`
}

// RuleCheck is one rule.
type RuleCheck struct {
	// Index is that of the object's rule.
	Index   int        `json:"index"`
	Name    string     `json:"name,omitempty"`
	Action  api.Action `json:"action"`
	Matched bool       `json:"matched"`
	// Why is why it does not match.
	Why string `json:"why,omitempty"`
}
