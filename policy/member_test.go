// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"testing"

	"korat/api"
	"korat/policy"
)

func TestCopy(t *testing.T) {
	for name, want := range map[string]string{
		"cali40s:aB-_": "cali40S:aB-_", "cali60n:x": "cali60N:x", "cali40svcnoport:x": "cali40SVCNOPORT:x",
	} {
		key := policy.SetKey{Name: name, Family: api.IPv6, Kind: policy.AddressPorts}
		copied := key.Copy()
		if copied.Name != want || copied.Family != key.Family || copied.Kind != key.Kind {
			t.Errorf("%v: have %v", key, copied)
		}
	}
}
