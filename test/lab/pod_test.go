// SPDX-License-Identifier: Apache-2.0

package lab

import "testing"

func TestLabelled(t *testing.T) {
	const web = `"labels":[{"key":"app","value":"web"},{"key":"tier","value":"1"}]`
	cases := []struct{ network, want string }{
		{`{"type":"korat"}`, `{"args":{"cni":{` + web + `}},"type":"korat"}`},
		{
			`{"type":"korat","args":{"cni":{"ips":["192.0.2.1"]},"x":{}},"ipam":{"assign_ipv4":"true"}}`,
			`{"args":{"cni":{"ips":["192.0.2.1"],` + web + `},"x":{}},"ipam":{"assign_ipv4":"true"},"type":"korat"}`,
		},
	}
	for _, c := range cases {
		if have, err := labelled(c.network, map[string]string{"tier": "1", "app": "web"}); err != nil || have != c.want {
			t.Errorf("%s: have %s, %v, want %s", c.network, have, err, c.want)
		}
	}
	if have, err := labelled("no JSON", nil); err != nil || have != "no JSON" {
		t.Errorf("without labels: %q, %v, want what was given", have, err)
	}
	if _, err := labelled("no JSON", map[string]string{"a": "b"}); err == nil {
		t.Error("labels for what is no JSON: no error")
	}
}
