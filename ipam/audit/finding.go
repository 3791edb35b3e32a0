// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"korat/api"
)

// Kind says what is wrong.
type Kind string

// The kinds, in the order in which they are reported.
const (
	Unreadable             Kind = "unreadable object"
	OverlappingBlocks      Kind = "overlapping blocks"
	TwiceAllocated         Kind = "address in two blocks"
	SeveralEndpoints       Kind = "several endpoints with one address"
	HeldByAnother          Kind = "endpoint whose address another holds"
	HandleOnSeveralNodes   Kind = "handle on several nodes"
	WithoutEndpoint        Kind = "allocation without endpoint"
	WithoutAllocation      Kind = "endpoint without allocation"
	EndpointOutsidePools   Kind = "endpoint outside every pool"
	EndpointWithoutNode    Kind = "endpoint of a node that does not exist"
	BlockOutsidePools      Kind = "block outside every pool"
	BlockWithoutAffinity   Kind = "block without affinity"
	AffinityWithoutBlock   Kind = "affinity without block"
	AffinityOfAnotherBlock Kind = "affinity to another node's block"
	AffinityWithoutNode    Kind = "affinity of a node that does not exist"
	StaleLease             Kind = "lease of a node that does not exist"
	StaleBorrowing         Kind = "address borrowed by a node that does not exist"
	PoolTerminating        Kind = "pool being deleted"
)

// Kinds lists them.
func Kinds() []Kind {
	return []Kind{
		Unreadable, OverlappingBlocks, TwiceAllocated, SeveralEndpoints, HeldByAnother, HandleOnSeveralNodes,
		WithoutEndpoint, WithoutAllocation, EndpointOutsidePools, EndpointWithoutNode, BlockOutsidePools,
		BlockWithoutAffinity, AffinityWithoutBlock, AffinityOfAnotherBlock, AffinityWithoutNode, StaleLease,
		StaleBorrowing, PoolTerminating,
	}
}

// underWay is how young an allocation is that is not expected to have its endpoint yet: a pod that is just being
// attached.
const underWay = time.Minute

// Finding is one contradiction.
type Finding struct {
	Kind Kind `json:"kind"`
	// Object is what to look at, as "Kind/name".
	Object  string     `json:"object"`
	Address netip.Addr `json:"address,omitzero"`
	// Handle and Sequence tell one assignment of the address from a later one.
	Handle   string `json:"handle,omitempty"`
	Sequence uint64 `json:"sequence,omitempty"`
	Detail   string `json:"detail"`
	// Remedy says what to do about it.
	Remedy string `json:"remedy"`
}

// Same says whether two reads found the same thing.
func (f Finding) Same(o Finding) bool { return f.identity() == o.identity() }

func (f Finding) identity() Finding {
	f.Detail, f.Remedy = "", ""
	return f
}

// Confirmed gives the findings that earlier ones have as well. What only one read shows may have been under way.
func Confirmed(earlier, later []Finding) []Finding {
	known := identities(earlier)
	return slices.DeleteFunc(slices.Clone(later), func(f Finding) bool { return !known[f.identity()] })
}

func identities(all []Finding) map[Finding]bool {
	known := make(map[Finding]bool, len(all))
	for _, f := range all {
		known[f.identity()] = true
	}
	return known
}

// Findings gives all that is wrong, in the order of Kinds, and by address or object within one.
func (b *Book) Findings(now time.Time) []Finding {
	all := slices.Concat(b.unread, b.blockFindings(), b.affinityFindings(), b.addressFindings(now), b.handleFindings(),
		b.endpointFindings(), b.poolFindings())
	rank := map[Kind]int{}
	for i, k := range Kinds() {
		rank[k] = i
	}
	slices.SortStableFunc(all, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(rank[x.Kind], rank[y.Kind]), x.Address.Compare(y.Address), cmp.Compare(x.Object, y.Object))
	})
	return all
}

func (b *Book) cannotRead(obj api.Object, err error) {
	remedy := "correct it with koratctl apply"
	switch obj.Key().Kind {
	case api.KindIPAMBlock, api.KindBlockAffinity, api.KindWorkloadEndpoint:
		remedy = "no address of it is used: restore it from a backup of the datastore, or remove its pods and delete it there"
	default:
	}
	b.unread = append(b.unread, Finding{Kind: Unreadable, Object: obj.Key().String(), Detail: err.Error(), Remedy: remedy})
}

// ofAddress gives a finding about one assignment.
func ofAddress(kind Kind, a Allocation, detail, remedy string) Finding {
	return Finding{
		Kind: kind, Object: "IPAMBlock/" + blockName(a.Block), Address: a.Address, Handle: a.Handle, Sequence: a.Sequence,
		Detail: detail, Remedy: remedy,
	}
}

func blockName(cidr string) string {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return cidr
	}
	return api.BlockName(p)
}

// whose says whose a block is, for text.
func whose(owner string) string {
	if owner == "" {
		return "of no node"
	}
	return fmt.Sprintf("of node %s", owner)
}
