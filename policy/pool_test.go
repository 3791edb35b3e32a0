// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"testing"

	"korat/api"
	"korat/policy"
)

// Disabled pools are pools, and what is in the datastore without having been validated is none or is there once.
func TestPools(t *testing.T) {
	snap := api.Snapshot{}
	for i, spec := range []api.IPPoolSpec{
		{CIDR: "10.2.0.0/16", Disabled: true},
		{CIDR: "10.1.0.0/16", NATOutgoing: true},
		{CIDR: "fd00::/64", NATOutgoing: true},
		{CIDR: "10.2.0.0/16"},
		{CIDR: "everywhere"},
		{CIDR: "0.0.0.0/0"},
		{CIDR: "::ffff:10.0.0.0/104"},
		{},
	} {
		o := &api.IPPool{Spec: spec}
		o.Name = fmt.Sprint("p", i)
		snap = snap.With(o)
	}
	const want = "[{10.1.0.0/16 true} {10.2.0.0/16 false} {fd00::/64 true}]"
	if have := fmt.Sprint(policy.Pools(snap)); have != want {
		t.Errorf("have %s, want %s", have, want)
	}
}
