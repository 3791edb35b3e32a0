// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"korat/api"
	"korat/policy"
)

// What linux/netfilter/ipset/ip_set.h has and the library lacks.
const (
	// listHeaders asks for sets without their members (IPSET_FLAG_LIST_HEADER).
	listHeaders = 1 << 2
)

const (
	nested = unix.NLA_F_NESTED
	// bigEndian must be set on a number's attribute, or the kernel takes it for malformed.
	bigEndian = unix.NLA_F_NET_BYTEORDER
	// membersPerMessage keeps the lock that all of netfilter's configuration shares for some 100 µs at a time.
	membersPerMessage = 500
	// minBuckets is the kernel's least size of a hash (IPSET_MIMINAL_HASHSIZE). Its default, 1024, takes 8 KiB for a
	// set of one member; it grows by itself in either case.
	minBuckets = 64
	// membersPerBucket is what a bucket is meant to hold; the kernel doubles the hash when one would hold more than 12.
	membersPerBucket = 4
)

// setType is what the kernel calls a kind of sets. The revision is the oldest that can do what is needed here,
// so that any kernel has it.
type setType struct {
	name     string
	revision uint8
}

func typeOf(kind policy.SetKind) (setType, error) {
	switch kind {
	case policy.Prefixes:
		return setType{"hash:net", 0}, nil
	case policy.AddressPorts:
		return setType{"hash:ip,port", 1}, nil // 1: SCTP and UDPLITE
	case policy.PortNumbers:
		return setType{"bitmap:port", 0}, nil
	}
	return setType{}, fmt.Errorf("%d is no kind of sets", kind)
}

func beginSet(b *buffer, command, flags uint16, name string) {
	b.beginNetfilter(unix.NFNL_SUBSYS_IPSET, command, flags, unix.AF_UNSPEC, 0)
	b.attrUint8(nl.IPSET_ATTR_PROTOCOL, nl.IPSET_PROTOCOL)
	if name != "" {
		b.attrString(nl.IPSET_ATTR_SETNAME, name)
	}
}

// encodeSetList asks for one set, or for all if name is empty.
func encodeSetList(b *buffer, flags uint32, name string) {
	beginSet(b, nl.IPSET_CMD_LIST, unix.NLM_F_DUMP, name)
	if flags != 0 {
		b.attrBig32(nl.IPSET_ATTR_FLAGS|bigEndian, flags)
	}
}

// encodeSetCreate makes an empty set with room for a number of members.
func encodeSetCreate(b *buffer, name string, key policy.SetKey, room, maxMembers int) error {
	t, err := typeOf(key.Kind)
	if err != nil {
		return err
	}
	beginSet(b, nl.IPSET_CMD_CREATE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, name)
	b.attrString(nl.IPSET_ATTR_TYPENAME, t.name)
	b.attrUint8(nl.IPSET_ATTR_REVISION, t.revision)
	b.attrUint8(nl.IPSET_ATTR_FAMILY, setFamily(key))
	data := b.open(nl.IPSET_ATTR_DATA | nested)
	if key.Kind == policy.PortNumbers {
		b.attrBig16(nl.IPSET_ATTR_PORT_FROM|bigEndian, 0)
		b.attrBig16(nl.IPSET_ATTR_PORT_TO|bigEndian, lastPort)
	} else {
		b.attrBig32(nl.IPSET_ATTR_HASHSIZE|bigEndian, buckets(room))
		b.attrBig32(nl.IPSET_ATTR_MAXELEM|bigEndian, uint32(maxMembers))
	}
	b.close(data)
	return nil
}

const lastPort = 65535

// buckets is a power of two.
func buckets(members int) uint32 {
	return max(minBuckets, uint32(1)<<bits.Len32(uint32(members)/membersPerBucket))
}

// setFamily is the family that the kernel knows of a set: a bitmap of ports has none.
func setFamily(key policy.SetKey) uint8 {
	if key.Kind == policy.PortNumbers {
		return unix.AF_UNSPEC
	}
	return familyNumber(key.Family)
}

// familyNumber is the kernel's number of a family.
func familyNumber(f api.Family) uint8 {
	if f == api.IPv4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// encodeSetPair appends a message about two sets: swap or rename.
func encodeSetPair(b *buffer, command uint16, name, other string) {
	beginSet(b, command, 0, name)
	b.attrString(nl.IPSET_ATTR_SETNAME2, other)
}

// encodeMembers appends the message that adds or deletes at most membersPerMessage members. Without NLM_F_EXCL the
// kernel leaves what is so already. It stops at the first member that it refuses and answers with its line
// (call_ad in net/netfilter/ipset/ip_set_core.c), which is the member's number from 1; the message's own line number
// is where that answer is written to.
func encodeMembers(b *buffer, command uint16, name string, kind policy.SetKind, members []policy.Member) {
	beginSet(b, command, 0, name)
	b.attrUint32(nl.IPSET_ATTR_LINENO, 0)
	list := b.open(nl.IPSET_ATTR_ADT | nested)
	for i, m := range members {
		at := b.open(nl.IPSET_ATTR_DATA | nested)
		if kind != policy.PortNumbers {
			encodeMemberAddress(b, m.Prefix)
		}
		if kind != policy.Prefixes {
			b.attrBig16(nl.IPSET_ATTR_PORT|bigEndian, m.Port)
		}
		if kind == policy.AddressPorts {
			b.attrUint8(nl.IPSET_ATTR_PROTO, uint8(m.Protocol))
		}
		b.attrUint32(nl.IPSET_ATTR_LINENO, uint32(i+1))
		b.close(at)
	}
	b.close(list)
}

func encodeMemberAddress(b *buffer, p netip.Prefix) {
	at := b.open(nl.IPSET_ATTR_IP | nested)
	if p.Addr().Is4() {
		b.attrAddr(nl.IPSET_ATTR_IPADDR_IPV4|bigEndian, p.Addr())
	} else {
		b.attrAddr(nl.IPSET_ATTR_IPADDR_IPV6|bigEndian, p.Addr())
	}
	b.close(at)
	if !p.IsSingleIP() {
		b.attrUint8(nl.IPSET_ATTR_CIDR, uint8(p.Bits()))
	}
}

// refusedLine is the line number in our message that came back with an error; 0 if it was none to an IP set.
func refusedLine(request []byte) (line uint32) {
	h, ok := header[unix.NlMsghdr](request)
	if !ok || h.Type>>8 != unix.NFNL_SUBSYS_IPSET {
		return 0
	}
	for typ, value := range attributes(request, unix.SizeofNlMsghdr+netfilterHeader) {
		if typ == nl.IPSET_ATTR_LINENO {
			line = uint32Of(value)
		}
	}
	return line
}

// checkMember refuses what the kernel would refuse, or would hold as something else.
func checkMember(key policy.SetKey, m policy.Member) error {
	p := m.Prefix
	if key.Kind == policy.PortNumbers {
		if p.IsValid() || m.Protocol != 0 {
			return errors.New("not a port alone")
		}
		return nil
	}
	switch {
	case !p.IsValid() || p != p.Masked():
		return errors.New("not a prefix, or one with host bits set")
	case !key.Family.Has(p.Addr()):
		return fmt.Errorf("not an %v prefix", key.Family)
	case p.Bits() == 0:
		return errors.New("a set can't hold a prefix of length 0: it has to be written as its two halves")
	case key.Kind == policy.Prefixes && (m.Protocol != 0 || m.Port != 0):
		return errors.New("not a prefix alone")
	case key.Kind == policy.AddressPorts && (!p.IsSingleIP() || !hasPorts(m.Protocol)):
		return errors.New("not one address with a port of TCP, UDP, UDP-Lite or SCTP")
	}
	return nil
}

// hasPorts: of any other protocol the kernel keeps port 0, whatever it is given.
func hasPorts(p policy.Protocol) bool {
	return p == policy.TCP || p == policy.UDP || p == policy.UDPLite || p == policy.SCTP
}
