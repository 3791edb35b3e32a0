// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// maxPorts is XT_MULTI_PORTS; a range counts as two.
const maxPorts = 15

// maxRate is the limit match's finest: XT_LIMIT_SCALE.
const maxRate = 10_000

// allBits is the mask of whole numbers.
const allBits = 1<<32 - 1

// anyICMP is the type that IPv4's icmp match takes for all of them (net/ipv4/netfilter/ip_tables.c, icmp_type_code_match).
const anyICMP = 255

// dccp is the one protocol that multiport knows and policies do not (IANA).
const dccp = 33

var (
	trackStates  = []string{"NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED", "DNAT", "SNAT"}
	addressTypes = []string{
		"UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT",
	}
)

// basic adds a condition that iptables itself has an option for.
func (l *line) basic(c chain.Condition) {
	switch c := c.(type) {
	case chain.In:
		l.device(&l.in, "-i", string(c))
	case chain.Out:
		l.device(&l.out, "-o", string(c))
	case chain.Proto:
		l.once(&l.proto, "the protocol")
		if c.Number == 0 {
			l.fail(fmt.Errorf("protocol 0: matches nothing that could be meant"))
		}
		if !c.Not {
			l.number = c.Number
		}
		l.add(not(c.Not)+"-p", protocol(c.Number))
	case chain.Net:
		l.net(c)
	}
}

// native adds the conditions that take an extension of which iptables-nft makes instructions of the kernel's own: marks,
// and one number or range of ports of each side. It gives the others.
func (l *line) native(conditions []chain.Condition) (rest []chain.Condition) {
	said := map[chain.Side]bool{}
	for _, c := range conditions {
		ports, ok := c.(chain.Ports)
		mark, isMark := c.(chain.Mark)
		switch {
		case isMark:
			l.extended(mark)
		case ok && len(ports.Ranges) == 1 && ports.Ranges[0].First <= ports.Ranges[0].Last && !said[ports.Side] && l.hasOwnPorts():
			if len(said) == 0 {
				l.add("-m", protocol(l.number))
			}
			said[ports.Side] = true
			l.port(ports)
		default:
			rest = append(rest, c)
		}
	}
	return rest
}

// hasOwnPorts says whether the protocol that is asked for has a match of its own with ports.
func (l *line) hasOwnPorts() bool { return l.number == policy.TCP || l.number == policy.UDP }

// port adds the option for one range.
func (l *line) port(c chain.Ports) {
	option, r := "--sport", c.Ranges[0]
	if c.Side == chain.Destination {
		option = "--dport"
	}
	value := strconv.Itoa(int(r.First))
	if r.Last != r.First {
		value += ":" + strconv.Itoa(int(r.Last))
	}
	l.add(not(c.Not)+option, value)
}

// extended adds a condition that takes an extension.
func (l *line) extended(c chain.Condition) {
	switch c := c.(type) {
	case chain.In, chain.Out, chain.Proto, chain.Net:
	case chain.LinkGroup:
		l.group(c)
	case chain.InSet:
		l.set(c)
	case chain.Ports:
		l.ports(c)
	case chain.ICMP:
		l.icmp(c)
	case chain.Mark:
		l.add("-m mark", not(c.Not)+fmt.Sprintf("--mark %#x/%#x", c.Value, c.Mask))
	case chain.ConnMark:
		l.add("-m connmark", fmt.Sprintf("%s--mark %#x/%#x", not(c.Not), c.Value, c.Mask))
	case chain.CTState:
		if err := words("connection state", c.States, trackStates); err != nil {
			l.fail(err)
		}
		l.add("-m conntrack", not(c.Not)+"--ctstate", c.States)
	case chain.AddrType:
		if err := words("address type", c.Type, addressTypes); err != nil {
			l.fail(err)
		}
		l.add("-m addrtype", not(c.Not)+"--"+c.Side.String()+"-type", c.Type)
	case chain.Spoofed:
		l.add("-m rpfilter --validmark --invert")
	case chain.Rate:
		l.rate(c)
	default:
		l.fail(fmt.Errorf("condition %T: unknown", c))
	}
}

func (l *line) device(said *bool, option, device string) {
	l.once(said, "the interface of "+option)
	if err := name("interface", device, maxInterface); err != nil {
		l.fail(err)
	}
	l.add(option, device)
}

// net uses the options -s and -d, which can be given once each, and address ranges for all further ones of a side.
func (l *line) net(c chain.Net) {
	p := c.Prefix.Masked()
	if !p.IsValid() || api.FamilyOf(p.Addr()) != l.family || p.Addr().Is4In6() {
		l.fail(fmt.Errorf("prefix %s: not of %s", c.Prefix, l.family))
		return
	}
	said, option := &l.source, "-s"
	if c.Side == chain.Destination {
		said, option = &l.destination, "-d"
	}
	if *said {
		l.add("-m iprange", not(c.Not)+"--"+c.Side.String()+"-range", p.Addr().String()+"-"+last(p).String())
		return
	}
	*said = true
	l.add(not(c.Not)+option, p.String())
}

// last gives a prefix's highest address.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// group adds a link group. iptables-save leaves out a mask of all bits.
func (l *line) group(c chain.LinkGroup) {
	if c.Value&^c.Mask != 0 {
		l.fail(fmt.Errorf("%s: has bits that are not in the mask", c))
	}
	value := fmt.Sprintf("%#x", c.Value)
	if c.Mask != allBits {
		value += fmt.Sprintf("/%#x", c.Mask)
	}
	l.add("-m devgroup --"+c.Side.String()+"-group", value)
}

func (l *line) set(c chain.InSet) {
	if err := name("set", c.Set, maxSet); err != nil {
		l.fail(err)
	}
	side := c.Side.String()
	if c.Port {
		side += "," + side
	}
	l.add("-m set", not(c.Not)+"--match-set", c.Set, side)
}

func (l *line) ports(c chain.Ports) {
	switch l.number {
	case policy.TCP, policy.UDP, policy.SCTP, policy.UDPLite, dccp:
	default:
		l.fail(fmt.Errorf("%s: the rule asks for no protocol that has ports", c))
	}
	var all []string
	slots := 0
	for _, r := range c.Ranges {
		switch {
		case r.First > r.Last:
			l.fail(fmt.Errorf("ports %d:%d: the range ends before it begins", r.First, r.Last))
		case r.First == r.Last:
			all, slots = append(all, strconv.Itoa(int(r.First))), slots+1
		default:
			all, slots = append(all, fmt.Sprintf("%d:%d", r.First, r.Last)), slots+2
		}
	}
	if slots == 0 || slots > maxPorts {
		l.fail(fmt.Errorf("%s: %d ports (a range counts as two), the match takes 1 to %d", c, slots, maxPorts))
	}
	option := "--sports"
	if c.Side == chain.Destination {
		option = "--dports"
	}
	l.add("-m multiport", not(c.Not)+option, strings.Join(all, ","))
}

func (l *line) icmp(c chain.ICMP) {
	number, match, option := policy.ICMP, "-m icmp", "--icmp-type"
	if l.family == api.IPv6 {
		number, match, option = policy.ICMPv6, "-m icmp6", "--icmpv6-type"
	}
	if l.number != number {
		l.fail(fmt.Errorf("%s: the rule does not ask for protocol %d, %s's ICMP", c, number, l.family))
	}
	typ := strconv.Itoa(int(c.Type))
	if c.Code >= 0 {
		typ += "/" + strconv.Itoa(int(c.Code))
	}
	if c.Code > 255 {
		l.fail(fmt.Errorf("%s: a code is at most 255", c))
	}
	if c.Type == anyICMP && l.family == api.IPv4 {
		l.fail(fmt.Errorf("%s: iptables takes type %d for any", c, anyICMP))
	}
	l.add(match, not(c.Not)+option, typ)
}

func (l *line) rate(c chain.Rate) {
	if c.PerSecond < 1 || c.PerSecond > maxRate || c.Burst < 1 || c.Burst > maxRate {
		l.fail(fmt.Errorf("%s: the rate and the burst must be 1 to %d", c, maxRate))
	}
	l.add(fmt.Sprintf("-m limit --limit %d/sec --limit-burst %d", c.PerSecond, c.Burst))
}

// protocol gives the name that iptables prints, or the number.
func protocol(n policy.Protocol) string {
	switch n {
	case policy.ICMP:
		return "icmp"
	case policy.TCP:
		return "tcp"
	case policy.UDP:
		return "udp"
	case policy.ICMPv6:
		return "ipv6-icmp"
	case policy.SCTP:
		return "sctp"
	case policy.UDPLite:
		return "udplite"
	}
	return strconv.Itoa(int(n))
}

func not(n bool) string {
	if n {
		return "! "
	}
	return ""
}
