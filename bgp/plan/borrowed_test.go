// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/bgp/plan"
)

// TestBorrowed: a borrowed address is advertised by itself, where its pool's blocks would be.
func TestBorrowed(t *testing.T) {
	w := new(world).node("a", "10.0.0.9/24", 0).pool("172.17.0.0/16", false).pool("172.18.0.0/16", true).pool("fd00:17::/48", false).
		block("172.17.8.0/24", "b", "confirmed", "b")
	in := plan.Input{
		Snapshot: w.s, Node: "a", Connected: []netip.Prefix{netip.MustParsePrefix("172.17.99.0/24")},
		Addresses: api.Addresses{IPv4: netip.MustParsePrefix("10.0.0.9/24")},
	}
	for _, addr := range []string{"172.17.8.5", "172.17.99.5", "172.18.0.5", "172.19.0.5", "fd00:17::5"} {
		in.Borrowed = append(in.Borrowed, netip.MustParseAddr(addr))
	}
	want := []string{
		"borrowed address 172.17.99.5 is in 172.17.99.0/24, a subnet that this node is connected to; not advertised: move its pod to an IPPool with another range",
		"borrowed address 172.19.0.5 is in no IPPool; not advertised, so other nodes can't reach its pod: create the IPPool again, or remove it",
		"borrowed address fd00:17::5: this node has no IPv6 address that would be its next hop; not advertised, so other nodes can't reach its pod:",
	}
	for range 2 {
		p, problems := plan.Plan(in)
		have := strings.Split(strings.Trim(render(p, nil), "\n"), "\n")[1:]
		origins := []string{"origin 172.17.8.5/32"}
		if len(want) == 2 {
			origins = append(origins, "origin fd00:17::5/128")
		}
		if diff := cmp.Diff(origins, have); diff != "" {
			t.Error(diff)
		}
		for i, err := range problems {
			if i >= len(want) || !strings.HasPrefix(err.Error(), want[i]) {
				t.Errorf("problem %v", err)
			}
		}
		if len(problems) != len(want) {
			t.Errorf("%d problems, want %d", len(problems), len(want))
		}
		in.Addresses.IPv6, want = netip.MustParsePrefix("fd00::9/64"), want[:2]
	}
}
