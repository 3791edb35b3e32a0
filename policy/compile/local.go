// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"maps"
	"math"
	"slices"

	"korat/api"
	"korat/policy"
)

// Local is an endpoint of this node. It is never changed once given.
type Local struct {
	// Interface is the host's end of the pod's interface.
	Interface string
	// Labels are its own; it inherits more from the profiles that are its Parents.
	Labels  map[string]string
	Parents []string
	// Profiles are those whose rules decide where no policy does.
	Profiles []string
}

func (l Local) equal(other Local) bool {
	return l.Interface == other.Interface && maps.Equal(l.Labels, other.Labels) &&
		slices.Equal(l.Parents, other.Parents) && slices.Equal(l.Profiles, other.Profiles)
}

// local is an endpoint with the policies that apply to it.
type local struct {
	Local
	id       string
	gone     bool
	policies map[*source]struct{}
	group    *group
}

// SetLocal adds an endpoint of this node or replaces it.
func (c *Compiler) SetLocal(id string, want Local) {
	l := c.locals[id]
	switch {
	case l == nil:
		l = &local{id: id, policies: map[*source]struct{}{}}
		c.locals[id] = l
	case l.equal(want):
		return
	default:
		c.dispatch.leave(l)
	}
	l.Local = want
	c.dispatch.enter(l)
	c.todo.locals[l] = struct{}{}
	c.matcher.SetItem(id, want.Labels, want.Parents)
}

// DeleteLocal removes an endpoint of this node.
func (c *Compiler) DeleteLocal(id string) {
	l := c.locals[id]
	if l == nil {
		return
	}
	c.matcher.DeleteItem(id)
	c.dispatch.leave(l)
	l.gone = true
	c.todo.locals[l] = struct{}{}
	delete(c.locals, id)
}

// Applied is what applies to an endpoint, in order.
type Applied struct {
	Tiers []AppliedTier
	// Profiles decide where no policy applies, and after a Pass in the last tier.
	Profiles []string
}

// AppliedTier is a tier with those of its policies that apply.
type AppliedTier struct {
	policy.Tier
	Policies []*policy.Policy
}

// Applied gives what applies to an endpoint of this node, as of the last Update.
func (c *Compiler) Applied(id string) (Applied, bool) {
	l := c.locals[id]
	if l == nil || l.group == nil {
		return Applied{}, false
	}
	all := Applied{Profiles: slices.Clone(l.Profiles)}
	for t, sources := range c.byTier(l.group.policies) {
		tier := AppliedTier{Tier: t}
		for _, s := range sources {
			tier.Policies = append(tier.Policies, s.policy)
		}
		all.Tiers = append(all.Tiers, tier)
	}
	return all, true
}

// implied gives a tier of which there is no object.
func implied(name string) policy.Tier {
	for _, t := range policy.BuiltInTiers() {
		if t.Name == name {
			return t
		}
	}
	return policy.Tier{Name: name, Order: math.Inf(1), Default: api.Deny}
}
