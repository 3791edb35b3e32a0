// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"

	"korat/policy"
)

// Packet is the first one of a flow.
type Packet struct {
	Source, Destination         netip.Addr
	Protocol                    policy.Protocol
	SourcePort, DestinationPort uint16
	// ICMP counts if the protocol is ICMP or ICMPv6.
	ICMP policy.ICMPType
	// Ack makes a packet of TCP one of a connection that there is, not its first.
	Ack bool
	// Number is found again in what arrives.
	Number uint32
}

// The sizes of headers, and the offsets in them that matter.
const (
	ethernetHeader = 14
	ipv4Header     = 20
	ipv6Header     = 40
	// trailer is the last of a packet: magic and number.
	trailer = 8
	magic   = 0x6b6f7261
)

const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	// etherFence is for experiments on a local network (IEEE 802).
	etherFence = 0x88b5
)

func (p Packet) String() string {
	text := fmt.Sprintf("%s %s → %s", p.Protocol, p.Source, p.Destination)
	switch p.Protocol {
	case policy.TCP, policy.UDP, policy.SCTP, policy.UDPLite:
		return fmt.Sprintf("%s, port %d → %d", text, p.SourcePort, p.DestinationPort)
	case policy.ICMP, policy.ICMPv6:
		return fmt.Sprintf("%s, type %d, code %d", text, p.ICMP.Type, p.ICMP.Code)
	}
	return text
}

func (p Packet) etherType() uint16 {
	if p.Source.Is4() {
		return etherIPv4
	}
	return etherIPv6
}

// Append adds the packet to b, from its IP header on.
func (p Packet) Append(b []byte) []byte {
	start := len(b)
	if p.Source.Is4() {
		b = append(b, make([]byte, ipv4Header)...)
	} else {
		b = append(b, make([]byte, ipv6Header)...)
	}
	payload := len(b)
	b = p.appendPayload(b)
	ip := b[start:]
	if p.Source.Is4() {
		ip[0] = 0x45
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[8], ip[9] = 64, byte(p.Protocol)
		copy(ip[12:], p.Source.AsSlice())
		copy(ip[16:], p.Destination.AsSlice())
		binary.BigEndian.PutUint16(ip[10:], checksum(ip[:ipv4Header], 0))
	} else {
		ip[0] = 0x60
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-ipv6Header))
		ip[6], ip[7] = byte(p.Protocol), 64
		copy(ip[8:], p.Source.AsSlice())
		copy(ip[24:], p.Destination.AsSlice())
	}
	p.sum(b[payload:])
	return b
}

// appendPayload adds the protocol's header, without a checksum, and the trailer.
func (p Packet) appendPayload(b []byte) []byte {
	ports := func(b []byte) []byte {
		b = binary.BigEndian.AppendUint16(b, p.SourcePort)
		return binary.BigEndian.AppendUint16(b, p.DestinationPort)
	}
	switch p.Protocol {
	case policy.TCP:
		flags := byte(0x02) // SYN
		if p.Ack {
			flags = 0x10
		}
		b = append(ports(b), 0, 0, 0, 1, 0, 0, 0, 1, 5<<4, flags, 0x20, 0, 0, 0, 0, 0)
	case policy.UDP: // the length of the datagram; UDP-Lite: all of it is covered (RFC 3828)
		b = append(ports(b), 0, 8+trailer, 0, 0)
	case policy.UDPLite:
		b = append(ports(b), 0, 0, 0, 0)
	case policy.SCTP: // an INIT chunk, with the trailer as a parameter (RFC 9260, section 3.3.2)
		b = append(ports(b), 0, 0, 0, 0, 0, 0, 0, 0)
		b = append(b, 1, 0, 0, 20+4+trailer, 0, 0, 0, 1, 0, 0, 0x20, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0xc0, 0, 0, 4+trailer)
	case policy.ICMP, policy.ICMPv6: // as an echo request has it: identifier and number
		b = append(b, p.ICMP.Type, byte(p.ICMP.Code), 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(p.Number))
		b = binary.BigEndian.AppendUint16(b, uint16(p.Number>>16))
	default: // GRE's header, of which nothing is set, is four zeros; others' need not be right
		b = append(b, 0, 0, 0, 0)
	}
	b = binary.BigEndian.AppendUint32(b, magic)
	return binary.BigEndian.AppendUint32(b, p.Number)
}

// sum puts the checksum into a payload: connection tracking knows no packet with a wrong one.
func (p Packet) sum(payload []byte) {
	at := 0
	switch p.Protocol {
	case policy.TCP:
		at = 16
	case policy.UDP, policy.UDPLite:
		at = 6
	case policy.ICMPv6:
		at = 2
	case policy.ICMP:
		binary.BigEndian.PutUint16(payload[2:], checksum(payload, 0))
		return
	case policy.SCTP:
		binary.LittleEndian.PutUint32(payload[8:], crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)))
		return
	default:
		return
	}
	pseudo := p.Source.AsSlice()
	pseudo = append(append(pseudo, p.Destination.AsSlice()...), 0, byte(p.Protocol), byte(len(payload)>>8), byte(len(payload)))
	sum := checksum(payload, partial(pseudo, 0))
	if sum == 0 {
		sum = 0xffff // 0 is none (RFC 768)
	}
	binary.BigEndian.PutUint16(payload[at:], sum)
}

// partial adds to a sum of 16-bit words (RFC 1071).
func partial(b []byte, sum uint32) uint32 {
	for len(b) > 1 {
		sum += uint32(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func checksum(b []byte, sum uint32) uint16 {
	sum = partial(b, sum)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// number finds the trailer at the end of a packet, or of a part of one.
func number(b []byte) (uint32, bool) {
	if len(b) < trailer || binary.BigEndian.Uint32(b[len(b)-trailer:]) != magic {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[len(b)-4:]), true
}

// parse reads who sent a packet to whom, with its number. What is not one of ours is not ok.
func parse(ip []byte) (p Packet, ok bool) {
	switch {
	case len(ip) > ipv4Header && ip[0] == 0x45:
		p.Source, _ = netip.AddrFromSlice(ip[12:16])
		p.Destination, _ = netip.AddrFromSlice(ip[16:20])
		p.Protocol = policy.Protocol(ip[9])
	case len(ip) > ipv6Header && ip[0]>>4 == 6:
		p.Source, _ = netip.AddrFromSlice(ip[8:24])
		p.Destination, _ = netip.AddrFromSlice(ip[24:40])
		p.Protocol = policy.Protocol(ip[6])
	default:
		return p, false
	}
	p.Number, ok = number(ip)
	return p, ok
}
