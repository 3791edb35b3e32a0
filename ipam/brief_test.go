// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
)

// sight is what a node sees of each block, which is brief where it may be.
type sight map[*api.IPAMBlock]*api.IPAMBlock

// of gives what the node sees of a picture. What did not change is the very same object as before.
func (s sight) of(t *testing.T, node string, all api.Snapshot) api.Snapshot {
	t.Helper()
	for _, obj := range all.IPAMBlocks.All() {
		if s[obj] == nil {
			value, err := json.Marshal(obj)
			if err != nil {
				t.Fatal(err)
			}
			if s[obj] = Brief(node, obj.Key(), value); s[obj] == nil {
				s[obj] = obj
			}
		}
		all = all.With(s[obj])
	}
	return all
}

// What a node keeps of a block is its range, its owner and its number, unless the block is its own, has an address that is or was
// its pods', or lends.
func TestBrief(t *testing.T) {
	blk := &api.IPAMBlock{Spec: api.IPAMBlockSpec{
		CIDR: "10.0.0.0/30", Affinity: new("host:b"), Allocations: []*int{new(0), new(1), nil, nil}, Unallocated: []int{2, 3},
		Attributes: []api.AllocationAttribute{
			{HandleID: "h0", ActiveOwnerAttrs: map[string]string{"node": "b", "pod": "p"}},
			{HandleID: "h1", ActiveOwnerAttrs: map[string]string{"node": "c"}, ReleasedAt: new(api.Time{Time: noon})},
		},
		SequenceNumber: 7, SequenceNumberForAllocation: map[string]uint64{"0": 5, "1": 6},
	}}
	blk.Name, blk.UID, blk.Annotations = "10-0-0-0-30", "u", map[string]string{"note": "x"}
	brief := func(node string) *api.IPAMBlock {
		value, err := json.Marshal(blk)
		if err != nil {
			t.Fatal(err)
		}
		return Brief(node, blk.Key(), value)
	}
	want := &api.IPAMBlock{Spec: api.IPAMBlockSpec{CIDR: "10.0.0.0/30", Affinity: new("host:b"), SequenceNumber: 7}}
	want.Name, want.UID = "10-0-0-0-30", "u"
	if diff := cmp.Diff(want, brief("a")); diff != "" {
		t.Errorf("another node's: %s", diff)
	}
	if brief("b") != nil || brief("c") != nil {
		t.Error("less than a node needs")
	}
	blk.Annotations[lendingAnnotation] = lendingPrepared
	if brief("a") != nil {
		t.Error("less than it takes to borrow")
	}
	blk.Annotations, blk.Spec.Affinity = nil, nil
	if brief("a") != nil {
		t.Error("a block without an owner is brief")
	}
}

// What a node has borrowed is given back once the block is brief: nothing in it is the node's any more.
func TestBriefEndsLoan(t *testing.T) {
	const cidr = "10.0.0.0/29"
	st, a := lender(t, cidr)
	b := needy(t, st)
	ask(b, auto("h"))
	share(t, st, b)
	if have := ask(b, auto("h")); have != "10.0.0.4" {
		t.Fatalf("have %s", have)
	}
	share(t, st, b)
	switchTo(t, st, true)
	a.Update(picture(t, st))
	settleDown(t, st, a)
	see := func() string {
		b.Update(sight{}.of(t, "b", picture(t, st)))
		return fmt.Sprint(b.Borrowed(), len(b.Loans()), len(b.loans.containing(netip.MustParseAddr("10.0.0.4")).stored.Spec.Allocations))
	}
	if have := see(); have != "[10.0.0.4] 0 8" {
		t.Fatalf("borrowed, loans to write, size of what is seen: %s", have)
	}
	b.Release("h")
	if have := see(); have != "[] 1 8" {
		t.Fatalf("released: %s", have)
	}
	writer := newBorrower(st, "b", quiet())
	if _, err := writer.all(t.Context(), b.Wants(), noon); err != nil {
		t.Fatal(err)
	}
	if have := see(); have != "[] 0 0" {
		t.Errorf("given back: %s", have)
	}
}
