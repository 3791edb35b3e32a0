// SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"net/netip"

	"korat/api"
	"korat/policy"
	"korat/policy/explain"
)

// services gives those of the ends that are behind services which policies name. Without such a policy it looks at
// no slice.
func services(snap api.Snapshot, policies []*policy.Policy, ends map[netip.Addr]struct{}) map[policy.Service][]explain.ServiceEndpoint {
	named := map[policy.Service]bool{}
	for _, p := range policies {
		names(p.Ingress, named)
		names(p.Egress, named)
	}
	if len(named) == 0 {
		return nil
	}
	all := map[policy.Service][]explain.ServiceEndpoint{}
	for _, slice := range snap.EndpointSlices.All() {
		service, _ := policy.ServiceOf(slice)
		if !named[service] {
			continue
		}
		behind, _ := policy.Behind(slice) // what is wrong with it the Filter has told
		for _, m := range behind {
			if _, concerned := ends[m.Prefix.Addr()]; concerned {
				all[service] = append(all[service], explain.ServiceEndpoint{Address: m.Prefix.Addr(), Protocol: m.Protocol, Port: m.Port})
			}
		}
	}
	return all
}

// names adds the services that rules name.
func names(rules []policy.Rule, to map[policy.Service]bool) {
	for i := range rules {
		for _, e := range []*policy.Entity{&rules[i].Source, &rules[i].Destination} {
			if e.Service != nil {
				to[*e.Service] = true
			}
		}
	}
}
