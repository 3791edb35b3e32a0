// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	"korat/api"
)

// storedBlock is what Brief reads of a datastore's value.
type storedBlock struct {
	Metadata struct {
		Name        string            `json:"name"`
		UID         types.UID         `json:"uid"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		CIDR           string         `json:"cidr"`
		Affinity       *string        `json:"affinity"`
		SequenceNumber uint64         `json:"sequenceNumber"`
		Attributes     []storedHolder `json:"attributes"`
	} `json:"spec"`
}

type storedHolder struct {
	Secondary struct {
		Node string `json:"node"`
	} `json:"secondary"`
}

// Brief gives what a node's Allocator and Keeper need of another node's block, from a datastore's value: range, owner and number.
// In a large cluster these are most blocks, and what they hold is most of them. It is nil where a node needs more: of its own
// block, of one in which it has or has had an address, of one that lends, and of what is not understood.
func Brief(node string, key api.Key, value []byte) *api.IPAMBlock {
	var have storedBlock
	if kjson.UnmarshalCaseSensitivePreserveInts(value, &have) != nil || have.Metadata.Name != key.Name {
		return nil
	}
	if have.Spec.Affinity == nil || *have.Spec.Affinity == affinityOf(node) || have.Metadata.Annotations[lendingAnnotation] != "" ||
		slices.ContainsFunc(have.Spec.Attributes, func(h storedHolder) bool { return h.Secondary.Node == node }) {
		return nil
	}
	brief := &api.IPAMBlock{Spec: api.IPAMBlockSpec{
		CIDR: have.Spec.CIDR, Affinity: have.Spec.Affinity, SequenceNumber: have.Spec.SequenceNumber,
	}}
	brief.Name, brief.UID = have.Metadata.Name, have.Metadata.UID
	return brief
}

// isBrief says whether a block is what Brief gives: each other one has an entry for each of its addresses.
func isBrief(obj *api.IPAMBlock) bool { return len(obj.Spec.Allocations) == 0 }
