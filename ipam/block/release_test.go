// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"korat/ipam/block"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)

// TestReleaseOfStored: a release through the datastore names what has changed since the caller looked.
func TestReleaseOfStored(t *testing.T) {
	for cidr, first := range map[string]string{"10.0.0.0/30": "10.0.0.", "fd00::/126": "fd00::"} {
		addr := func(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprint(first, n)) }
		b := mustNew(t, cidr)
		for i, h := range []block.Holder{{Handle: "web"}, {Handle: "gone"}, block.Lease("a", "1")} {
			if err := b.AssignAddr(addr(i), h); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Release(addr(1), 2, noon); err != nil {
			t.Fatal(err)
		}
		spec := b.Spec()
		before, _ := json.Marshal(spec)
		for _, c := range []struct {
			addr     netip.Addr
			sequence uint64
			want     string
		}{
			{addr(0), 7, `assignment has changed meanwhile: now number 1 of handle "web", not 7`},
			{addr(1), 2, "assignment has changed meanwhile: it was released at 2026-03-01T12:00:00Z"},
			{addr(2), 3, `node "a" has leased it: it is that node's to give back`},
			{addr(3), 3, "assignment has changed meanwhile: it is free"},
			{netip.MustParseAddr("192.0.2.1"), 1, "block " + cidr + ": address is outside the block"},
		} {
			if _, err := block.Release(spec, c.addr, c.sequence, noon); err == nil || err.Error() != "release "+c.addr.String()+": "+c.want {
				t.Errorf("%s: %v, want %s", c.addr, err, c.want)
			}
		}
		free, err := block.Release(spec, addr(0), 1, time.Time{})
		if err != nil || free.Allocations[0] != nil || free.SequenceNumber != spec.SequenceNumber+1 {
			t.Errorf("freed at once: %v, %v", err, free)
		}
		cool, err := block.Release(spec, addr(0), 1, noon)
		if err != nil || cool.Attributes[*cool.Allocations[0]].ReleasedAt.Format(time.RFC3339Nano) != "2026-03-01T12:00:00Z" {
			t.Errorf("cooling down: %v, %v", err, cool)
		}
		if after, _ := json.Marshal(spec); string(after) != string(before) {
			t.Errorf("the caller's copy was changed: %s, was %s", after, before)
		}
	}
}

// TestCoolingIsStored: the time survives being written and read, and one attribute serves all that were released at once.
func TestCoolingIsStored(t *testing.T) {
	b := mustNew(t, "10.0.0.0/30")
	b.Assign(2, block.Holder{Handle: "h", Attrs: map[string]string{"pod": "p"}}, nil)
	b.ReleaseByHandle("h", noon)
	have, _ := json.Marshal(b.Spec())
	want := `{"cidr":"10.0.0.0/30","affinity":"host:a","allocations":[0,0,null,null],"unallocated":[2,3],` +
		`"attributes":[{"handle_id":"h","secondary":{"pod":"p"},"releasedAt":"2026-03-01T12:00:00Z"}],` +
		`"sequenceNumber":4,"sequenceNumberForAllocation":{"0":3,"1":4}}`
	if diff := cmp.Diff(want, string(have)); diff != "" {
		t.Error(diff)
	}
	read, err := block.From(b.Spec())
	if err != nil || !read.Equal(b) || !b.Equal(read) {
		t.Fatalf("read back: %v", err)
	}
	first, second := netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("10.0.0.1")
	for _, err := range []error{read.AssignAddr(first, block.Holder{Handle: "i"}), read.Hold(second, block.Holder{Handle: "h"})} {
		if err != nil {
			t.Error(err)
		}
	}
	read.Thaw(first)
	if have := text(read); have != "10.0.0.0=i#5 10.0.0.1=h#6 free 2 3" || read.Equal(b) {
		t.Errorf("taken again: %s", have)
	}
	b.Thaw(first)
	b.Thaw(netip.MustParseAddr("10.0.0.2"))
	if have := text(b); have != "10.0.0.1=h#4 free 2 3 0" {
		t.Errorf("thawed: %s", have)
	}
	spec := b.Spec()
	spec.Attributes[0].HandleID = "" // as others write it
	if _, err := block.From(spec); err != nil {
		t.Error(err)
	}
	spec.Attributes[0].ReleasedAt = nil
	if _, err := block.From(spec); err == nil || !strings.Contains(err.Error(), "handle_id is empty") {
		t.Errorf("nobody's: %v", err)
	}
}

func TestLease(t *testing.T) {
	b := mustNew(t, "10.0.0.0/30")
	a := netip.MustParseAddr("10.0.0.0")
	_ = b.AssignAddr(a, block.Lease("n", "1"))
	al, _ := b.At(a)
	if !al.Leased() || !al.LeasedBy("n", "1") || al.LeasedBy("n", "2") || al.LeasedBy("m", "1") {
		t.Errorf("lease %v", al)
	}
	b.Entitle(a, block.Holder{Handle: "web", Attrs: map[string]string{"node": "n"}})
	if have, _ := b.At(a); have.Leased() || have.Handle != "web" || have.Sequence != al.Sequence || b.Sequence() != 2 {
		t.Errorf("passed on: %v, block at %d", have, b.Sequence())
	}
}
