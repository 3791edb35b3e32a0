// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"
	"strconv"

	"korat/api"
	"korat/policy"
	"korat/policy/index"
	"korat/policy/selector"
)

// set is a set and where its members come from: fixed ones, a query of the index, or a service.
type set struct {
	key   policy.SetKey
	fixed []policy.Member
	// query and queryID are of sets of what selectors pick. Those of both families have one.
	query   index.Query
	queryID string
	service *policy.Service
}

func selectorSet(f api.Family, s selector.Selector) set {
	return set{
		key:   policy.SetKey{Name: setName(f, "s", s.String()), Family: f, Kind: policy.Prefixes},
		query: index.Query{Selector: s}, queryID: "s:" + s.String(),
	}
}

func namedPortSet(f api.Family, s *selector.Selector, p policy.Protocol, name string) set {
	q := index.Query{Selector: selectorOrAll(s), Port: name, Protocol: p}
	number := strconv.Itoa(int(p))
	return set{
		key:   policy.SetKey{Name: setName(f, "n", q.Selector.String(), number, name), Family: f, Kind: policy.AddressPorts},
		query: q, queryID: "n:" + number + ":" + name + ":" + q.Selector.String(),
	}
}

// serviceSet has the addresses behind a service, with their ports where the service is a destination.
func serviceSet(f api.Family, s policy.Service, ports bool) set {
	key := policy.SetKey{Name: setName(f, "svcnoport", s.Namespace, s.Name), Family: f, Kind: policy.Prefixes}
	if ports {
		key.Name, key.Kind = setName(f, "svc", s.Namespace, s.Name), policy.AddressPorts
	}
	return set{key: key, service: &s}
}

func prefixSet(f api.Family, nets []netip.Prefix) set {
	parts := make([]string, len(nets))
	fixed := make([]policy.Member, len(nets))
	for i, p := range nets {
		parts[i], fixed[i] = p.String(), policy.Member{Prefix: p}
	}
	return set{key: policy.SetKey{Name: setName(f, "x", parts...), Family: f, Kind: policy.Prefixes}, fixed: fixed}
}

// portSet has each of the ports: the kernel's set is a bitmap.
func portSet(f api.Family, ranges []policy.PortRange) set {
	var parts []string
	var fixed []policy.Member
	for _, r := range ranges {
		parts = append(parts, strconv.Itoa(int(r.First))+"-"+strconv.Itoa(int(r.Last)))
		for port := int(r.First); port <= int(r.Last); port++ {
			fixed = append(fixed, policy.Member{Port: uint16(port)})
		}
	}
	return set{key: policy.SetKey{Name: setName(f, "p", parts...), Family: f, Kind: policy.PortNumbers}, fixed: fixed}
}
