// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"

	"korat/api"
)

// Of what is not understood whole nothing is left out: it denies, both ways, for those that it may be for.
func TestUnreadable(t *testing.T) {
	for value, selector := range map[string]string{
		`{"metadata":{"name":"p","namespace":"ns"},"spec":{"selector":"app == 'web'","later":1,"ingress":[{"action":"Allow"}]}}`: `app == "web"`,
		`no JSON`: "",
	} {
		obj, err := api.Restore(api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: "p"}, []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		p, err := Of(obj)
		if err == nil || !strings.Contains(err.Error(), "NetworkPolicy/ns/p") {
			t.Errorf("%s: error %v", value, err)
		}
		for _, d := range []api.PolicyType{api.Ingress, api.Egress} {
			if rules := p.Rules(d); !p.Applies(d) || len(rules) != 1 || rules[0].Action != api.Deny {
				t.Errorf("%s: %s applies %t, rules %v", value, d, p.Applies(d), rules)
			}
		}
		if have := p.Selector.String(); !strings.Contains(have, selector) || !strings.Contains(have, `"ns"`) {
			t.Errorf("%s: for %s", value, have)
		}
	}
	obj, err := api.Restore(api.Key{Kind: api.KindProfile, Name: "kns.ns"}, []byte(`{"metadata":{"name":"kns.ns"},"spec":{"later":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	p, err := ProfileOf(obj.(*api.Profile))
	if err == nil || len(p.Ingress) != 1 || p.Ingress[0].Action != api.Deny || p.Egress[0].Action != api.Deny {
		t.Errorf("profile %v, %v", p, err)
	}
}
