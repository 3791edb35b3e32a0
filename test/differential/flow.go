// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"
	"net/netip"

	"korat/api"
	"korat/felix/kernel"
	"korat/policy"
	"korat/policy/explain"
)

// Flow is a packet with the way that it takes through this node.
type Flow struct {
	Shot
	// From and To are its ends as this node knows them: everybody elsewhere is outside.
	From, To explain.End
	// At is where it arrives if it is allowed.
	At string
}

func (f Flow) String() string { return fmt.Sprintf("%s, from %s to %s", f.Packet, f.Shot.From, f.At) }

// question is what to ask of package explain.
func (f Flow) question() explain.Flow {
	return explain.Flow{
		From: f.From, To: f.To, Protocol: f.Packet.Protocol, SourcePort: f.Packet.SourcePort,
		DestinationPort: f.Packet.DestinationPort, ICMP: f.Packet.ICMP, Leaves: uplink, Enters: uplink,
	}
}

// is says whether the arrival is the flow's.
func (f Flow) is(a Arrival) bool {
	p := f.Packet
	if a.At == host && !p.Source.Is4() { // of which no more is known
		return f.At == host && a.Packet.Number == p.Number
	}
	return a.At == f.At && a.Packet == Packet{Source: p.Source, Destination: p.Destination, Protocol: p.Protocol, Number: p.Number}
}

// tuple is what connection tracking knows a connection by, the same for both directions.
type tuple struct {
	protocol policy.Protocol
	a, b     netip.AddrPort
}

func (f Flow) tuple() tuple {
	p := f.Packet
	if p.Protocol == policy.ICMP || p.Protocol == policy.ICMPv6 {
		p.SourcePort, p.DestinationPort = uint16(p.Number), uint16(p.Number)
	}
	t := tuple{p.Protocol, netip.AddrPortFrom(p.Source, p.SourcePort), netip.AddrPortFrom(p.Destination, p.DestinationPort)}
	if t.b.Compare(t.a) < 0 {
		t.a, t.b = t.b, t.a
	}
	return t
}

// tupleOf gives that of a flow of a protocol with ports.
func tupleOf(f kernel.Flow) tuple {
	t := tuple{
		f.Protocol, netip.AddrPortFrom(f.Original.Source, f.Original.SourcePort),
		netip.AddrPortFrom(f.Original.Destination, f.Original.DestinationPort),
	}
	if t.b.Compare(t.a) < 0 {
		t.a, t.b = t.b, t.a
	}
	return t
}

// stray is an interface that looks like a pod's, but is none's.
const stray = "calistray"

// end is one end of a flow, with the place that it is at.
type end struct {
	explain.End
	place string
}

func (s *Site) endOf(p *Pod, f api.Family) end {
	for _, addr := range p.Addresses {
		if f.Has(addr) {
			return end{explain.End{Node: thisNode, Interface: p.Interface, Address: addr}, p.Interface}
		}
	}
	return end{}
}

func (r *Scene) elsewhere(f api.Family) end {
	text := strangerAddress(r.IntN(strangers), f)
	if r.maybe(2) {
		text = pick(r, r.outside[f]...)
	}
	return end{explain.End{Address: netip.MustParseAddr(text)}, outside}
}

func hostEnd(f api.Family) end {
	text := hostIPv4
	if f == api.IPv6 {
		text = hostIPv6
	}
	return end{explain.End{Node: thisNode, Address: netip.MustParseAddr(text)}, host}
}

// strayEnd is somebody at the interface that is no pod's.
func strayEnd(f api.Family) end {
	text := strayIPv4
	if f == api.IPv6 {
		text = strayIPv6
	}
	return end{explain.End{Node: thisNode, Interface: stray, Address: netip.MustParseAddr(text)}, stray}
}

// ends are those of a flow that this node forwards, receives or sends to a pod.
func (r *Scene) ends(s *Site, f api.Family) (from, to end) {
	own := func() end { return s.endOf(pick(r, s.pods...), f) }
	switch r.IntN(24) {
	case 0, 1:
		return own(), hostEnd(f)
	case 2:
		return hostEnd(f), own()
	case 3, 4, 5, 6:
		return own(), r.elsewhere(f)
	case 7, 8, 9, 10:
		return r.elsewhere(f), own()
	case 11:
		return r.elsewhere(f), hostEnd(f)
	case 12:
		return hostEnd(f), r.elsewhere(f)
	case 13:
		return pick(r, pair{own(), strayEnd(f)}, pair{strayEnd(f), own()}, pair{strayEnd(f), hostEnd(f)}, pair{r.elsewhere(f), strayEnd(f)}).both()
	case 14: // a source that is another's
		from, to = own(), own()
		from.Address = pick(r, own(), r.elsewhere(f), hostEnd(f)).Address
		return from, to
	}
	return own(), own()
}

func (p pair) both() (from, to end) { return p[0], p[1] }

type pair [2]end

// flow is a random one.
func (r *Scene) flow(s *Site, number uint32) Flow {
	f := pick(r, api.IPv4, api.IPv4, api.IPv6)
	from, to := r.ends(s, f)
	for from.place == to.place {
		from, to = r.ends(s, f)
	}
	p := Packet{Source: from.Address, Destination: to.Address, Number: number}
	p.Protocol = pick(r, policy.TCP, policy.TCP, policy.TCP, policy.UDP, policy.UDP, policy.SCTP, policy.ICMP, policy.UDPLite, gre)
	switch {
	case r.maybe(40):
		p.Protocol, p.DestinationPort = policy.UDP, 4789
	case r.maybe(60) && f == api.IPv4:
		p.Protocol = 4
	case p.Protocol == policy.ICMP && f == api.IPv4:
		p.ICMP = policy.ICMPType{Type: pick[uint8](r, 8, 8, 13), Code: int16(r.IntN(2))}
	case p.Protocol == policy.ICMP:
		p.Protocol = policy.ICMPv6
		p.ICMP = policy.ICMPType{Type: pick[uint8](r, 128, 128, 139), Code: int16(r.IntN(2))}
		if to.place == host && r.maybe(2) {
			p.ICMP = policy.ICMPType{Type: pick[uint8](r, 130, 133, 135, 136)}
		}
	}
	if p.Protocol == policy.TCP || p.Protocol == policy.UDP || p.Protocol == policy.SCTP || p.Protocol == policy.UDPLite {
		if p.DestinationPort == 0 {
			p.DestinationPort = r.anyPort()
		}
		p.SourcePort = r.anyPort()
	}
	at := to.place
	if at == outside {
		at = uplink
	}
	return Flow{Shot{from.place, p}, from.End, to.End, at}
}

func (r *Scene) anyPort() uint16 {
	switch r.IntN(4) {
	case 0:
		return uint16(1 + r.IntN(65535))
	case 1:
		return pick[uint16](r, 50, 75, 440, 8000, 9000) + uint16(r.IntN(13))
	}
	return r.port()
}

// flows are so many of which each is a connection of its own.
func (r *Scene) flows(s *Site, n int) []Flow {
	all := make([]Flow, 0, n)
	known := map[tuple]bool{}
	for len(all) < n {
		f := r.flow(s, uint32(len(all)+1))
		if t := f.tuple(); !known[t] {
			known[t] = true
			all = append(all, f)
		}
	}
	return all
}
