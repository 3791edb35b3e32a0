// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// natFrame adds the chains that give what pods send out of all pools the address of their node, if a pool asks for it, and
// gives the sets that these look into. They come after others' rules: kube-proxy takes its mark off a packet that it
// masquerades, and nobody sees the packet any more after that.
func natFrame(o Options, all map[chain.Key]*chain.Chain) []use {
	var held []use
	for _, f := range o.Families {
		rules, sets := masquerades(o.Pools, f)
		if len(rules) == 0 {
			continue
		}
		for name, c := range map[string]*chain.Chain{
			"POSTROUTING":      {Last: []chain.Rule{rule(jump("cali-POSTROUTING"))}},
			"cali-POSTROUTING": {Rules: []chain.Rule{rule(jump(natOutgoing))}},
			natOutgoing:        {Rules: rules},
		} {
			all[chain.Key{Family: f, Table: chain.NAT, Name: name}] = c
		}
		for _, s := range sets {
			held = append(held, use{set: s})
		}
	}
	return held
}

// masquerades gives the rules of a family, none if no pool of it asks for some.
func masquerades(pools []policy.Pool, f api.Family) ([]chain.Rule, []set) {
	var from, every []netip.Prefix
	for _, p := range pools {
		if !f.Has(p.Prefix.Addr()) {
			continue
		}
		if every = append(every, p.Prefix); p.NATOutgoing {
			from = append(from, p.Prefix)
		}
	}
	if len(from) == 0 {
		return nil, nil
	}
	alternatives, sets := expand(policy.Rule{Source: policy.Entity{Nets: from}, Destination: policy.Entity{NotNets: every}}, f)
	var rules []chain.Rule
	for _, conds := range alternatives {
		rules = append(rules, chain.NewRule("natOutgoing", chain.Action{Verb: chain.Masquerade}, conds...))
	}
	return rules, sets
}
