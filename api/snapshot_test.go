// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"strings"
	"testing"
)

func TestAffinitiesOf(t *testing.T) {
	long := strings.Repeat("n", 240) // names of its affinities are shortened
	var snap Snapshot
	add := func(node, cidr string) {
		aff := &BlockAffinity{}
		aff.Name = AffinityName(node, netip.MustParsePrefix(cidr))
		aff.Spec = BlockAffinitySpec{Node: node, CIDR: cidr}
		snap.BlockAffinities = snap.BlockAffinities.With(aff)
	}
	for _, node := range []string{"a", "a-1", "a.b", "b", long} {
		add(node, "10.0.0.0/24")
		add(node, "1234:5678:9abc:def1:2345:6789:abcd:ef00/122")
	}
	for _, tt := range []struct {
		node string
		want int
	}{{"a", 2}, {"a-1", 2}, {"a.b", 2}, {long, 2}, {"c", 0}, {"", 0}} {
		n := 0
		for name, aff := range snap.AffinitiesOf(tt.node) {
			if aff.Spec.Node != tt.node || aff.Name != name {
				t.Errorf("node %q: got %s of %q under %q", tt.node, aff.Name, aff.Spec.Node, name)
			}
			n++
		}
		if n != tt.want {
			t.Errorf("node %q: %d affinities, want %d", tt.node, n, tt.want)
		}
	}
	for range snap.AffinitiesOf("a") {
		break // stops at once
	}
}
