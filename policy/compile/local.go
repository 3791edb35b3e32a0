// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"maps"
	"slices"
	"strings"

	"korat/policy"
)

// Local is an endpoint of this node. It is never changed once given.
type Local struct {
	// Interface is the host's end of the pod's interface. Of a host endpoint it is the host's own, or "*" for all but
	// those of pods, the loopback, and those that have an endpoint of their own.
	Interface string
	// Host says that it is a host endpoint.
	Host bool
	// Labels are its own; it inherits more from the profiles that are its Parents.
	Labels  map[string]string
	Parents []string
	// Profiles are those whose rules decide where no policy does.
	Profiles []string
}

func (l Local) equal(other Local) bool {
	return l.Interface == other.Interface && l.Host == other.Host && maps.Equal(l.Labels, other.Labels) &&
		slices.Equal(l.Parents, other.Parents) && slices.Equal(l.Profiles, other.Profiles)
}

// endpoint is a Local with the policies that apply to it.
type endpoint struct {
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
		l = &endpoint{id: id, policies: map[*source]struct{}{}}
		c.locals[id] = l
	case l.equal(want):
		return
	default:
		c.leave(l)
	}
	l.Local = want
	c.enter(l)
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
	c.leave(l)
	l.gone = true
	c.todo.locals[l] = struct{}{}
	delete(c.locals, id)
}

// enter and leave note which endpoints are at an interface. Another may have it then.
func (c *Compiler) enter(l *endpoint) {
	at := c.claims(l)
	at.enter(l)
	for _, other := range at.at[l.Interface] {
		c.todo.locals[other] = struct{}{}
	}
	c.touch(l)
}

func (c *Compiler) leave(l *endpoint) {
	at := c.claims(l)
	at.leave(l)
	for _, other := range at.at[l.Interface] {
		c.todo.locals[other] = struct{}{}
	}
	c.touch(l)
}

func (c *Compiler) claims(l *endpoint) claims {
	if l.Host {
		return c.hosts.claims
	}
	return c.dispatch.claims
}

// leads says whether a rule can lead to the endpoint: it is the one that has its interface, and a rule can be for
// that name alone. iptables takes a "+" at the end for anything.
func (c *Compiler) leads(l *endpoint) bool {
	name := l.Interface
	if l.gone || name == "" || strings.HasSuffix(name, "+") || c.claims(l).endpoint(name) != l {
		return false
	}
	return l.Host || c.options.ofPods(name)
}

// touch says that an endpoint has come or gone or leads elsewhere.
func (c *Compiler) touch(l *endpoint) {
	if l.Host {
		c.hosts.stale, c.todo.affected.All = true, true
	} else {
		c.dispatch.touched[l.Interface] = struct{}{}
	}
}

// claims are the endpoints at each interface.
type claims struct{ at map[string][]*endpoint }

func (c claims) enter(l *endpoint) { c.at[l.Interface] = append(c.at[l.Interface], l) }

func (c claims) leave(l *endpoint) {
	rest := slices.DeleteFunc(c.at[l.Interface], func(other *endpoint) bool { return other == l })
	if c.at[l.Interface] = rest; len(rest) == 0 {
		delete(c.at, l.Interface)
	}
}

// endpoint gives the endpoint that has an interface. If several claim it, which should not be, the first by ID has it.
func (c claims) endpoint(name string) *endpoint {
	all := c.at[name]
	if len(all) == 0 {
		return nil
	}
	return slices.MinFunc(all, func(a, b *endpoint) int { return strings.Compare(a.id, b.id) })
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
