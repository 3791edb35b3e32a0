// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/compile"
)

// Other pools touch the chains that are for them, and nothing that policies say: no flow is looked at for them.
func TestPoolsTouchNoPolicy(t *testing.T) {
	o := compile.Options{Families: []api.Family{api.IPv4}}
	c := compile.New(o)
	c.Update()
	c.TakeAffected()
	for _, step := range []struct {
		cidrs []string
		nat   bool
		want  string
	}{
		{[]string{"10.1.0.0/16"}, false, "[]"},
		{[]string{"10.1.0.0/16"}, true, "[IPv4 nat POSTROUTING IPv4 nat cali-POSTROUTING IPv4 nat cali-nat-outgoing]"},
		{[]string{"10.1.0.0/16", "fd00::/64"}, true, "[]"},
		{[]string{"10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"}, true, "[IPv4 nat cali-nat-outgoing] new 10.1.0.0/16 10.2.0.0/16 10.3.0.0/16"},
		{[]string{"10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"}, false, "[IPv4 nat POSTROUTING IPv4 nat cali-POSTROUTING IPv4 nat cali-nat-outgoing] gone"},
	} {
		o.Pools = nil
		for _, p := range prefixes(step.cidrs...) {
			o.Pools = append(o.Pools, policy.Pool{Prefix: p, NATOutgoing: step.nat})
		}
		c.SetOptions(o)
		changes := c.Update()
		have := fmt.Sprint(changes.Chains)
		for _, set := range changes.Sets {
			if set.Gone {
				have += " gone"
			}
			if set.New {
				have += " new"
			}
			for _, m := range set.Added {
				have += " " + m.String()
			}
		}
		if have != step.want {
			t.Errorf("%v, NAT %t: have %s, want %s", step.cidrs, step.nat, have, step.want)
		}
		if a := c.TakeAffected(); !a.Empty() {
			t.Errorf("%v, NAT %t: affected: %+v", step.cidrs, step.nat, a)
		}
	}
}
