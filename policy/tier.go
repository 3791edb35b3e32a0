// SPDX-License-Identifier: Apache-2.0

package policy

import "korat/api"

// BuiltInTiers gives the tiers that exist without objects, as they are evaluated.
func BuiltInTiers() []Tier {
	return []Tier{
		{Name: TierAdmin, Order: OrderAdmin, Default: api.Pass},
		{Name: TierDefault, Order: OrderDefault, Default: api.Deny},
		{Name: TierBaseline, Order: OrderBaseline, Default: api.Pass},
	}
}

// TierOf gives the Tier that an object is. One of the tiers that always exist is where it always is, and what has no
// default action that a tier can have denies.
func TierOf(t *api.Tier) Tier {
	out := Tier{Name: t.Name, Order: orderOf(t.Spec.Order), Default: api.Deny}
	for _, b := range BuiltInTiers() {
		if b.Name != t.Name {
			continue
		}
		out.Order = b.Order
		if t.Spec.DefaultAction == "" {
			return b
		}
	}
	if t.Spec.DefaultAction == api.Pass {
		out.Default = api.Pass
	}
	return out
}
