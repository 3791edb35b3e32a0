// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"korat/api"
	"korat/felix/dataplane"
	"korat/ipam"
)

// subnets remembers what belongs to hosts, which no pool may take from them.
type subnets struct {
	// local are this host's subnets and single addresses, with their interface.
	local version[map[netip.Prefix]string]
	all   memo[subnetInputs, []ipam.Obstacle]
}

// subnetInputs is what the hosts' ranges depend on.
type subnetInputs struct {
	nodes api.Table[*api.Node]
	local uint64
}

// shun keeps the allocator off what belongs to this host and to the nodes of the datastore.
func (a *Agent) shun() {
	s, nodes := &a.memos.subnets, a.world.snap.Nodes
	in := subnetInputs{nodes, s.local.of(localRanges(a.world.host), maps.Equal)}
	before := s.all.generation
	all := s.all.get(in, func() []ipam.Obstacle { return obstacles(s.local.value, nodes) })
	if s.all.generation != before {
		a.at.alloc.SetObstacles(all)
	}
}

// localRanges gives this host's subnets and single addresses.
func localRanges(host dataplane.Host) map[netip.Prefix]string {
	ranges := host.Subnets()
	for name, link := range host.Links {
		for _, p := range link.Addresses {
			if first, dup := ranges[p]; p.IsSingleIP() && (!dup || name < first) {
				ranges[p] = name
			}
		}
	}
	return ranges
}

// connected gives this host's subnets in order.
func (s *subnets) connected() []netip.Prefix {
	all := slices.SortedFunc(maps.Keys(s.local.value), netip.Prefix.Compare)
	return slices.DeleteFunc(all, netip.Prefix.IsSingleIP)
}

// obstacles gives each range once: this host's own, then those of the nodes by name.
func obstacles(local map[netip.Prefix]string, nodes api.Table[*api.Node]) []ipam.Obstacle {
	var all []ipam.Obstacle
	seen := map[netip.Prefix]bool{}
	add := func(p netip.Prefix, whose string) {
		if seen[p] {
			return
		}
		seen[p] = true
		what := "the subnet of " + whose
		if p.IsSingleIP() {
			what = "an address of " + whose
		}
		all = append(all, ipam.Obstacle{Range: p, What: what})
	}
	for _, p := range slices.SortedFunc(maps.Keys(local), netip.Prefix.Compare) {
		add(p, "this host's "+local[p])
	}
	for _, node := range nodes.All() {
		for _, p := range node.Spec.Ranges() {
			add(p, node.Key().String())
		}
	}
	return all
}

// overlap refuses a subnet that a pool has: the agents keep pods out of nodes' subnets, so that a node in the wrong
// place would take a range away from the whole cluster. A node that is registered with it stays.
func (id Identity) overlap(snap api.Snapshot, addr netip.Prefix) error {
	if registeredAddresses(snap, id.Node).Has(addr.Addr()) {
		return nil
	}
	for _, pool := range snap.IPPools.All() {
		if p, err := netip.ParsePrefix(pool.Spec.CIDR); err == nil && p.Overlaps(addr) {
			return fmt.Errorf("the subnet of address %s overlaps %s (%s): give this node another address with %s, or replace that IPPool by one with a range that no host has",
				addr, pool.Key(), p, flagFor(addr.Addr()))
		}
	}
	return nil
}
