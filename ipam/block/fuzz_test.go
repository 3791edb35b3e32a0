// SPDX-License-Identifier: Apache-2.0

package block_test

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"korat/api"
	"korat/ipam/block"
)

// FuzzFrom reads arbitrary stored blocks: one that is taken holds each of its addresses once, free or held, is the
// same when it is written and read again, and an address that is released is never held afterwards.
func FuzzFrom(f *testing.F) {
	for _, cidr := range []string{"10.0.0.0/30", "fd00::/126"} {
		b, err := block.New(netip.MustParsePrefix(cidr), "host:a")
		if err != nil {
			f.Fatal(err)
		}
		text, err := json.Marshal(b.Spec())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{
		`{"cidr":"10.0.0.0/31","affinity":"host:a","allocations":[0,null],"unallocated":[1],"attributes":[{"handle_id":"h"}],"sequenceNumber":3,"sequenceNumberForAllocation":{"0":2}}`,
		`{"cidr":"10.0.0.0/31","allocations":[0,0],"unallocated":[],"attributes":[{"handle_id":"h","releasedAt":"2026-01-01T00:00:00Z"}]}`,
		`{"cidr":"10.0.0.0/31","allocations":[-1,null],"unallocated":[1]}`,
		`{"cidr":"10.0.0.0/31","allocations":[null,null],"unallocated":[1,1]}`,
		`{"cidr":"0.0.0.0/0","allocations":[]}`, `{"cidr":"::/0"}`, `{"cidr":"10.0.0.1/31"}`, `{"cidr":"::ffff:10.0.0.0/127"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var spec api.IPAMBlockSpec
		if json.Unmarshal(data, &spec) != nil {
			return
		}
		b, err := block.From(spec)
		if err != nil {
			return
		}
		first := specText(t, b.Spec())
		again, err := block.From(b.Spec())
		if err != nil || specText(t, again.Spec()) != first {
			t.Errorf("%s became\n%s, %v", data, first, err)
		}
		addr := netip.MustParsePrefix(spec.CIDR).Addr()
		released, err := block.Release(spec, addr, sequenceOf(b, addr), time.Time{})
		if err != nil {
			return
		}
		after, err := block.From(released)
		if err != nil {
			t.Fatalf("%s without %s: %v", data, addr, err)
		}
		if _, held := after.At(addr); held {
			t.Errorf("%s was released and is held", addr)
		}
	})
}

func sequenceOf(b *block.Block, addr netip.Addr) uint64 {
	a, _ := b.At(addr)
	return a.Sequence
}

func specText(t *testing.T, spec api.IPAMBlockSpec) string {
	t.Helper()
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
