// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"strings"
	"testing"

	"korat/api"
)

// What is not understood of a policy is told; of other kinds, what a later version has added is left out.
func TestRestore(t *testing.T) {
	for _, c := range []struct {
		key   api.Key
		value string
		// want is in the reason for which the object is Unreadable, and err in the error; none of both: it is readable.
		want, err string
	}{
		{api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: "p"}, `{"metadata":{"name":"p","namespace":"ns"},"spec":{"selector":"all()"}}`, "", ""},
		{api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: "p"}, `{"metadata":{"name":"p","namespace":"ns"},"spec":{"unless":1}}`, `unknown field "spec.unless"`, ""},
		{api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: "p"}, `{"metadata":{"name":"p","namespace":"ns"},"spec":{"order":"high"}}`, "cannot unmarshal", ""},
		{api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "p"}, `{"metadata":{"name":"other"}}`, "the value is GlobalNetworkPolicy/other", ""},
		{api.Key{Kind: api.KindProfile, Name: "kns.ns"}, `no JSON`, "invalid character", ""},
		{api.Key{Kind: api.KindIPPool, Name: "p"}, `{"metadata":{"name":"p"},"spec":{"later":1}}`, "", ""},
		{api.Key{Kind: api.KindIPPool, Name: "p"}, `no JSON`, "", "invalid character"},
	} {
		obj, err := api.Restore(c.key, []byte(c.value))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %s", c.value, err, c.err)
			}
			continue
		}
		if err != nil || obj.Key() != c.key {
			t.Errorf("%s: have %v, %v", c.value, obj, err)
			continue
		}
		if have := api.Unreadable(obj); (have == "") != (c.want == "") || !strings.Contains(have, c.want) {
			t.Errorf("%s: unreadable %q, want %q", c.value, have, c.want)
		}
		stored, err := api.Stored(obj)
		if (err == nil) != (c.want == "") {
			t.Errorf("%s: stored as %v, %v", c.value, stored, err)
		}
	}
}
