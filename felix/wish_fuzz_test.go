// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"encoding/json"
	"net/netip"
	"testing"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
)

// FuzzWanted asks for families, pools and addresses that no plugin would: what is passed on to ipam has none but
// known families, and a node gives none that it is not reached by.
func FuzzWanted(f *testing.F) {
	for _, text := range []string{
		`{"verb":"ADD","containerID":"c","ifName":"eth0","families":[{"version":4},{"version":6,"pools":["p","fd00::/64"]}],"addresses":["10.0.0.1","fd00::1"]}`,
		`{"families":[{"version":5}]}`, `{"families":[{"version":0},{"version":-6},{"version":260}]}`,
		`{"families":[{"version":4},{"version":4}],"addresses":["10.0.0.1","10.0.0.1"]}`,
		`{"addresses":["fe80::1%eth0","::ffff:10.0.0.1",""]}`,
	} {
		f.Add([]byte(text))
	}
	four := api.Addresses{IPv4: netip.MustParsePrefix("192.0.2.1/24")}
	ep := endpoint.Endpoint{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r socket.Request
		if json.Unmarshal(data, &r) != nil {
			return
		}
		_ = sameRequest(ep, r)
		want, err := wanted(ep, r)
		if err != nil {
			return
		}
		for _, family := range want.Families {
			if family != api.IPv4 && family != api.IPv6 {
				t.Errorf("%s asks for %d", data, family)
			}
			if family == api.IPv6 && servable(r, four) == nil {
				t.Errorf("%s is served by a node without IPv6", data)
			}
		}
	})
}
