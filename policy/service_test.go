// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"
	"testing"

	"korat/api"
)

func TestBehind(t *testing.T) {
	const head = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: web}}\n"
	tests := map[string]struct{ slice, want string }{
		"nobody": {"addressType: IPv4\nendpoints: []\nports: [{port: 80}]", ""},
		"each with each port, and without": {
			"addressType: IPv4\nendpoints: [{addresses: [10.0.0.1, 10.0.0.2]}, {addresses: [10.0.0.3], conditions: {ready: false}}]\nports: [{name: a, port: 80}, {name: b, port: 53, protocol: UDP}]",
			"10.0.0.1/32 10.0.0.1,6:80 10.0.0.1,17:53 10.0.0.2/32 10.0.0.2,6:80 10.0.0.2,17:53 10.0.0.3/32 10.0.0.3,6:80 10.0.0.3,17:53",
		},
		"IPv6, without ports":    {"addressType: IPv6\nendpoints: [{addresses: ['fd00::1']}]", "fd00::1/128"},
		"a port without number":  {"addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{name: any}, {port: 9, protocol: SCTP, name: b}]", "10.0.0.1/32 10.0.0.1,132:9"},
		"no protocol that it is": {"addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{port: 1, protocol: ICMP}]", "10.0.0.1/32"},
		"no address":             {"addressType: FQDN\nendpoints: [{addresses: [web, 10.0.0.1]}]", `10.0.0.1/32 EndpointSlice/shop/s: endpoints[0].addresses[0]: "web": must be an address or a CIDR such as "10.0.0.0/24" or "fd00:10::/64"`},
		"a net":                  {"addressType: IPv4\nendpoints: [{addresses: [10.0.0.0/8]}]", `EndpointSlice/shop/s: endpoints[0].addresses[0]: "10.0.0.0/8": must be one address`},
		"no port":                {"addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{port: 65536}]", "10.0.0.1/32 EndpointSlice/shop/s: ports[0].port: 65536: must be 1..65535"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			objs, err := api.Decode([]byte(head + tt.slice))
			if err != nil {
				t.Fatal(err)
			}
			slice := objs[0].(*api.EndpointSlice)
			if s, ok := ServiceOf(slice); !ok || s != (Service{"shop", "web"}) {
				t.Errorf("service: %v %t", s, ok)
			}
			var all []string
			members, err := Behind(slice)
			for _, m := range members {
				all = append(all, m.String())
			}
			if err != nil {
				all = append(all, fmt.Sprint(err))
			}
			if have := strings.Join(all, " "); have != tt.want {
				t.Errorf("have %s\nwant %s", have, tt.want)
			}
		})
	}
}
