// SPDX-License-Identifier: Apache-2.0

package compile

import "korat/policy"

// InForce gives the policies that apply to an endpoint of this node, and the tiers that they are in, in no order.
func (c *Compiler) InForce() ([]policy.Tier, []*policy.Policy) {
	tiers := map[string]policy.Tier{}
	policies := make([]*policy.Policy, 0, c.active)
	for _, s := range c.policies {
		if len(s.groups) == 0 {
			continue
		}
		policies = append(policies, s.policy)
		if _, known := tiers[s.policy.Tier]; !known {
			tiers[s.policy.Tier] = c.tier(s.policy.Tier)
		}
	}
	all := make([]policy.Tier, 0, len(tiers))
	for _, t := range tiers {
		all = append(all, t)
	}
	return all, policies
}
