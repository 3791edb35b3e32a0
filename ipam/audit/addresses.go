// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"korat/api"
)

// addressFindings compares what blocks hold with each other and with the endpoints.
func (b *Book) addressFindings(now time.Time) []Finding {
	var all []Finding
	for _, x := range b.blocks {
		for _, a := range x.allocations {
			if f, wrong := b.allocation(a, now); wrong {
				all = append(all, f)
			}
			if others := b.held[a.Address]; len(others) > 1 && others[0].Block != a.Block {
				all = append(all, ofAddress(TwiceAllocated, a, fmt.Sprintf("held by %s, and in block %s by %s", a.Holder(), others[0].Block, others[0].Holder()),
					"remove the pods of one of the two blocks"))
			}
		}
	}
	return all
}

func (b *Book) allocation(a Allocation, now time.Time) (Finding, bool) {
	switch {
	case a.Use == Leased && !b.hasNode(a.Node):
		return ofAddress(StaleLease, a, fmt.Sprintf("node %s, in a block %s", a.Node, whose(a.Owner)), releaseRemedy), true
	case a.Use != InUse || len(b.endpoints[a.Address]) > 0 || a.young(now):
		return Finding{}, false
	case a.Borrowed() && !b.hasNode(a.Node):
		return ofAddress(StaleBorrowing, a, fmt.Sprintf("held by %s on node %s, from a block %s", a.Holder(), a.Node, whose(a.Owner)), releaseRemedy), true
	}
	return ofAddress(WithoutEndpoint, a, "held by "+a.Holder()+onNode(a.Node)+since(a.Since), releaseRemedy), true
}

// young says whether the allocation was made a moment ago. Hosts' clocks differ a little.
func (a Allocation) young(now time.Time) bool {
	since, err := time.Parse(time.RFC3339, a.Since)
	return err == nil && now.Sub(since).Abs() < underWay
}

func onNode(node string) string {
	if node == "" {
		return ""
	}
	return " on node " + node
}

func since(text string) string {
	if text == "" {
		return ""
	}
	return " since " + text
}

// handleFindings finds the handles that cannot be one pod's.
func (b *Book) handleFindings() []Finding {
	var all []Finding
	for handle, held := range b.byHandle {
		if handle == "" {
			continue
		}
		var nodes []string
		for _, a := range held {
			if a.Node != "" && !slices.Contains(nodes, a.Node) {
				nodes = append(nodes, a.Node)
			}
		}
		if len(nodes) > 1 {
			slices.Sort(nodes)
			all = append(all, Finding{
				Kind: HandleOnSeveralNodes, Object: "IPAMBlock/" + blockName(held[0].Block), Address: held[0].Address, Handle: handle,
				Detail: fmt.Sprintf("handle %q has %s, of nodes %s", handle, addressesOf(held), strings.Join(nodes, ", ")),
				Remedy: "one pod is on one node: delete the pods that have these addresses",
			})
		}
	}
	return all
}

func addressesOf(held []Allocation) string {
	var texts []string
	for _, a := range sorted(held) {
		texts = append(texts, a.Address.String())
	}
	return strings.Join(texts, ", ")
}

// endpointFindings compares the endpoints with each other, with the pools and with what blocks hold.
func (b *Book) endpointFindings() []Finding {
	var all []Finding
	for addr, eps := range b.endpoints {
		if len(eps) > 1 {
			all = append(all, Finding{
				Kind: SeveralEndpoints, Object: eps[0].Key().String(), Address: addr, Detail: "so has " + others(eps[1:]),
				Remedy: "delete all of these pods but one",
			})
		}
		for _, ep := range eps {
			if f, wrong := b.endpoint(addr, ep); wrong {
				f.Object, f.Address = ep.Key().String(), addr
				all = append(all, f)
			}
		}
	}
	for _, ep := range b.snap.WorkloadEndpoints.All() {
		if api.Hollow(ep) {
			continue // which is another finding
		}
		if !b.hasNode(ep.Spec.Node) {
			all = append(all, Finding{
				Kind: EndpointWithoutNode, Object: ep.Key().String(),
				Detail: fmt.Sprintf("on node %s, with %s", ep.Spec.Node, strings.Join(ep.Spec.IPNetworks, ", ")),
				Remedy: fmt.Sprintf("if host %s is gone for good, %s with --force; if not, start its agent", ep.Spec.Node, releaseRemedy),
			})
		}
	}
	return all
}

func others(eps []*api.WorkloadEndpoint) string {
	var texts []string
	for _, ep := range eps {
		texts = append(texts, fmt.Sprintf("%s on node %s", ep.Key(), ep.Spec.Node))
	}
	return strings.Join(texts, ", ")
}

func (b *Book) endpoint(addr netip.Addr, ep *api.WorkloadEndpoint) (Finding, bool) {
	if _, ok := b.poolOf(single(addr)); !ok {
		return Finding{
			Kind: EndpointOutsidePools, Detail: "no IPPool has the address",
			Remedy: "create an IPPool that has it, or delete the pod",
		}, true
	}
	var holder *Allocation
	for _, a := range b.held[addr] {
		switch {
		case a.Use == InUse && a.of(ep):
			return Finding{}, false
		case a.Use == InUse:
			holder = &a
		}
	}
	if holder != nil {
		return Finding{
			Kind: HeldByAnother, Handle: holder.Handle, Sequence: holder.Sequence,
			Detail: fmt.Sprintf("on node %s; its address is held by %s%s", ep.Spec.Node, holder.Holder(), onNode(holder.Node)),
			Remedy: "delete one of the two pods",
		}, true
	}
	return Finding{Kind: WithoutAllocation, Detail: b.lacking(addr, ep), Remedy: b.lackingRemedy(addr, ep)}, true
}

// lacking says what the address of an endpoint is instead of held.
func (b *Book) lacking(addr netip.Addr, ep *api.WorkloadEndpoint) string {
	x := b.blockOf(addr)
	if x == nil {
		return fmt.Sprintf("on node %s; its address is in no block", ep.Spec.Node)
	}
	what := "free"
	if held := b.held[addr]; len(held) > 0 {
		what = string(held[0].Use)
	}
	return fmt.Sprintf("on node %s; its address is %s in block %s %s", ep.Spec.Node, what, x.Spec.CIDR, whose(x.owner))
}

func (b *Book) lackingRemedy(addr netip.Addr, ep *api.WorkloadEndpoint) string {
	if x := b.blockOf(addr); x != nil && x.owner != ep.Spec.Node {
		return "delete the pod: the address may be given to another one"
	}
	return fmt.Sprintf("the agent of node %s writes it within a second: is it running, and what does koratctl node status say there?", ep.Spec.Node)
}
