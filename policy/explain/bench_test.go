// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"korat/api"
	"korat/policy"
)

// BenchmarkAllowed judges flows between 500 pods with 500 policies of 5 rules, of which 25 apply to each pod.
func BenchmarkAllowed(b *testing.B) {
	var p Parts
	for i := range 500 {
		ep := podOf(fmt.Sprint("p", i), fmt.Sprint("n", i%10), fmt.Sprintf("10.0.%d.%d", i/250, i%250), fmt.Sprintf("app=a%d", i%20))
		p.Endpoints = append(p.Endpoints, ep)
	}
	for i := range 500 {
		pol := gnp(fmt.Sprint("p", i), float64(i), sel(b, fmt.Sprintf("app == 'a%d'", i%20)))
		pol.AppliesIngress, pol.AppliesEgress = true, true
		for j := range 5 {
			pol.Ingress = append(pol.Ingress, policy.Rule{Action: api.Allow, Protocol: policy.TCP, Source: policy.Entity{Selector: selp(b, fmt.Sprintf("app == 'a%d'", (i+j)%20))}, Destination: policy.Entity{Ports: ports(uint16(i + j))}})
		}
		pol.Egress = pol.Ingress
		p.Policies = append(p.Policies, pol)
	}
	w := New(p)
	r := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		from, to := p.Endpoints[r.IntN(500)], p.Endpoints[r.IntN(500)]
		w.Allowed(Flow{From: from.end(), To: to.end(), Protocol: policy.TCP, DestinationPort: uint16(r.IntN(600))})
	}
}
