// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"testing"

	"korat/api"
)

// FuzzParseAddress takes arbitrary text for --ip and --ip6: what is taken is an address of the family, which its
// text gives again.
func FuzzParseAddress(f *testing.F) {
	for _, text := range []string{"192.0.2.1", "192.0.2.1/24", "2001:db8::1", "192.0.2.1/", "/", "", "::ffff:192.0.2.1", "192.0.2.1%eth0", "192.0.2.01", "192.0.2.1/24/24", "fd00::1%eth0", "fd00::1/64", "fe80::1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, f := range api.Families() {
			addr, err := parseAddress(f, text)
			if err != nil {
				continue
			}
			if again, err := netip.ParseAddr(addr.String()); err != nil || again != addr || !f.Has(addr) {
				t.Errorf("%q gave %v, which parses as %v, %v", text, addr, again, err)
			}
		}
	})
}
