// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"net/netip"
	"testing"

	"korat/felix/dataplane"
	"korat/felix/reconcile"
)

// The digest of the routes is the same exactly as long as what is read is.
func TestRoutesDigest(t *testing.T) {
	h := newHost(t)
	h.Batch("address add fd00::10/64 dev eth0 nodad", "route add fd00:9::/64 via fd00::9 dev eth0")
	table := h.open().Routes()
	hop := dataplane.NextHop{Device: "eth0", Gateway: netip.MustParseAddr("192.0.2.9")}
	hop6 := dataplane.NextHop{Device: "eth0", Gateway: netip.MustParseAddr("fd00::9")}
	err := table.Write(t.Context(), reconcile.Diff[dataplane.RouteKey, dataplane.Route]{Set: routes{
		{Prefix: netip.MustParsePrefix("10.1.0.0/24")}: {NextHops: []dataplane.NextHop{hop}},
		{Prefix: netip.MustParsePrefix("fd01::/120")}:  {NextHops: []dataplane.NextHop{hop6}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	have, digest, err := table.ReadChanged(t.Context(), 0)
	if err != nil || len(have) != 2 || digest == 0 {
		t.Fatalf("have %v, digest %d, %v", have, digest, err)
	}
	for _, tt := range []struct {
		change  string
		changed bool
	}{
		{"link set cali1 alias x", false},
		{"route add fd00:8::/64 via fd00::9 dev eth0", false}, // another's, which shadows nothing
		{"route replace 10.1.0.0/24 via 192.0.2.8 dev eth0 proto 75", true},
		{"route prepend 10.1.0.0/24 via 192.0.2.7 dev eth0", true}, // another's, in front of ours
		{"route add fd02::/120 via fd00::9 dev eth0 proto 75", true},
		{"route delete fd01::/120 proto 75", true},
		{"link property add dev eth0 altname uplink", false},
		{"link set eth0 name eth1", true},
	} {
		h.Batch(tt.change)
		again, next, err := table.ReadChanged(t.Context(), digest)
		if err != nil {
			t.Fatal(err)
		}
		if (next != digest) != tt.changed || (again != nil) != tt.changed {
			t.Errorf("%s: another digest: %t, read: %t, want %t", tt.change, next != digest, again != nil, tt.changed)
		}
		digest = next
	}
}
