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

// unknownTier has policies of which nothing is known. They deny, and no others decide before them.
const unknownTier = "(unknown)"

// ImpliedTier gives a tier of which there is no object. If it is none of those that always exist it stands last and denies: what
// somebody wanted restricted is not open for the lack of it.
func ImpliedTier(name string) Tier {
	for _, t := range BuiltInTiers() {
		if t.Name == name {
			return t
		}
	}
	if name == unknownTier {
		return Tier{Name: name, Order: math.Inf(-1), Default: api.Deny}
	}
	return Tier{Name: name, Order: math.Inf(1), Default: api.Deny}
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
