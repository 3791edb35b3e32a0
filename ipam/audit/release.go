// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"korat/api"
)

// Plan is what is to be released: of each handle all addresses or none.
type Plan struct {
	// Releases are the addresses, in order.
	Releases []Allocation
	// Endpoints are those of nodes that do not exist, whose addresses are released.
	Endpoints []*api.WorkloadEndpoint
	// Claims are the blocks and affinities of nodes that do not exist, which hold nothing else.
	Claims []Claim
	// Cuts says what loses its address.
	Cuts []string
	// Kept says what is not released, and why.
	Kept []string
}

// Claim is what ties a block to a node that does not exist: the block, the node's affinity to it, or both.
type Claim struct {
	Node  string
	Range netip.Prefix
	// Affinity and Block are nil where there is none.
	Affinity *api.BlockAffinity
	Block    *api.IPAMBlock
}

// Empty says whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Releases)+len(p.Endpoints)+len(p.Claims) == 0 }

// planner is a Plan in the making.
type planner struct {
	*Book
	Plan
	// chosen are the addresses to release.
	chosen map[netip.Addr]Allocation
	force  bool
}

// Release plans the release of what earlier reads have found and this one finds too.
func (b *Book) Release(found []Finding, force bool, now time.Time) Plan {
	p := planner{Book: b, chosen: map[netip.Addr]Allocation{}, force: force}
	have := b.Findings(now)
	still := Confirmed(found, have)
	known := identities(have)
	for _, f := range found {
		if f.releasable() && !known[f.identity()] {
			p.keep(f.subject(), "it is no longer so")
		}
	}
	for _, f := range still {
		p.choose(f)
	}
	p.wholeHandles()
	for _, f := range still {
		p.claim(f)
	}
	p.finish()
	return p.Plan
}

// releasable says whether Release does anything about such a finding.
func (f Finding) releasable() bool {
	switch f.Kind {
	case WithoutEndpoint, StaleBorrowing, StaleLease, EndpointWithoutNode, AffinityWithoutNode:
		return true
	case BlockWithoutAffinity:
		return f.Remedy == releaseRemedy
	default:
		return false
	}
}

// subject names what a finding is about.
func (f Finding) subject() string {
	if f.Address.IsValid() {
		return f.Address.String()
	}
	return f.Object
}

func (p *planner) keep(what, why string) { p.Kept = append(p.Kept, what+": "+why) }

// choose marks what a finding says can be released.
func (p *planner) choose(f Finding) {
	switch f.Kind {
	case WithoutEndpoint, StaleBorrowing, StaleLease:
		for _, a := range p.held[f.Address] {
			same := ofAddress(f.Kind, a, "", "").Same(f)
			if same && (a.Use != Leased || a.Node != a.Owner) { // a lease in the node's own block goes with the block
				p.chosen[a.Address] = a
			}
		}
	case EndpointWithoutNode:
		ep, ok := p.snap.WorkloadEndpoints.Get(strings.TrimPrefix(f.Object, string(api.KindWorkloadEndpoint)+"/"))
		switch {
		case !ok:
		case !p.force:
			p.keep(f.Object, fmt.Sprintf("node %s does not exist, but its pod may: --force releases it if the host is gone for good", ep.Spec.Node))
		default:
			p.drop(ep)
		}
	default:
	}
}

// drop marks an endpoint of a node that does not exist, and what it holds.
func (p *planner) drop(ep *api.WorkloadEndpoint) {
	for _, text := range ep.Spec.IPNetworks {
		at, err := netip.ParsePrefix(text)
		if err != nil {
			continue
		}
		for _, a := range p.held[at.Addr()] {
			if a.Use == InUse && a.of(ep) && len(p.endpoints[a.Address]) == 1 {
				p.chosen[a.Address] = a
			}
		}
	}
	p.Endpoints = append(p.Endpoints, ep)
}

// wholeHandles unmarks what cannot be released: of a handle, all addresses or none.
func (p *planner) wholeHandles() {
	for _, a := range sorted(slices.Collect(maps.Values(p.chosen))) {
		if p.chosen[a.Address] != a || a.Use == Leased {
			continue
		}
		group := p.together(a)
		why := ""
		for _, x := range group {
			why = cmp.Or(why, p.obstacle(x))
			if p.chosen[x.Address] != x {
				why = cmp.Or(why, fmt.Sprintf("its handle %q also has %s, which is not found to be without endpoint", a.Handle, x.Address))
			}
		}
		if why != "" {
			p.unmark(group, why)
		}
	}
}

// together gives what is released with an allocation: all that its handle holds.
func (b *Book) together(a Allocation) []Allocation {
	if a.Handle == "" || a.Use != InUse {
		return []Allocation{a}
	}
	return b.byHandle[a.Handle]
}

func (p *planner) unmark(group []Allocation, why string) {
	for _, x := range group {
		if p.chosen[x.Address] == x {
			p.keep(x.Address.String(), why)
			delete(p.chosen, x.Address)
		}
	}
}

// obstacle says why an address must not be released, whatever the caller says; empty if it may. What a node
// borrows is known to its own agent alone: the agent of the block would give the address to another pod before
// the borrower could put it back.
func (b *Book) obstacle(a Allocation) string {
	if a.Borrowed() && b.hasNode(a.Node) {
		return fmt.Sprintf("node %s has borrowed it and gives it back itself: delete its pod, or restart the agent there", a.Node)
	}
	return ""
}

// claim marks the block or affinity that a finding is about, if nothing else is in the block.
func (p *planner) claim(f Finding) {
	c := Claim{}
	switch {
	case f.Kind == AffinityWithoutNode:
		aff, ok := p.snap.BlockAffinities.Get(strings.TrimPrefix(f.Object, string(api.KindBlockAffinity)+"/"))
		if !ok {
			return
		}
		c.Affinity, c.Node = aff, aff.Spec.Node
		c.Range, _ = netip.ParsePrefix(aff.Spec.CIDR)
		if x := p.blockAt[c.Range]; x != nil && x.owner == c.Node {
			c.Block = x.IPAMBlock
		}
	case f.Kind == BlockWithoutAffinity && f.releasable():
		obj, ok := p.snap.IPAMBlocks.Get(strings.TrimPrefix(f.Object, string(api.KindIPAMBlock)+"/"))
		if !ok || p.hasNode(nodeOf(obj)) {
			return
		}
		c.Block, c.Node = obj, nodeOf(obj)
		c.Range, _ = netip.ParsePrefix(obj.Spec.CIDR)
	default:
		return
	}
	if left := p.left(c); left != "" {
		p.keep(f.Object, "its block still has "+left)
		return
	}
	p.Claims = append(p.Claims, c)
}

// left names what would remain in a claim's block.
func (p *planner) left(c Claim) string {
	if c.Block == nil || p.blockAt[c.Range] == nil {
		return ""
	}
	var left []string
	for _, a := range p.blockAt[c.Range].allocations {
		_, chosen := p.chosen[a.Address]
		if !chosen && (a.Use == InUse || a.Use == Leased && p.hasNode(a.Node)) {
			left = append(left, a.Address.String())
		}
	}
	if len(left) > 3 {
		left = append(left[:3], fmt.Sprintf("%d more", len(left)-3))
	}
	return strings.Join(left, ", ")
}

// finish writes down what is marked.
func (p *planner) finish() {
	p.Releases = sorted(slices.Collect(maps.Values(p.chosen)))
	p.Endpoints = slices.DeleteFunc(p.Endpoints, p.holds)
	for _, ep := range p.Endpoints {
		p.Cuts = append(p.Cuts, fmt.Sprintf("%s with %s, if its host still runs", endpointText(ep), strings.Join(ep.Spec.IPNetworks, ", ")))
	}
}

// holds says whether an endpoint keeps an address after all.
func (p *planner) holds(ep *api.WorkloadEndpoint) bool {
	return slices.ContainsFunc(ep.Spec.IPNetworks, func(text string) bool {
		at, err := netip.ParsePrefix(text)
		if err != nil {
			return false
		}
		return slices.ContainsFunc(p.held[at.Addr()], func(a Allocation) bool {
			_, chosen := p.chosen[a.Address]
			return a.Use == InUse && a.of(ep) && !chosen
		})
	})
}

// ReleaseAddress plans the release of an address and of whatever else its handle holds. An error says why it
// can't be; force overrides that endpoints have them.
func (b *Book) ReleaseAddress(addr netip.Addr, force bool, now time.Time) (Plan, error) {
	held := slices.DeleteFunc(slices.Clone(b.held[addr]), func(a Allocation) bool { return a.Use == Cooling })
	switch {
	case len(held) == 0:
		return Plan{Kept: []string{b.vacant(addr)}}, nil
	case len(held) > 1:
		return Plan{}, fmt.Errorf("%s is in two blocks, %s and %s: remove the pods of one of them", addr, held[0].Block, held[1].Block)
	case held[0].Use == Leased && b.hasNode(held[0].Node):
		return Plan{}, fmt.Errorf("%s is leased to node %s for its pods to come: its agent gives it back when it needs it no more", addr, held[0].Node)
	}
	p := planner{Book: b, chosen: map[netip.Addr]Allocation{}, force: force}
	for _, a := range b.together(held[0]) {
		if err := p.take(a, now); err != nil {
			return Plan{}, err
		}
	}
	p.finish()
	return p.Plan, nil
}

// take marks one address, whatever has it.
func (p *planner) take(a Allocation, now time.Time) error {
	eps := p.endpoints[a.Address]
	if why := p.obstacle(a); why != "" {
		return fmt.Errorf("%s: %s", a.Address, why)
	}
	if !p.force && len(eps) > 0 {
		return fmt.Errorf("%s is in use by %s: delete the pod; --force releases it all the same, and a pod that is there loses its address", a.Address, endpointText(eps[0]))
	}
	if !p.force && a.young(now) {
		return fmt.Errorf("%s was given to %s less than %s ago, and its endpoint may be on its way: try again", a.Address, a.Holder(), underWay)
	}
	p.chosen[a.Address] = a
	for _, ep := range eps {
		switch {
		case p.hasNode(ep.Spec.Node):
			p.Cuts = append(p.Cuts, fmt.Sprintf("%s with %s", endpointText(ep), a.Address))
		case !slices.Contains(p.Endpoints, ep):
			p.Endpoints = append(p.Endpoints, ep)
		}
	}
	return nil
}

// vacant says why nobody has an address.
func (b *Book) vacant(addr netip.Addr) string {
	x := b.blockOf(addr)
	switch held := b.held[addr]; {
	case len(held) > 0:
		return fmt.Sprintf("%s: it is free already, and cooling down since %s", addr, held[0].Since)
	case x != nil:
		return fmt.Sprintf("%s: it is free already, in block %s", addr, x.Spec.CIDR)
	}
	return fmt.Sprintf("%s: it is in no block", addr)
}
