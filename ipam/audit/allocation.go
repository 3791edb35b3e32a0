// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"korat/api"
	"korat/ipam/block"
)

// Use says what an address that is not free is there for.
type Use string

// The uses.
const (
	// InUse is held by a pod.
	InUse Use = "in use"
	// Cooling was released a moment ago.
	Cooling Use = "cooling down"
	// Leased is kept by a node for its pods to come, so that no other node borrows it.
	Leased Use = "leased"
)

// Allocation is an address that its block does not list as free.
type Allocation struct {
	Address netip.Addr `json:"address"`
	// Block is the range of its block, and Owner that block's node, or empty.
	Block string `json:"block"`
	Owner string `json:"blockNode,omitempty"`
	Use   Use    `json:"use"`
	// Handle, Node, Namespace, Pod and Since are what the block says of the holder; of an address that cools
	// down, of the last one and since when.
	Handle    string `json:"handle,omitempty"`
	Node      string `json:"node,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Since     string `json:"since,omitempty"`
	// Sequence tells two assignments of one address apart.
	Sequence uint64 `json:"sequence"`
}

// Borrowed says whether a node has it from another node's block.
func (a Allocation) Borrowed() bool {
	return a.Use == InUse && a.Node != "" && a.Node != a.Owner
}

// Holder gives `pod ns/name (handle "h")`, without what is not known.
func (a Allocation) Holder() string {
	if a.Handle == "" {
		return "nobody that its block names"
	}
	return block.Holder{Handle: a.Handle, Attrs: map[string]string{"namespace": a.Namespace, "pod": a.Pod}}.String()
}

// readable says why the allocator would refuse the block.
func readable(obj *api.IPAMBlock, p netip.Prefix) error {
	if _, err := block.From(obj.Spec); err != nil {
		return err
	}
	if want := api.BlockName(p); obj.Name != want {
		return fmt.Errorf("spec.cidr %s does not fit its name: want %q", p, want)
	}
	return nil
}

// allocations gives what a block does not list as free, in order. It reads blocks that the allocator refuses,
// too, as far as they go.
func allocations(b *blk) []Allocation {
	var all []Allocation
	size := 1 << min(b.prefix.Addr().BitLen()-b.prefix.Bits(), block.MaxHostBits)
	for ordinal, index := range b.Spec.Allocations[:min(len(b.Spec.Allocations), size)] {
		if index == nil {
			continue
		}
		a := Allocation{
			Address: nth(b.prefix, ordinal), Block: b.Spec.CIDR, Owner: b.owner, Use: InUse,
			Sequence: b.Spec.SequenceNumberForAllocation[strconv.Itoa(ordinal)],
		}
		if *index >= 0 && *index < len(b.Spec.Attributes) {
			a.describe(b.Spec.Attributes[*index])
		}
		all = append(all, a)
	}
	return all
}

func (a *Allocation) describe(attr api.AllocationAttribute) {
	a.Handle = attr.HandleID
	a.Node, a.Namespace, a.Pod = attr.ActiveOwnerAttrs["node"], attr.ActiveOwnerAttrs["namespace"], attr.ActiveOwnerAttrs["pod"]
	a.Since = attr.ActiveOwnerAttrs["timestamp"]
	switch held := (block.Allocation{Holder: block.Holder{Handle: attr.HandleID, Attrs: attr.ActiveOwnerAttrs}}); {
	case !attr.ReleasedAt.IsZero():
		a.Use, a.Since = Cooling, attr.ReleasedAt.UTC().Format(time.RFC3339)
	case held.Leased():
		a.Use = Leased
	}
}

// nth gives the address at an offset of at most 16 bits from a block's first.
func nth(p netip.Prefix, ordinal int) netip.Addr {
	raw := p.Addr().AsSlice()
	low := raw[len(raw)-2:]
	binary.BigEndian.PutUint16(low, binary.BigEndian.Uint16(low)+uint16(ordinal))
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

// of says whether the allocation is the endpoint's, as far as both say: its handle ends in the container and the
// interface (felix/endpoint, Handle), and both are on one node.
func (a Allocation) of(ep *api.WorkloadEndpoint) bool {
	if a.Node != "" && a.Node != ep.Spec.Node {
		return false
	}
	return ep.Spec.ContainerID == "" || strings.HasSuffix(a.Handle, "."+ep.Spec.ContainerID+"."+ep.Spec.Endpoint)
}

// sorted gives allocations in order of their addresses.
func sorted(all []Allocation) []Allocation {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(x, y Allocation) int { return x.Address.Compare(y.Address) })
	return all
}
