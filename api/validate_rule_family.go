// SPDX-License-Identifier: Apache-2.0

package api

import "net/netip"

// familyOf is the address family that a rule has by one of its fields.
type familyOf struct {
	family Family
	// because names the field.
	because string
}

// ruleFamily refuses rules that are of both families at once and so match nothing.
func (c *checker) ruleFamily(field string, r *Rule) {
	var rule familyOf
	if r.IPVersion != nil && (*r.IPVersion == int(IPv4) || *r.IPVersion == int(IPv6)) {
		rule = familyOf{Family(*r.IPVersion), field + ".ipVersion"}
	}
	if r.NotProtocol != nil && rule.family != 0 { // alone it excludes nothing of the other family
		of := rule
		c.sameFamily(&of, field+".notProtocol", string(*r.NotProtocol), icmpFamily(*r.NotProtocol))
	}
	if r.Protocol != nil {
		c.sameFamily(&rule, field+".protocol", string(*r.Protocol), icmpFamily(*r.Protocol))
	}
	c.netsFamily(&rule, field+".source.nets", r.Source.Nets)
	c.netsFamily(&rule, field+".source.notNets", r.Source.NotNets)
	c.netsFamily(&rule, field+".destination.nets", r.Destination.Nets)
	c.netsFamily(&rule, field+".destination.notNets", r.Destination.NotNets)
}

// icmpFamily gives the only family that has the protocol, or 0.
func icmpFamily(p Protocol) Family {
	switch p.Number() {
	case ProtocolICMP.Number():
		return IPv4
	case ProtocolICMPv6.Number():
		return IPv6
	}
	return 0
}

// netsFamily reports the first net of a list that is of the wrong family.
func (c *checker) netsFamily(rule *familyOf, field string, nets []string) {
	for i, value := range nets {
		addr, err := netip.ParseAddr(value)
		if p, notCIDR := netip.ParsePrefix(value); notCIDR == nil {
			addr, err = p.Addr(), nil
		}
		if err == nil && !c.sameFamily(rule, index(field, i), value, FamilyOf(addr)) {
			return
		}
	}
}

// sameFamily checks that a field is of the family that the rule has by others. The first field decides it.
func (c *checker) sameFamily(rule *familyOf, field, value string, family Family) bool {
	switch {
	case family == 0 || family == rule.family:
		return true
	case rule.family == 0:
		*rule = familyOf{family, field}
		return true
	}
	c.fail(field, value, "is %s, but %s is %s: write a rule for each family", family, rule.because, rule.family)
	return false
}
