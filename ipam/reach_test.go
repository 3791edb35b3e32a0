// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"testing"

	"korat/api"
)

// A node without an address of a family claims no block of it ahead of use, and gives back what it has of it once that
// is empty.
func TestFamiliesOfTheNode(t *testing.T) {
	both := synced(pool("four", "10.0.0.0/16", 30), pool("six", "fd00::/64", 126))
	owning := own(t, own(t, both, "a", "10.0.0.0/30", ""), "a", "fd00::/126", "")
	for _, c := range []struct {
		families []api.Family
		needs    string
		idle     string
	}{
		{api.Families(), "four, six", "[]"},
		{[]api.Family{api.IPv4}, "four", "[{fd00::/126 true}]"},
		{[]api.Family{api.IPv6}, "six", "[{10.0.0.0/30 true}]"},
	} {
		a := node(both)
		a.SetFamilies(c.families...)
		if have := needs(a); have != c.needs {
			t.Errorf("%v: needs %q, want %q", c.families, have, c.needs)
		}
		a.Update(owning)
		if have := fmt.Sprint(a.Idle()); have != c.idle {
			t.Errorf("%v: idle %s, want %s", c.families, have, c.idle)
		}
		a.Restore("pods", nil, addrs("10.0.0.1", "fd00::1"))
		if have := a.Idle(); len(have) > 0 {
			t.Errorf("%v: idle %v although pods have addresses of both", c.families, have)
		}
	}
}
