// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"testing"
)

// FuzzParseAddress takes arbitrary text for --ip: what is taken is an IPv4 address, which its text gives again.
func FuzzParseAddress(f *testing.F) {
	for _, text := range []string{"192.0.2.1", "192.0.2.1/24", "2001:db8::1", "192.0.2.1/", "/", "", "::ffff:192.0.2.1", "192.0.2.1%eth0", "192.0.2.01", "192.0.2.1/24/24"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		addr, err := parseAddress(text)
		if err != nil {
			return
		}
		if again, err := netip.ParseAddr(addr.String()); err != nil || again != addr || !addr.Is4() {
			t.Errorf("%q gave %v, which parses as %v, %v", text, addr, again, err)
		}
	})
}
