// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"strconv"
)

// Calico's bounds on one end of a rule.
const (
	maxNets  = 256
	maxPorts = 50
)

// maxNamedPairs bounds how many of the kernel's rules one can become: a named port is a set, of which a rule looks into
// one at each end.
const maxNamedPairs = 64

// What the kernel makes of annotations: a comment has 256 bytes with its final zero (XT_MAX_COMMENT_LEN), and a
// rule with all its matches has to stay below 64 KiB.
const (
	maxComment     = 255
	maxAnnotations = 16
)

// place says where rules stand.
type place struct {
	direction PolicyType
	// namespaced rules may leave out the namespace of a service.
	namespaced, profile bool
}

func (c *checker) rules(field string, rules []Rule, in place) {
	if len(rules) > maxRules {
		c.fail(field, len(rules), "must be at most %d rules: split the policy", maxRules)
		return
	}
	for i := range rules {
		c.rule(index(field, i), &rules[i], in)
	}
}

func (c *checker) rule(field string, r *Rule, in place) {
	actions := []string{string(Allow), string(Deny), string(Log)}
	if !in.profile { // a profile is in no tier that could be left
		actions = append(actions, string(Pass))
	}
	c.choice(field+".action", string(r.Action), actions...)
	if r.IPVersion != nil && *r.IPVersion != int(IPv4) && *r.IPVersion != int(IPv6) {
		c.fail(field+".ipVersion", *r.IPVersion, "must be 4 or 6")
	}
	c.protocol(field+".protocol", r.Protocol)
	c.protocol(field+".notProtocol", r.NotProtocol)
	c.icmp(field+".icmp", r.ICMP, r.Protocol)
	c.icmp(field+".notICMP", r.NotICMP, r.Protocol)
	c.entity(field+".source", &r.Source, in)
	c.entity(field+".destination", &r.Destination, in)
	c.rulePorts(field, r)
	c.services(field, r, in)
	c.ruleFamily(field, r)
	if r.Metadata != nil {
		c.ruleAnnotations(field+".metadata.annotations", r.Metadata.Annotations)
	}
}

func (c *checker) protocol(field string, p *Protocol) {
	if p != nil && p.Number() == 0 {
		c.fail(field, string(*p), "must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number, 1..255")
	}
}

// hasPorts says whether the protocol's packets have ports that the kernel can match (xt_multiport).
func (p Protocol) hasPorts() bool {
	switch p.Number() {
	case ProtocolTCP.Number(), ProtocolUDP.Number(), ProtocolSCTP.Number(), ProtocolUDPLite.Number():
		return true
	}
	return false
}

func (c *checker) icmp(field string, icmp *ICMP, p *Protocol) {
	if icmp == nil {
		return
	}
	if p == nil || p.Number() != ProtocolICMP.Number() && p.Number() != ProtocolICMPv6.Number() {
		c.fail(field, icmp.text(), "needs the rule's protocol to be ICMP or ICMPv6")
	}
	switch {
	case icmp.Type == nil && icmp.Code == nil:
		c.fail(field, icmp.text(), "must have a type: leave it out to match every message")
	case icmp.Type == nil:
		c.fail(field+".code", *icmp.Code, "needs a type, as codes mean nothing without one")
	case *icmp.Type < 0 || *icmp.Type > 254: // iptables has 255 for any type
		c.fail(field+".type", *icmp.Type, "must be 0..254")
	}
	if icmp.Code != nil && (*icmp.Code < 0 || *icmp.Code > 255) {
		c.fail(field+".code", *icmp.Code, "must be 0..255")
	}
}

// text gives "type 8, code 0", or what there is of it.
func (i *ICMP) text() string {
	text := ""
	if i.Type != nil {
		text = "type " + strconv.Itoa(*i.Type)
	}
	if i.Type != nil && i.Code != nil {
		text += ", "
	}
	if i.Code != nil {
		text += "code " + strconv.Itoa(*i.Code)
	}
	return text
}

// entity checks one end of a rule by itself.
func (c *checker) entity(field string, e *EntityRule, in place) {
	c.nets(field+".nets", e.Nets, maxNets)
	c.nets(field+".notNets", e.NotNets, maxNets)
	c.ports(field+".ports", e.Ports)
	c.ports(field+".notPorts", e.NotPorts)
	c.endpointSelector(field+".selector", e.Selector)
	c.endpointSelector(field+".notSelector", e.NotSelector)
	c.namespaceSelector(field+".namespaceSelector", e.NamespaceSelector)
	if e.ServiceAccounts != nil {
		c.serviceAccounts(field+".serviceAccounts", e.ServiceAccounts)
	}
	if e.Services != nil {
		c.serviceMatch(field, e, in)
	}
}

// nets checks addresses and CIDRs, at most so many; 0 is no limit.
func (c *checker) nets(field string, nets []string, most int) {
	if most != 0 && len(nets) > most {
		c.fail(field, len(nets), "must be at most %d: name them in a NetworkSet or GlobalNetworkSet and select it", most)
		return
	}
	for i, value := range nets {
		c.net(index(field, i), value)
	}
}

// net checks an address or a CIDR without host bits.
func (c *checker) net(field, value string) {
	addr, err := netip.ParseAddr(value)
	_, notCIDR := netip.ParsePrefix(value)
	switch {
	case err != nil && notCIDR != nil:
		c.fail(field, value, `must be an address or a CIDR such as "192.0.2.1", "172.17.0.0/16" or "fd00:10:244::/48"`)
	case err != nil:
		c.prefix(field, value)
	case addr.Zone() != "":
		c.fail(field, value, "must have no zone: use %q", addr.WithZone(""))
	case addr.Is4In6():
		c.fail(field, value, "is an IPv4-mapped address (RFC 4291, section 2.5.5.2): use %q", addr.Unmap())
	}
}

func (c *checker) ports(field string, ports []Port) {
	if len(ports) > maxPorts {
		c.fail(field, len(ports), "must be at most %d: join neighbours to ranges, or write several rules", maxPorts)
		return
	}
	for i, p := range ports {
		where := index(field, i)
		switch {
		case p.Name != "" && (p.First != 0 || p.Last != 0):
			c.fail(where, p.String(), "must be a name or a range, not both")
		case p.Name != "":
			c.portName(where, p.Name)
		case p.First == 0:
			c.fail(where, p.String(), "must be 1..65535, a range of them or a name: there is no port 0")
		case p.First > p.Last:
			c.fail(where, p.String(), `must begin with the lower port: use "%d:%d"`, p.Last, p.First)
		}
	}
}

// named counts the names.
func named(ports []Port) (n int) {
	for _, p := range ports {
		if p.Name != "" {
			n++
		}
	}
	return n
}

func (c *checker) portName(field, name string) {
	if !isPortName(name) {
		c.fail(field, name, "must be a port's name: at most %d letters, digits, dots, dashes and underscores, and a letter among them", maxPortName)
	}
}

// rulePorts refuses ports without a protocol that has any, and names at both ends that make too many pairs.
func (c *checker) rulePorts(field string, r *Rule) {
	if r.Protocol != nil && r.Protocol.hasPorts() {
		from, to := named(r.Source.Ports), named(r.Destination.Ports)
		if from*to > maxNamedPairs {
			c.fail(field+".destination.ports", to, "must have fewer names beside those of %s.source.ports, of which each pair takes a rule in the kernel: at most %d pairs: write several rules", field, maxNamedPairs)
		}
		return
	}
	for _, list := range []struct {
		field string
		ports []Port
	}{
		{".source.ports", r.Source.Ports},
		{".source.notPorts", r.Source.NotPorts},
		{".destination.ports", r.Destination.Ports},
		{".destination.notPorts", r.Destination.NotPorts},
	} {
		if len(list.ports) > 0 {
			c.fail(field+list.field, list.ports[0].String(), "needs %s.protocol to be TCP, UDP, SCTP or UDPLite", field)
		}
	}
}

// ruleAnnotations checks that the annotations can be comments of a rule in the kernel, whatever reads them: a quote or a line
// break could end the rule there.
func (c *checker) ruleAnnotations(field string, annotations map[string]string) {
	if len(annotations) > maxAnnotations {
		c.fail(field, len(annotations), "must be at most %d: each is a comment in the kernel", maxAnnotations)
		return
	}
	for _, key := range sortedKeys(annotations) {
		value, where := annotations[key], entry(field, key)
		switch {
		case !isQualifiedName(key):
			c.fail(where, value, labelKeyRemedy)
		case !isComment(value):
			c.fail(where, value, `must be printable ASCII without " and \, as it becomes a comment in the kernel`)
		case len(key)+1+len(value) > maxComment:
			c.fail(where, value, "must have at most %d bytes with this key: a comment in the kernel holds %d", max(maxComment-1-len(key), 0), maxComment)
		}
	}
}

func isComment(s string) bool {
	for _, b := range []byte(s) {
		if b < ' ' || b > '~' || b == '"' || b == '\\' {
			return false
		}
	}
	return true
}
