// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"net/netip"

	"korat/api"
)

// Address is everything known of one address.
type Address struct {
	Address netip.Addr `json:"address"`
	// Pool and PoolCIDR are its IPPool's; empty if no pool has it.
	Pool     string `json:"pool,omitempty"`
	PoolCIDR string `json:"poolCIDR,omitempty"`
	// PoolState is as in PoolUsage.
	PoolState string `json:"poolState,omitempty"`
	// Block is empty if no block has it yet. BlockNode is the block's, State that of the node's affinity.
	Block     string `json:"block,omitempty"`
	BlockNode string `json:"blockNode,omitempty"`
	State     string `json:"blockState,omitempty"`
	// Reserved names the range of an IPReservation that has it.
	Reserved string `json:"reserved,omitempty"`
	// Allocations is empty if it is free, and has more than one entry if blocks overlap.
	Allocations []Allocation `json:"allocations"`
	// Endpoints are those that have it.
	Endpoints []string `json:"endpoints"`
}

// Address looks one up.
func (b *Book) Address(addr netip.Addr) Address {
	a := Address{Address: addr, Allocations: []Allocation{}, Endpoints: []string{}}
	if p, ok := b.poolOf(single(addr)); ok {
		a.Pool, a.PoolCIDR, a.PoolState = p.Name, p.prefix.String(), p.state()
	}
	if x := b.blockOf(addr); x != nil {
		a.Block, a.BlockNode = x.prefix.String(), x.owner
		if aff := b.affinityTo(x); aff != nil {
			a.State = aff.Spec.State
		}
	}
	for _, r := range b.reserved {
		if r.Contains(addr) {
			a.Reserved = r.String()
		}
	}
	a.Allocations = append(a.Allocations, b.held[addr]...)
	for _, ep := range b.endpoints[addr] {
		a.Endpoints = append(a.Endpoints, endpointText(ep))
	}
	return a
}

func endpointText(ep *api.WorkloadEndpoint) string {
	return ep.Key().String() + onNode(ep.Spec.Node)
}

// state is "enabled", "disabled" or "terminating".
func (p pool) state() string {
	switch {
	case p.Terminating():
		return "terminating"
	case p.Spec.Disabled:
		return "disabled"
	}
	return "enabled"
}
