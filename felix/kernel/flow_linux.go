// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"korat/policy"
)

// Flow is a flow as the connection tracking has it.
type Flow struct {
	Protocol policy.Protocol
	// Original is how it began, and Reply how answers look: with destination NAT their source is who really
	// answers, and with source NAT their destination is the address that took the first sender's place.
	Original, Reply Tuple
	Status          FlowStatus
	TCPState        TCPState
	Mark            uint32
	// Zone is the connection tracking's zone, if it is that of both directions, and OriginalZone if it is that of the
	// original one alone.
	Zone, OriginalZone uint16
	// ID tells it from a later one with the same Original.
	ID uint32
	// Master is, of a flow that another one has announced (FTP's data), how that one began; else its addresses are
	// invalid.
	Master Start
}

// Start is how a flow began.
type Start struct {
	Protocol policy.Protocol
	Tuple
}

// Tuple is what a packet of a flow looks like. It has ports, or of ICMP and ICMPv6 the ICMP part.
type Tuple struct {
	Source, Destination         netip.Addr
	SourcePort, DestinationPort uint16
	ICMP                        ICMP
}

// ICMP is a message's type, code and identifier, which is 0 of messages other than requests and their replies.
type ICMP struct {
	Type, Code uint8
	ID         uint16
}

// FlowStatus is what the kernel notes of a flow: linux/netfilter/nf_conntrack_common.h, enum ip_conntrack_status.
type FlowStatus uint32

// The notes that are of use here.
const (
	FlowSeenReply      FlowStatus = 1 << 1
	FlowAssured        FlowStatus = 1 << 2
	FlowSourceNAT      FlowStatus = 1 << 4
	FlowDestinationNAT FlowStatus = 1 << 5
)

// TCPState is the state of a flow of TCP: linux/netfilter/nf_conntrack_tcp.h, enum tcp_conntrack.
type TCPState uint8

// String gives the state's name, as conntrack(8) shows it.
func (s TCPState) String() string {
	names := [...]string{
		"NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2",
	}
	if int(s) < len(names) {
		return names[s]
	}
	return strconv.Itoa(int(s))
}

// String gives the flow as conntrack(8) shows it, without what changes by itself: "6 ESTABLISHED src=10.0.0.1
// dst=10.0.0.2 sport=40000 dport=80 src=10.0.0.2 dst=10.0.0.1 sport=80 dport=40000 [ASSURED] mark=0".
func (f Flow) String() string {
	state, unreplied, assured, zone := "", "", "", ""
	if f.Protocol == policy.TCP {
		state = " " + f.TCPState.String()
	}
	if f.Status&FlowSeenReply == 0 {
		unreplied = " [UNREPLIED]"
	}
	if f.Status&FlowAssured != 0 {
		assured = " [ASSURED]"
	}
	if f.Zone != 0 {
		zone = fmt.Sprintf(" zone=%d", f.Zone)
	} else if f.OriginalZone != 0 {
		zone = fmt.Sprintf(" zone-orig=%d", f.OriginalZone)
	}
	return fmt.Sprintf("%d%s %s%s %s%s mark=%d%s", f.Protocol, state, f.Original.text(f.Protocol), unreplied,
		f.Reply.text(f.Protocol), assured, f.Mark, zone)
}

func (t Tuple) text(p policy.Protocol) string {
	ends := fmt.Sprintf("src=%v dst=%v", t.Source, t.Destination)
	switch {
	case isICMP(p):
		return fmt.Sprintf("%s type=%d code=%d id=%d", ends, t.ICMP.Type, t.ICMP.Code, t.ICMP.ID)
	case hasPorts(p):
		return fmt.Sprintf("%s sport=%d dport=%d", ends, t.SourcePort, t.DestinationPort)
	}
	return ends
}

func isICMP(p policy.Protocol) bool { return p == policy.ICMP || p == policy.ICMPv6 }

// What linux/netfilter/nfnetlink_conntrack.h has and the library lacks. ICMPv6's attributes come after ICMP's.
const (
	ctaFilter           = 25
	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2
	// filterSource is the kernel's CTA_FILTER_F_CTA_IP_SRC: the source address must match.
	filterSource = 1 << 0
	// ctaTupleMaster is CTA_TUPLE_MASTER, ctaTupleZone CTA_TUPLE_ZONE, and ctaMarkMask CTA_MARK_MASK.
	ctaTupleMaster = 14
	ctaTupleZone   = 3
	ctaMarkMask    = 21
	ctaICMPID      = 4
	ctaICMPType    = 5
	ctaICMPCode    = 6
	ctaICMPv6ID    = 7
	ctaICMPv6Type  = 8
	ctaICMPv6Code  = 9
)

func encodeFlowDump(b *buffer, family uint8) {
	b.beginNetfilter(unix.NFNL_SUBSYS_CTNETLINK, nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, family, 0)
}

// encodeFlowSearch asks for the flows of which the first packet, or its answers, come from an address.
func encodeFlowSearch(b *buffer, end flowEnd) {
	encodeFlowDump(b, family(end.Addr))
	tuple, flags := uint16(nl.CTA_TUPLE_ORIG), uint16(ctaFilterOrigFlags)
	if end.reply {
		tuple, flags = nl.CTA_TUPLE_REPLY, ctaFilterReplyFlags
	}
	at := b.open(tuple | nested)
	ip := b.open(nl.CTA_TUPLE_IP | nested)
	b.attrAddr(nl.CTA_IP_V4_SRC, end.Addr)
	b.close(ip)
	b.close(at)
	at = b.open(ctaFilter | nested)
	b.attrUint32(flags, filterSource)
	b.close(at)
}

// encodeFlowDelete appends the message that deletes a flow. One without a tuple would delete all flows there are.
func encodeFlowDelete(b *buffer, f Flow) error {
	t := f.Original
	if !t.whole() {
		return errFlow
	}
	b.beginNetfilter(unix.NFNL_SUBSYS_CTNETLINK, nl.IPCTNL_MSG_CT_DELETE, 0, family(t.Source), 0)
	encodeStart(b, f)
	if f.ID != 0 {
		b.attrBig32(nl.CTA_ID, f.ID)
	}
	return nil
}

// encodeFlowMark appends the message that gives a flow's mark the bits of mask as value has them. Without NLM_F_CREATE
// nothing but what there is is changed.
func encodeFlowMark(b *buffer, f Flow, value, mask uint32) error {
	if !f.Original.whole() {
		return errFlow
	}
	b.beginNetfilter(unix.NFNL_SUBSYS_CTNETLINK, nl.IPCTNL_MSG_CT_NEW, 0, family(f.Original.Source), 0)
	encodeStart(b, f)
	b.attrBig32(nl.CTA_MARK, value)
	b.attrBig32(ctaMarkMask, mask)
	return nil
}

var errFlow = errors.New("it has not got two addresses of one family")

// whole says whether it can tell which flow is meant.
func (t Tuple) whole() bool {
	return t.Source.IsValid() && t.Destination.IsValid() && t.Source.Is4() == t.Destination.Is4()
}

// encodeStart says which flow is meant.
func encodeStart(b *buffer, f Flow) {
	at := b.open(nl.CTA_TUPLE_ORIG | nested)
	encodeTuple(b, f.Protocol, f.Original)
	if f.OriginalZone != 0 {
		b.attrBig16(ctaTupleZone, f.OriginalZone)
	}
	b.close(at)
	if f.Zone != 0 {
		b.attrBig16(nl.CTA_ZONE, f.Zone)
	}
}

func encodeTuple(b *buffer, p policy.Protocol, t Tuple) {
	at := b.open(nl.CTA_TUPLE_IP | nested)
	source, destination := uint16(nl.CTA_IP_V4_SRC), uint16(nl.CTA_IP_V4_DST)
	if t.Source.Is6() {
		source, destination = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	b.attrAddr(source, t.Source)
	b.attrAddr(destination, t.Destination)
	b.close(at)
	at = b.open(nl.CTA_TUPLE_PROTO | nested)
	b.attrUint8(nl.CTA_PROTO_NUM, uint8(p))
	switch p {
	case policy.ICMP:
		b.attrUint8(ctaICMPType, t.ICMP.Type)
		b.attrUint8(ctaICMPCode, t.ICMP.Code)
		b.attrBig16(ctaICMPID, t.ICMP.ID)
	case policy.ICMPv6:
		b.attrUint8(ctaICMPv6Type, t.ICMP.Type)
		b.attrUint8(ctaICMPv6Code, t.ICMP.Code)
		b.attrBig16(ctaICMPv6ID, t.ICMP.ID)
	default: // protocols without ports don't look at them
		b.attrBig16(nl.CTA_PROTO_SRC_PORT, t.SourcePort)
		b.attrBig16(nl.CTA_PROTO_DST_PORT, t.DestinationPort)
	}
	b.close(at)
}

// flowEnds gives who began a flow and who answers, without decoding the rest.
func flowEnds(body []byte) (from, to netip.Addr) {
	for typ, value := range attributes(body, netfilterHeader) {
		switch typ {
		case nl.CTA_TUPLE_ORIG:
			from = sourceOf(value)
		case nl.CTA_TUPLE_REPLY:
			return from, sourceOf(value)
		}
	}
	return from, to
}

// sourceOf takes a tuple's source address.
func sourceOf(tuple []byte) (source netip.Addr) {
	for typ, value := range attributes(tuple, 0) {
		if typ != nl.CTA_TUPLE_IP {
			continue
		}
		for typ, value := range attributes(value, 0) {
			if typ == nl.CTA_IP_V4_SRC || typ == nl.CTA_IP_V6_SRC {
				source, _ = netip.AddrFromSlice(value)
				return source
			}
		}
	}
	return source
}

// decodeFlow: ok is false if the message has not got both tuples.
func decodeFlow(body []byte) (f Flow, ok bool) {
	for typ, value := range attributes(body, netfilterHeader) {
		switch typ {
		case nl.CTA_TUPLE_ORIG:
			f.Protocol, f.Original = decodeTuple(value)
			f.OriginalZone = zoneOf(value)
		case nl.CTA_TUPLE_REPLY:
			_, f.Reply = decodeTuple(value)
		case ctaTupleMaster:
			f.Master.Protocol, f.Master.Tuple = decodeTuple(value)
		case nl.CTA_STATUS:
			f.Status = FlowStatus(big32Of(value))
		case nl.CTA_PROTOINFO:
			f.TCPState = decodeTCPState(value)
		case nl.CTA_MARK:
			f.Mark = big32Of(value)
		case nl.CTA_ZONE:
			f.Zone = big16Of(value)
		case nl.CTA_ID:
			f.ID = big32Of(value)
		}
	}
	return f, f.Original.Source.IsValid() && f.Reply.Source.IsValid()
}

func decodeTCPState(info []byte) (s TCPState) {
	for typ, value := range attributes(info, 0) {
		if typ != nl.CTA_PROTOINFO_TCP {
			continue
		}
		for typ, value := range attributes(value, 0) {
			if typ == nl.CTA_PROTOINFO_TCP_STATE {
				s = TCPState(uint8Of(value))
			}
		}
	}
	return s
}

// zoneOf gives a tuple's zone if it is that of its direction alone.
func zoneOf(tuple []byte) (zone uint16) {
	for typ, value := range attributes(tuple, 0) {
		if typ == ctaTupleZone {
			zone = big16Of(value)
		}
	}
	return zone
}

func decodeTuple(data []byte) (p policy.Protocol, t Tuple) {
	for typ, value := range attributes(data, 0) {
		switch typ {
		case nl.CTA_TUPLE_IP:
			for typ, value := range attributes(value, 0) {
				switch typ {
				case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
					t.Source, _ = netip.AddrFromSlice(value)
				case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
					t.Destination, _ = netip.AddrFromSlice(value)
				}
			}
		case nl.CTA_TUPLE_PROTO:
			p = t.decodePorts(value)
		}
	}
	return p, t
}

func (t *Tuple) decodePorts(data []byte) (p policy.Protocol) {
	for typ, value := range attributes(data, 0) {
		switch typ {
		case nl.CTA_PROTO_NUM:
			p = policy.Protocol(uint8Of(value))
		case nl.CTA_PROTO_SRC_PORT:
			t.SourcePort = big16Of(value)
		case nl.CTA_PROTO_DST_PORT:
			t.DestinationPort = big16Of(value)
		case ctaICMPID, ctaICMPv6ID:
			t.ICMP.ID = big16Of(value)
		case ctaICMPType, ctaICMPv6Type:
			t.ICMP.Type = uint8Of(value)
		case ctaICMPCode, ctaICMPv6Code:
			t.ICMP.Code = uint8Of(value)
		}
	}
	return p
}
