// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"korat/api"
)

// String gives the name, or the number of what has no name.
func (p Protocol) String() string {
	for _, name := range []api.Protocol{
		api.ProtocolTCP, api.ProtocolUDP, api.ProtocolICMP, api.ProtocolICMPv6, api.ProtocolSCTP, api.ProtocolUDPLite,
	} {
		if Protocol(name.Number()) == p {
			return string(name)
		}
	}
	return strconv.Itoa(int(p))
}

// hasPorts says whether packets have ports, where the kernel's ipset and multiport look for them.
func (p Protocol) hasPorts() bool { return p == TCP || p == UDP || p == SCTP || p == UDPLite }

func protocolText(p *api.Protocol) string {
	if p == nil {
		return ""
	}
	return string(*p)
}

// protocol gives 0 for none.
func (c *conversion) protocol(field string, p *api.Protocol) Protocol {
	if p == nil {
		return 0
	}
	number := Protocol(p.Number())
	if number == 0 {
		c.fail(field, string(*p), "must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number, 1..255")
	}
	return number
}

func (c *conversion) family(field string, version *int) api.Family {
	switch {
	case version == nil:
		return 0
	case *version == 4:
		return api.IPv4
	case *version == 6:
		return api.IPv6
	}
	c.fail(field, *version, "must be 4 or 6")
	return 0
}

func (c *conversion) icmp(field string, i *api.ICMP) *ICMPType {
	switch {
	case i == nil:
		return nil
	case i.Type == nil:
		c.fail(field+".type", "", "must be set")
		return nil
	case *i.Type < 0 || *i.Type > 254:
		// iptables takes 255 for any.
		c.fail(field+".type", *i.Type, "must be 0..254")
		return nil
	}
	t := &ICMPType{Type: uint8(*i.Type), Code: -1}
	if i.Code != nil {
		if *i.Code < 0 || *i.Code > 255 {
			c.fail(field+".code", *i.Code, "must be 0..255")
			return nil
		}
		t.Code = int16(*i.Code)
	}
	return t
}

// icmpFamily gives the family of a rule with ICMP types: each of the two protocols is of one.
func (c *conversion) icmpFamily(field string, r *api.Rule) api.Family {
	family := api.IPv4
	switch text := protocolText(r.Protocol); Protocol(api.Protocol(text).Number()) {
	case ICMP:
	case ICMPv6:
		family = api.IPv6
	default:
		c.fail(field+".protocol", text, "must be ICMP or ICMPv6, as there is a type")
	}
	if r.IPVersion != nil && *r.IPVersion != int(family) {
		c.fail(field+".ipVersion", *r.IPVersion, "must be %d or unset, as there is a type", family)
	}
	return family
}

// netsFamily restricts a rule to the family of its nets. Those that it excludes count too, as with Calico: of a rule that
// allows all but 10.0.0.0/8 nobody expects that it allows IPv6.
func (c *conversion) netsFamily(field string, r *Rule) {
	for _, list := range []struct {
		field string
		nets  []netip.Prefix
	}{
		{".source.nets", r.Source.Nets},
		{".source.notNets", r.Source.NotNets},
		{".destination.nets", r.Destination.Nets},
		{".destination.notNets", r.Destination.NotNets},
	} {
		var of api.Family
		for i, net := range list.nets {
			family := api.FamilyOf(net.Addr())
			if i > 0 && of != family {
				of = 0 // of both
				break
			}
			of = family
		}
		switch {
		case of == 0:
		case r.Family == 0:
			r.Family = of
		case r.Family != of:
			c.fail(field+list.field, list.nets[0].String(), "must be %s, as something else in the rule is", r.Family)
			return
		}
	}
}

// nets gives the prefixes in order, each once.
func (c *conversion) nets(field string, texts []string) []netip.Prefix {
	var nets []netip.Prefix
	for i, text := range texts {
		if net, ok := c.net(index(field, i), text); ok {
			nets = append(nets, net)
		}
	}
	return inOrder(nets)
}

func inOrder(nets []netip.Prefix) []netip.Prefix {
	slices.SortFunc(nets, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(nets)
}

// net reads an address or a CIDR, whose host bits mean nothing.
func (c *conversion) net(field, text string) (netip.Prefix, bool) {
	net, err := netip.ParsePrefix(text)
	if err != nil {
		// A Prefix loses the zone, which another host would not know.
		if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
			net = netip.PrefixFrom(addr, addr.BitLen())
		}
	}
	if !net.IsValid() || net.Addr().Is4In6() {
		c.fail(field, text, `must be an address or a CIDR such as "10.0.0.0/24" or "fd00:10::/64"`)
		return netip.Prefix{}, false
	}
	return net.Masked(), true
}

// ports parts numbers and names. The numbers are in order and do not overlap.
func (c *conversion) ports(field string, ports []api.Port) ([]PortRange, []string) {
	var numbers []PortRange
	var names []string
	for i, p := range ports {
		switch {
		case p.Name != "":
			names = append(names, p.Name)
		case p.First == 0 || p.First > p.Last:
			c.fail(index(field, i), PortRange{p.First, p.Last}.String(), "must be a port, a range of ports or a name")
		default:
			numbers = append(numbers, PortRange{p.First, p.Last})
		}
	}
	return joined(numbers), unrepeated(names)
}

// String gives "80" or "80:90".
func (p PortRange) String() string {
	if p.First == p.Last {
		return strconv.Itoa(int(p.First))
	}
	return strconv.Itoa(int(p.First)) + ":" + strconv.Itoa(int(p.Last))
}

// joined makes one range of those that overlap or follow each other.
func joined(ranges []PortRange) []PortRange {
	slices.SortFunc(ranges, func(a, b PortRange) int { return cmp.Compare(a.First, b.First) })
	var out []PortRange
	for _, r := range ranges {
		if last := len(out) - 1; last >= 0 && int(r.First) <= int(out[last].Last)+1 {
			out[last].Last = max(out[last].Last, r.Last)
			continue
		}
		out = append(out, r)
	}
	return out
}

func unrepeated(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

func (e *Entity) hasPorts() bool {
	return len(e.Ports) > 0 || len(e.NotPorts) > 0 || len(e.NamedPorts) > 0 || len(e.NotNamedPorts) > 0
}
