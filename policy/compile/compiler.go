// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"iter"
	"maps"
	"reflect"
	"slices"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/index"
)

// Compiler is told of policies and endpoints, and keeps the chains and sets that follow from them. What it is told
// takes effect at the next Update. It is not safe for concurrent use.
type Compiler struct {
	options Options
	// matcher matches policies' selectors against the endpoints of this node.
	matcher *index.Matcher
	members *members
	tiers   map[string]policy.Tier
	// policies are by their ID's text, profiles by name.
	policies, profiles map[string]*source
	endpoints
	dispatch *dispatch
	hosts    *hosts
	board    *board
	// verdicts are the rules of policies by the IDs that reports have.
	verdicts map[string]Origin
	todo     todo
}

// endpoints are those of this node, and what they have in common.
type endpoints struct {
	locals map[string]*endpoint
	groups map[string]*group
	shared map[chain.Key]*sharedChain
	// active is how many policies apply to any.
	active int
}

// todo is what changes have touched since the last Update.
type todo struct {
	locals  map[*endpoint]struct{}
	sources map[*source]struct{}
	groups  map[*group]struct{}
	shared  map[*sharedChain]struct{}
	lists   map[*list]struct{}
	// frame says that the chains that are always there are to be made anew; framed are those that there are, and framedSets
	// what they look into.
	frame      bool
	framed     map[chain.Key]*chain.Chain
	framedSets []use
	// serial is that of the last source.
	serial uint32
	// affected is for who takes it.
	affected Affected
}

// New makes a Compiler that knows of no policy and no endpoint.
func New(o Options) *Compiler {
	c := &Compiler{
		options: o.defaulted(), members: newMembers(), tiers: map[string]policy.Tier{},
		policies: map[string]*source{}, profiles: map[string]*source{},
		endpoints: endpoints{locals: map[string]*endpoint{}, groups: map[string]*group{}, shared: map[chain.Key]*sharedChain{}},
		dispatch:  newDispatch(), hosts: &hosts{claims: claims{map[string][]*endpoint{}}}, board: newBoard(),
		verdicts: map[string]Origin{},
		todo: todo{
			locals: map[*endpoint]struct{}{}, sources: map[*source]struct{}{}, groups: map[*group]struct{}{},
			shared: map[*sharedChain]struct{}{}, lists: map[*list]struct{}{}, frame: true,
		},
	}
	c.matcher = index.NewMatcher(c.started, c.stopped)
	return c
}

// started and stopped are told by the matcher.
func (c *Compiler) started(policyID, localID string) {
	l, s := c.locals[localID], c.policies[policyID]
	l.policies[s] = struct{}{}
	s.locals[l] = struct{}{}
	c.todo.locals[l] = struct{}{}
}

func (c *Compiler) stopped(policyID, localID string) {
	l, s := c.locals[localID], c.policies[policyID]
	delete(l.policies, s)
	delete(s.locals, l)
	c.todo.locals[l] = struct{}{}
}

// SetOptions replaces the Options. It touches everything, unless only the Pools are others, on which no policy depends.
func (c *Compiler) SetOptions(o Options) {
	before := c.options
	c.options = o.defaulted()
	c.todo.frame = true
	before.Pools = c.options.Pools
	if reflect.DeepEqual(before, c.options) {
		return
	}
	c.todo.affected.All = true
	c.dispatch.touchAll()
	c.hosts.stale = true
	for _, l := range c.locals {
		c.todo.locals[l] = struct{}{}
	}
	for _, g := range c.groups {
		c.todo.groups[g] = struct{}{}
	}
	for _, sources := range []map[string]*source{c.policies, c.profiles} {
		for _, s := range sources {
			c.todo.sources[s] = struct{}{}
		}
	}
}

// SetTier adds a tier or replaces it. A tier that is not there, but has policies, stands last and denies, unless it is
// one of those that always exist.
func (c *Compiler) SetTier(t policy.Tier) {
	if c.tier(t.Name) != t {
		c.tiers[t.Name] = t
		c.retier(t.Name)
	}
}

// DeleteTier removes a tier.
func (c *Compiler) DeleteTier(name string) {
	if _, there := c.tiers[name]; there {
		delete(c.tiers, name)
		c.retier(name)
	}
}

func (c *Compiler) retier(name string) {
	for _, s := range c.policies {
		if s.policy.Tier == name {
			c.reorder(s)
		}
	}
}

// reorder lets the endpoints that a policy applies to be looked at again.
func (c *Compiler) reorder(s *source) {
	for l := range s.locals {
		c.todo.locals[l] = struct{}{}
	}
	for g := range s.groups {
		c.todo.groups[g] = struct{}{}
	}
}

// SetPolicy adds a policy or replaces it.
func (c *Compiler) SetPolicy(p *policy.Policy) {
	id := p.ID.String()
	s := c.policies[id]
	if s == nil {
		s = c.newSource(p.ID)
		c.policies[id] = s
	}
	before := s.policy
	if before == p && !s.gone {
		return
	}
	s.policy, s.gone = p, false
	c.todo.sources[s] = struct{}{}
	c.matcher.SetSelector(id, p.Selector)
	if before != nil && !sameHead(before, p) {
		c.reorder(s)
	}
}

// sameHead says whether both stand at one place and apply to one thing.
func sameHead(a, b *policy.Policy) bool {
	return a.Tier == b.Tier && a.Order == b.Order && a.Stage == b.Stage && a.Staged == b.Staged &&
		a.AppliesIngress == b.AppliesIngress && a.AppliesEgress == b.AppliesEgress
}

func (c *Compiler) newSource(id policy.ID) *source {
	c.todo.serial++
	return &source{id: id, serial: c.todo.serial, locals: map[*endpoint]struct{}{}, groups: map[*group]struct{}{}}
}

// DeletePolicy removes a policy.
func (c *Compiler) DeletePolicy(id policy.ID) {
	if s := c.policies[id.String()]; s != nil {
		c.matcher.DeleteSelector(id.String())
		s.gone = true
		c.todo.sources[s] = struct{}{}
	}
}

// SetProfile adds a profile or replaces it.
func (c *Compiler) SetProfile(p *policy.Profile) {
	s := c.profile(p.Name)
	if s.profile == p {
		return
	}
	s.profile = p
	c.todo.sources[s] = struct{}{}
	c.matcher.SetParent(p.Name, p.Labels)
	c.members.note(c.members.index.SetParent(p.Name, p.Labels))
}

// DeleteProfile removes a profile. Endpoints may go on naming it; it then gives no labels and allows nothing.
func (c *Compiler) DeleteProfile(name string) {
	s := c.profiles[name]
	if s == nil || s.profile == nil {
		return
	}
	s.profile = nil
	c.todo.sources[s] = struct{}{}
	c.matcher.DeleteParent(name)
	c.members.note(c.members.index.DeleteParent(name))
}

// HasProfile says whether there is a profile of the name.
func (c *Compiler) HasProfile(name string) bool {
	s := c.profiles[name]
	return s != nil && s.profile != nil
}

func (c *Compiler) profile(name string) *source {
	s := c.profiles[name]
	if s == nil {
		s = c.newSource(policy.ID{Kind: policy.KindProfile, Name: name})
		c.profiles[name] = s
	}
	return s
}

// SetPeer adds an endpoint or network set of the cluster, which the selectors of rules may pick, or replaces it.
func (c *Compiler) SetPeer(id string, it policy.Item) {
	c.members.note(c.members.index.SetItem(id, it))
}

// DeletePeer removes an endpoint or network set.
func (c *Compiler) DeletePeer(id string) { c.members.index.DeleteItem(id) }

// SetService says what is behind a service that rules may name: addresses, with protocols and ports or, if it is only the
// source of anything, without. Of nothing the service is gone.
func (c *Compiler) SetService(s policy.Service, behind []policy.Member) {
	c.members.setService(s, behind)
}

// Chains gives all chains. The map is the Compiler's own, which changes it at each Update and never else; the chains
// are never changed.
func (c *Compiler) Chains() map[chain.Key]*chain.Chain { return c.board.chains }

// Sets gives the keys of all sets, in no order.
func (c *Compiler) Sets() iter.Seq[policy.SetKey] { return maps.Keys(c.members.sets) }

// Members gives who is in a set, in order: as it is now, with what has not been told by an Update yet.
func (c *Compiler) Members(key policy.SetKey) iter.Seq[policy.Member] {
	h := c.members.sets[key]
	if h == nil {
		return slices.Values[[]policy.Member](nil)
	}
	return slices.Values(c.members.list(h))
}

// tier gives a tier of which there may be no object.
func (c *Compiler) tier(name string) policy.Tier {
	if t, there := c.tiers[name]; there {
		return t
	}
	return policy.ImpliedTier(name)
}

func directions() [2]api.PolicyType { return [2]api.PolicyType{api.Ingress, api.Egress} }
