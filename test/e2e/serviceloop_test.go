// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"korat/test/lab"
)

// TestServiceLoops: what is for an address in FelixConfiguration's serviceCIDRs, and what nobody has translated, is not
// forwarded, in both families; explain says so. The host itself may go there, and so may pods where prevention is off.
func TestServiceLoops(t *testing.T) {
	w := clusterOf(t, lab.Dual, 2)
	a, b := w.host("a"), w.host("b")
	pod := w.pod(a, "a1")
	w.matrix(w.places())
	services := []netip.Addr{netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("2001:db8:96::9")}
	for i, addr := range services {
		// b answers there, as what a loop goes around would not.
		w.commands(b, fmt.Sprintf("ip address add %s dev lo", netip.PrefixFrom(addr, addr.BitLen())))
		w.commands(a, fmt.Sprintf("ip route add %s via %s", addr, b.Addresses()[i]))
	}
	forwards := func(want bool) {
		t.Helper()
		w.until(fmt.Sprintf("a pod reaches services' addresses: %t", want), func(ctx context.Context) error {
			for _, addr := range services {
				if _, err := lab.Ping(ctx, pod, addr); (err == nil) != want {
					return fmt.Errorf("%s: %w", addr, errors.Join(err, errors.New("that is not wanted")))
				}
			}
			return nil
		})
		for _, addr := range services {
			if err := reach(w.limit(), a, addr); err != nil {
				t.Error(err)
			}
			have := w.try(a, "", "koratctl", "explain", "--from", "default/a1", "--to", addr.String(), "--proto", "tcp", "--port", "80")
			if said := strings.Contains(have.stdout, "serviceCIDRs"); said == want {
				t.Errorf("explain, services' addresses reached %t: %s%s", want, have.stdout, have.stderr)
			}
		}
	}
	felix := func(more string) {
		w.koratctl(a, "apply", "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {serviceCIDRs: [198.51.100.0/24, \"2001:db8:96::/112\"]"+more+"}\n")
	}
	forwards(true)
	felix("")
	forwards(false)
	felix(", serviceLoopPrevention: Disabled")
	forwards(true)
}
