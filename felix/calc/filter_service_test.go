// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"korat/api"
)

const servicePolicy = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: up}
spec:
  selector: up == 'yes'
  types: [Ingress, Egress]
  ingress: [{action: Allow, source: {services: {name: web, namespace: shop}}}]
  egress: [{action: Allow, destination: {services: {name: web, namespace: shop}}}]
`

func sliceText(name, service, addresses, ports string) string {
	return fmt.Sprintf("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s, namespace: shop, labels: {kubernetes.io/service-name: %s}}\n"+
		"addressType: IPv4\nendpoints: [{addresses: [%s]}]\nports: [%s]\n", name, service, addresses, ports)
}

// A service's sets have what all of its slices say together. What is in several stays until it is in none.
func TestServices(t *testing.T) {
	w := newTold(t, servicePolicy+hostEndpointText("e", "node: a, interfaceName: eth0", "up: 'yes'"))
	want := func(what, members string) {
		t.Helper()
		changes := w.Update()
		var all []string
		for key := range changes.Sets.Sets() {
			for m := range changes.Sets.Members(key) {
				all = append(all, m.String())
			}
		}
		slices.Sort(all)
		if have := strings.Join(all, " "); have != members {
			t.Errorf("%s: have %s, want %s", what, have, members)
		}
	}
	want("no slice", "")
	w.apply(sliceText("one", "web", "10.0.0.1", "{port: 80}"))
	want("one slice", "10.0.0.1,6:80 10.0.0.1/32")
	w.apply(sliceText("two", "web", "10.0.0.1, 10.0.0.2", "{port: 80}, {port: 53, protocol: UDP, name: dns}"))
	want("two slices", "10.0.0.1,17:53 10.0.0.1,6:80 10.0.0.1/32 10.0.0.2,17:53 10.0.0.2,6:80 10.0.0.2/32")
	w.apply(sliceText("other", "db", "10.0.0.9", "{port: 80}"))
	want("another service", "10.0.0.1,17:53 10.0.0.1,6:80 10.0.0.1/32 10.0.0.2,17:53 10.0.0.2,6:80 10.0.0.2/32")
	w.apply(sliceText("two", "db", "10.0.0.1, 10.0.0.2", "{port: 80}"))
	want("a slice goes to another service", "10.0.0.1,6:80 10.0.0.1/32")
	w.apply(sliceText("two", "web", "10.0.0.2", ""))
	want("and comes back without ports", "10.0.0.1,6:80 10.0.0.1/32 10.0.0.2/32")
	w.remove(api.Key{Kind: api.KindEndpointSlice, Namespace: "shop", Name: "one"})
	want("the first is gone", "10.0.0.2/32")
	w.remove(api.Key{Kind: api.KindEndpointSlice, Namespace: "shop", Name: "two"})
	want("all are gone", "")
	w.remove(api.Key{Kind: api.KindEndpointSlice, Namespace: "shop", Name: "other"})
	if n := len(w.services.bySlice) + len(w.services.parts); n != 0 {
		t.Errorf("%d things are remembered of services that there are not", n)
	}
}
