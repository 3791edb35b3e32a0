// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"korat/policy"
)

// Report is a packet that a rule reported.
type Report struct {
	// Prefix is the rule's text.
	Prefix string
	// In and Out are the interfaces that it came by and leaves by; empty if there is none, or if it has gone.
	In, Out string
	// Hook is where in the kernel the rule stands.
	Hook     Hook
	Protocol policy.Protocol
	// Packet has the addresses as they are at the hook. It has no ports if the packet is a later fragment, or if
	// they lie beyond what the kernel copied.
	Packet Tuple
	// Length is the packet's, with its IP header.
	Length int
	Mark   uint32
	// Time is when the kernel received the packet, or when we heard of it if the kernel does not say.
	Time time.Time
}

// Hook is one of the kernel's hooks for packets: linux/netfilter.h, enum nf_inet_hooks.
type Hook uint8

// The hooks, in the kernel's order.
const (
	HookPrerouting Hook = iota
	HookInput
	HookForward
	HookOutput
	HookPostrouting
)

// String gives the name of the hook's chain in iptables.
func (h Hook) String() string {
	names := [...]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
	if int(h) < len(names) {
		return names[h]
	}
	return "unknown hook"
}

// What linux/netfilter/nfnetlink_log.h has.
const (
	nflogPacket = 0 // NFULNL_MSG_PACKET
	nflogConfig = 1 // NFULNL_MSG_CONFIG

	nflogConfigCommand   = 1 // NFULA_CFG_CMD
	nflogConfigMode      = 2
	nflogConfigBuffer    = 3 // NFULA_CFG_NLBUFSIZ
	nflogConfigTimeout   = 4 // in 1/100 s
	nflogConfigThreshold = 5
	nflogConfigFlags     = 6

	nflogBind        = 1 // NFULNL_CFG_CMD_BIND
	nflogCopyPacket  = 2 // NFULNL_COPY_PACKET
	nflogSequence    = 1 // NFULNL_CFG_F_SEQ
	nflogHeader      = 1 // NFULA_PACKET_HDR
	nflogMark        = 2
	nflogTimestamp   = 3
	nflogIn          = 4
	nflogOut         = 5
	nflogPayload     = 9
	nflogPrefix      = 10
	nflogSequenceNum = 12
)

// encodeReportsBind appends the message that binds a group to our socket. The kernel unbinds it when that is closed.
func encodeReportsBind(b *buffer, group uint16) {
	b.beginNetfilter(unix.NFNL_SUBSYS_ULOG, nflogConfig, 0, unix.AF_UNSPEC, group)
	b.attrUint8(nflogConfigCommand, nflogBind)
	mode := binary.BigEndian.AppendUint32(nil, reportBytes)
	b.attr(nflogConfigMode, append(mode, nflogCopyPacket, 0))
	b.attrBig32(nflogConfigBuffer, reportBuffer)
	b.attrBig32(nflogConfigTimeout, uint32(reportDelay/(10*time.Millisecond)))
	b.attrBig32(nflogConfigThreshold, reportBatch)
	b.attrBig16(nflogConfigFlags, nflogSequence)
}

// reportSequence gives the number of a report: the kernel counts those that it could not send, too.
func reportSequence(body []byte) (seq uint32, ok bool) {
	for typ, value := range attributes(body, netfilterHeader) {
		if typ == nflogSequenceNum {
			return big32Of(value), true
		}
	}
	return 0, false
}

func (r *Reports) decode(body []byte) Report {
	report := Report{}
	for typ, value := range attributes(body, netfilterHeader) {
		switch typ {
		case nflogHeader:
			if len(value) >= 3 {
				report.Hook = Hook(value[2])
			}
		case nflogMark:
			report.Mark = big32Of(value)
		case nflogTimestamp:
			if len(value) >= 16 {
				report.Time = time.Unix(int64(binary.BigEndian.Uint64(value)), int64(binary.BigEndian.Uint64(value[8:]))*1000)
			}
		case nflogIn:
			report.In = r.names.name(big32Of(value))
		case nflogOut:
			report.Out = r.names.name(big32Of(value))
		case nflogPayload:
			report.packet(value)
		case nflogPrefix:
			report.Prefix = r.text(value)
		}
	}
	if report.Time.IsZero() {
		report.Time = time.Now()
	}
	return report
}

// packet decodes as much as there is of a packet's beginning.
func (r *Report) packet(b []byte) {
	if len(b) == 0 {
		return
	}
	switch b[0] >> 4 {
	case 4:
		r.packet4(b)
	case 6:
		r.packet6(b)
	}
}

// packet4 decodes an IPv4 packet (RFC 791).
func (r *Report) packet4(b []byte) {
	const minHeader = 20
	if len(b) < minHeader {
		return
	}
	r.Length = int(binary.BigEndian.Uint16(b[2:]))
	r.Protocol = policy.Protocol(b[9])
	r.Packet.Source, _ = netip.AddrFromSlice(b[12:16])
	r.Packet.Destination, _ = netip.AddrFromSlice(b[16:20])
	const offsetMask = 1<<13 - 1
	if header := int(b[0]&0xf) * 4; binary.BigEndian.Uint16(b[6:])&offsetMask == 0 && header >= minHeader && header <= len(b) {
		r.transport(b[header:])
	}
}

// packet6 decodes an IPv6 packet with the extension headers before the transport's (RFC 8200).
func (r *Report) packet6(b []byte) {
	const header, fragment = 40, 8
	if len(b) < header {
		return
	}
	r.Length = int(binary.BigEndian.Uint16(b[4:])) + header
	r.Packet.Source, _ = netip.AddrFromSlice(b[8:24])
	r.Packet.Destination, _ = netip.AddrFromSlice(b[24:40])
	r.Protocol = policy.Protocol(b[6])
	for b = b[header:]; len(b) >= fragment; {
		size := 0
		switch r.Protocol {
		case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_DSTOPTS:
			size = (int(b[1]) + 1) * 8
		case unix.IPPROTO_AH:
			size = (int(b[1]) + 2) * 4
		case unix.IPPROTO_FRAGMENT:
			size = fragment
			if binary.BigEndian.Uint16(b[2:])>>3 != 0 { // a later one
				r.Protocol = policy.Protocol(b[0])
				return
			}
		default:
			r.transport(b)
			return
		}
		r.Protocol = policy.Protocol(b[0])
		b = b[min(size, len(b)):]
	}
}

// transport decodes ports, or what ICMP has in their place.
func (r *Report) transport(b []byte) {
	switch {
	case isICMP(r.Protocol):
		if len(b) < 8 {
			return
		}
		r.Packet.ICMP = ICMP{Type: b[0], Code: b[1]}
		if isEcho(r.Protocol, b[0]) {
			r.Packet.ICMP.ID = binary.BigEndian.Uint16(b[4:])
		}
	case hasPorts(r.Protocol) && len(b) >= 4:
		r.Packet.SourcePort, r.Packet.DestinationPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
}

// isEcho: echo request and reply are 8 and 0 of ICMP (RFC 792), 128 and 129 of ICMPv6 (RFC 4443).
func isEcho(p policy.Protocol, typ uint8) bool {
	if p == policy.ICMP {
		return typ == 0 || typ == 8
	}
	return typ == 128 || typ == 129
}
