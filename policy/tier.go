// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"math"
	"slices"

	"korat/api"
)

// BuiltInTiers gives the tiers that exist without objects, as they are evaluated.
func BuiltInTiers() []Tier {
	return []Tier{
		{Name: TierAdmin, Order: OrderAdmin, Default: api.Pass},
		{Name: TierDefault, Order: OrderDefault, Default: api.Deny},
		{Name: TierBaseline, Order: OrderBaseline, Default: api.Pass},
	}
}

// builtIn says whether a tier of the name always exists.
func builtIn(name string) bool {
	return slices.ContainsFunc(BuiltInTiers(), func(t Tier) bool { return t.Name == name })
}

// TierOf gives the Tier that an object is. One of the tiers that always exist is where it always is, and what has no
// default action that a tier can have denies. So does one that is not understood whole; and as nobody knows where it
// stands, no other decides before it: Doubts has its policies deny.
func TierOf(t *api.Tier) Tier {
	out := Tier{Name: t.Name, Order: orderOf(t.Spec.Order), Default: api.Deny}
	if api.Unreadable(t) != "" {
		out.Order = math.Inf(-1)
	}
	for _, b := range BuiltInTiers() {
		if b.Name != t.Name {
			continue
		}
		out.Order = b.Order
		if t.Spec.DefaultAction == "" && api.Unreadable(t) == "" {
			return b
		}
	}
	if t.Spec.DefaultAction == api.Pass && api.Unreadable(t) == "" {
		out.Default = api.Pass
	}
	return out
}
