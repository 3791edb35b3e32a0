// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"fmt"
	"net/netip"

	"korat/api"
)

// releaseRemedy is what to do about what release takes away.
const releaseRemedy = "write reports with koratctl ipam check -o, then koratctl ipam release --from-report"

// blockFindings compares blocks with each other, with the pools and with the affinities.
func (b *Book) blockFindings() []Finding {
	var all []Finding
	var around []*blk // each has the next one within it
	for _, x := range b.blocks {
		for len(around) > 0 && !around[len(around)-1].prefix.Overlaps(x.prefix) {
			around = around[:len(around)-1]
		}
		for _, outer := range around {
			all = append(all, Finding{
				Kind: OverlappingBlocks, Object: x.Key().String(),
				Detail: fmt.Sprintf("%s %s has addresses of %s %s", x.prefix, whose(x.owner), outer.Key(), whose(outer.owner)),
				Remedy: "no pod gets an address of either: remove the pods of one of the two",
			})
		}
		around = append(around, x)
		all = append(all, b.homeless(x)...)
	}
	return all
}

// homeless says whether a block lacks a pool or an affinity.
func (b *Book) homeless(x *blk) []Finding {
	var all []Finding
	f := Finding{Object: x.Key().String()}
	if _, ok := b.poolOf(x.prefix); !ok {
		f.Kind, f.Detail = BlockOutsidePools, fmt.Sprintf("%s has %d addresses in use", x.prefix, x.count(InUse))
		f.Remedy = "create an IPPool that has it, or remove its pods"
		all = append(all, f)
	}
	if why, lacks := b.unclaimed(x); lacks {
		f.Kind, f.Detail, f.Remedy = BlockWithoutAffinity, why, releaseRemedy
		if b.hasNode(x.owner) {
			f.Remedy = fmt.Sprintf("the agent of node %s puts it right within a minute: is it running?", x.owner)
		}
		all = append(all, f)
	}
	return all
}

// unclaimed says whether a block lacks the confirmed affinity of its node.
func (b *Book) unclaimed(x *blk) (why string, lacks bool) {
	aff := b.affinityTo(x)
	switch {
	case x.owner == "":
		return "it belongs to no node", true
	case aff == nil:
		return fmt.Sprintf("it belongs to node %s, which has no affinity to it", x.owner), true
	case !b.hasNode(x.owner): // reported with the affinity
		return "", false
	case aff.Spec.State != api.AffinityConfirmed:
		return fmt.Sprintf("the affinity of node %s to it is %s", x.owner, aff.Spec.State), true
	}
	return "", false
}

// affinityTo gives the affinity of a block's own node to it, or nil.
func (b *Book) affinityTo(x *blk) *api.BlockAffinity {
	if x.owner == "" {
		return nil
	}
	aff, ok := b.snap.BlockAffinities.Get(api.AffinityName(x.owner, x.prefix))
	if !ok || aff.Spec.Node != x.owner {
		return nil
	}
	return aff
}

func (x *blk) count(use Use) int {
	n := 0
	for _, a := range x.allocations {
		if a.Use == use {
			n++
		}
	}
	return n
}

// affinityFindings compares affinities with blocks and nodes.
func (b *Book) affinityFindings() []Finding {
	var all []Finding
	for _, aff := range b.snap.BlockAffinities.All() {
		p, err := netip.ParsePrefix(aff.Spec.CIDR)
		if err == nil && aff.Name != api.AffinityName(aff.Spec.Node, p) {
			err = fmt.Errorf("spec.node %q and spec.cidr %s do not fit its name", aff.Spec.Node, p)
		}
		if err != nil {
			all = append(all, Finding{
				Kind: Unreadable, Object: aff.Key().String(), Detail: err.Error(),
				Remedy: "it counts for nothing: delete it in the datastore",
			})
			continue
		}
		if f, wrong := b.affinity(aff, p); wrong {
			f.Object = aff.Key().String()
			all = append(all, f)
		}
	}
	return all
}

func (b *Book) affinity(aff *api.BlockAffinity, p netip.Prefix) (Finding, bool) {
	node, x := aff.Spec.Node, b.blockAt[p]
	agent := fmt.Sprintf("the agent of node %s puts it right within a minute: is it running?", node)
	switch {
	case !b.hasNode(node):
		detail := fmt.Sprintf("node %s, which does not exist, has block %s", node, p)
		if x == nil || x.owner != node {
			detail = fmt.Sprintf("node %s, which does not exist, claims block %s", node, p)
		}
		return Finding{Kind: AffinityWithoutNode, Detail: detail, Remedy: releaseRemedy + " (if the node is to come back, leave it)"}, true
	case x == nil:
		return Finding{
			Kind: AffinityWithoutBlock, Remedy: agent,
			Detail: fmt.Sprintf("%s, but there is no IPAMBlock/%s", aff.Spec.State, api.BlockName(p)),
		}, true
	case x.owner != node:
		return Finding{
			Kind: AffinityOfAnotherBlock, Remedy: agent,
			Detail: fmt.Sprintf("%s, but IPAMBlock/%s is %s", aff.Spec.State, x.Name, whose(x.owner)),
		}, true
	}
	return Finding{}, false
}

// poolFindings gives the pools that are on their way out.
func (b *Book) poolFindings() []Finding {
	var all []Finding
	for _, p := range b.pools {
		if !p.Terminating() {
			continue
		}
		inUse := 0
		for _, x := range b.blocks {
			if p.prefix.Overlaps(x.prefix) {
				inUse += x.count(InUse)
			}
		}
		all = append(all, Finding{
			Kind: PoolTerminating, Object: p.Key().String(), Detail: fmt.Sprintf("%d of its addresses are in use", inUse),
			Remedy: "it goes once nothing uses it: remove the pods that have its addresses",
		})
	}
	return all
}
