// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// neighbours are the ICMPv6 types without which a pod has no IPv6 with its host: of multicast listeners (RFC 2710,
// 130 to 132), router solicitations (133), and neighbours' solicitations and advertisements (RFC 4861, 135 and 136).
func neighbours() []uint8 { return []uint8{130, 131, 132, 133, 135, 136} }

// frame gives the chains that are always there, and those that lead to the doors to host endpoints.
func frame(o Options, d doors) map[chain.Key]*chain.Chain {
	all := map[chain.Key]*chain.Chain{}
	for _, f := range o.Families {
		hostFrame(o, f, d, all)
		add := func(t chain.Table, name string, rules ...chain.Rule) {
			if len(rules) > 0 {
				all[chain.Key{Family: f, Table: t, Name: name}] = &chain.Chain{Rules: rules}
			}
		}
		for t, chains := range refusals(o, f) {
			for name, rules := range chains {
				add(t, name, rules...)
			}
		}
		// Of what policies have accepted nobody's rules after ours have a say, but all before: so it is accepted last.
		all[chain.Key{Family: f, Table: chain.Filter, Name: "FORWARD"}] = &chain.Chain{
			Rules: []chain.Rule{rule(jump(knownConnections), notNew), rule(jump("cali-FORWARD"))},
			Last:  []chain.Rule{chain.NewRule("accepted by policy", accept, accepted)},
		}
		add(chain.Filter, knownConnections, known(o)...)
		add(chain.Filter, "cali-FORWARD", forward(o, f, d)...)
		add(chain.Filter, serviceLoops, loops(o, f)...)
		add(chain.Filter, "INPUT", rule(jump("cali-INPUT")))
		add(chain.Filter, "cali-INPUT", input(o, d)...)
		add(chain.Filter, workloadToHost, workloadsToHost(o, f)...)
		add(chain.Filter, allowChain, rule(setMark(acceptMark, acceptMark)))
		add(chain.Filter, passChain, rule(setMark(passMark, passMark)))
		add(chain.Raw, "PREROUTING", rule(jump(earlyChain)))
		add(chain.Raw, earlyChain, prerouting(o, d)...)
	}
	return all
}

// workloads matches the interfaces of all pods, known or not, in the direction of the pods.
func (o Options) workloads(d api.PolicyType) chain.Condition { return device(d, o.InterfacePrefix+"+") }

// known is the way of what is not the first packet of a connection, and leaves there: accepted, as policies have allowed
// the connection once, unless it was revoked, which marks it. No match for connections' marks is true of a packet that
// has none, not even an inverted one (net/netfilter/xt_connmark.c), so that what is INVALID is not accepted.
// The first packets of connections have all of this behind them with one rule in FORWARD.
func known(o Options) []chain.Rule {
	from, to := o.workloads(api.Egress), o.workloads(api.Ingress)
	lost := gotoChain(dropTracked)
	return []chain.Rule{rule(accept, from, kept), rule(accept, to, kept), rule(lost, from), rule(lost, to)}
}

// forward is the way of what passes this node and is new.
func forward(o Options, f api.Family, d doors) []chain.Rule {
	from, to := o.workloads(api.Egress), o.workloads(api.Ingress)
	var rules []chain.Rule
	if d.early() {
		rules = append(rules, unpass)
	} else {
		rules = append(rules, undecide)
	}
	if d.open(chain.Filter, api.Ingress, forwarded) {
		rules = append(rules, rule(jump(fromForward), notAccepted))
	}
	rules = append(rules, rule(jump(fromWorkloads), from), rule(jump(toWorkloads), to))
	if d.open(chain.Filter, api.Egress, forwarded) {
		rules = append(rules, rule(jump(toForward)))
	}
	if len(loops(o, f)) > 0 {
		rules = append(rules, rule(jump(serviceLoops)))
	}
	return rules
}

// loops ends what is for a service that nobody has translated.
func loops(o Options, f api.Family) []chain.Rule {
	var rules []chain.Rule
	for _, p := range o.ServiceCIDRs {
		if f.Has(p.Addr()) {
			rules = append(rules, rule(gotoChain(dropService), chain.Net{Side: chain.Destination, Prefix: p.Masked()}))
		}
	}
	return rules
}

// workloadsToHost is the way of what pods send to their own node. At its end what the pod's policies have allowed is left to
// the host's own rules, or decided.
func workloadsToHost(o Options, f api.Family) []chain.Rule {
	rules := []chain.Rule{rule(accept, tracked, kept)}
	if f == api.IPv6 {
		for _, t := range neighbours() {
			rules = append(rules, rule(accept, chain.Proto{Number: policy.ICMPv6}, chain.ICMP{ICMPType: policy.ICMPType{Type: t, Code: -1}}))
		}
	}
	rules = append(rules, rule(gotoChain(dropTracked), notNew), undecide, rule(jump(fromWorkloads)))
	switch o.ToHost {
	case ToHostDrop:
		rules = append(rules, refuse("defaultEndpointToHostAction", hostShut, drop)...)
	case ToHostAccept:
		rules = append(rules, chain.NewRule("defaultEndpointToHostAction", accept))
	case ToHostRules:
	}
	return rules
}

// prelude is what the root of a dispatch tree begins with. The marks that a packet has from its sender's policies
// mean nothing to its receiver's.
func prelude(d api.PolicyType) []chain.Rule {
	if d == api.Egress {
		return nil
	}
	return []chain.Rule{unmark}
}
