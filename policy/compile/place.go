// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// stage is which of an endpoint's policies a chain is of.
type stage uint8

const (
	// local is what an endpoint itself sends and receives; pods have nothing else.
	local stage = iota
	// forwarded is what a host endpoint's host passes on, preDNAT what comes to it before services are translated,
	// untracked what comes and goes before connections are tracked.
	forwarded
	preDNAT
	untracked
)

// place is where a chain of an endpoint is.
type place struct {
	slot
	table chain.Table
	stage stage
}

// workloadPlaces and hostPlaces give those that endpoints can have chains at. What a host sends to a service, its
// policies see in mangle POSTROUTING: by then the packet has the interface that it really leaves by.
func workloadPlaces(f api.Family) []place {
	return []place{{slot{f, api.Ingress}, chain.Filter, local}, {slot{f, api.Egress}, chain.Filter, local}}
}

func hostPlaces(f api.Family) []place {
	in, out := slot{f, api.Ingress}, slot{f, api.Egress}
	return []place{
		{in, chain.Filter, local},
		{out, chain.Filter, local},
		{in, chain.Filter, forwarded},
		{out, chain.Filter, forwarded},
		{in, chain.Mangle, preDNAT},
		{out, chain.Mangle, local},
		{in, chain.Raw, untracked},
		{out, chain.Raw, untracked},
	}
}

// sees says whether policies of a stage of the model count at the place.
func (s stage) sees(of policy.Stage) bool {
	switch s {
	case forwarded:
		return of == policy.Forward
	case preDNAT:
		return of == policy.PreDNAT
	case untracked:
		return of == policy.Untracked
	default:
		return of == policy.Normal || of == policy.Forward
	}
}

// prefix begins the names of the chains of host endpoints at the place, and root is the chain that leads to them.
func (p place) prefix() string {
	name := "cali-fh"
	if p.direction == api.Egress {
		name = "cali-th"
	}
	if p.stage == forwarded {
		name += "fw"
	}
	return name + "-"
}

func (p place) root() string {
	switch {
	case p.stage == forwarded && p.direction == api.Ingress:
		return fromForward
	case p.stage == forwarded:
		return toForward
	case p.direction == api.Ingress:
		return fromHost
	}
	return toHost
}

// device matches an interface of the host itself.
func (p place) device(name string) chain.Condition {
	if p.direction == api.Ingress {
		return chain.In(name)
	}
	return chain.Out(name)
}
