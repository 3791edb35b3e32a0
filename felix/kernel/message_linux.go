// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"iter"
	"net/netip"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// native is netlink's byte order: the host's, but for addresses.
var native = binary.NativeEndian

// attributeTypeMask leaves out the nested and byte-order flags of an attribute's type (NLA_TYPE_MASK).
const attributeTypeMask = 1<<14 - 1

// buffer holds the messages of one send, one behind the other.
type buffer struct {
	b []byte
	// last is where the message that was begun last starts.
	last int
}

func (b *buffer) reset() { b.b, b.last = b.b[:0], 0 }

// begin starts a message; its length and sequence number are filled in by end.
func (b *buffer) begin(typ, flags uint16) {
	b.last = len(b.b)
	b.b = append(b.b, make([]byte, unix.SizeofNlMsghdr)...)
	native.PutUint16(b.b[b.last+4:], typ)
	native.PutUint16(b.b[b.last+6:], flags|unix.NLM_F_REQUEST)
}

// beginNetfilter starts a message to a subsystem of netfilter; resource is a packet log's group.
func (b *buffer) beginNetfilter(subsystem, command, flags uint16, family uint8, resource uint16) {
	b.begin(subsystem<<8|command, flags)
	h := unix.Nfgenmsg{Nfgen_family: family, Version: unix.NFNETLINK_V0}
	binary.BigEndian.PutUint16(bytesOf(&h.Res_id), resource)
	b.raw(bytesOf(&h))
}

// end completes the message that was begun last.
func (b *buffer) end(seq uint32) {
	native.PutUint32(b.b[b.last:], uint32(len(b.b)-b.last))
	native.PutUint32(b.b[b.last+8:], seq)
}

// acknowledge asks for an answer to the message that was begun last even if it succeeds.
func (b *buffer) acknowledge() {
	flags := native.Uint16(b.b[b.last+6:])
	native.PutUint16(b.b[b.last+6:], flags|unix.NLM_F_ACK)
}

// raw appends a fixed header.
func (b *buffer) raw(p []byte) {
	b.b = append(b.b, p...)
	b.pad()
}

func (b *buffer) attr(typ uint16, data []byte) {
	at := b.open(typ)
	b.b = append(b.b, data...)
	b.close(at)
}

func (b *buffer) attrUint32(typ uint16, v uint32) {
	at := b.open(typ)
	b.b = native.AppendUint32(b.b, v)
	b.close(at)
}

func (b *buffer) attrUint8(typ uint16, v uint8) { b.attr(typ, []byte{v}) }

// attrBig16 and attrBig32 are for what goes over the wire as it is in packets: netfilter's numbers.
func (b *buffer) attrBig16(typ, v uint16) {
	at := b.open(typ)
	b.b = binary.BigEndian.AppendUint16(b.b, v)
	b.close(at)
}

func (b *buffer) attrBig32(typ uint16, v uint32) {
	at := b.open(typ)
	b.b = binary.BigEndian.AppendUint32(b.b, v)
	b.close(at)
}

func (b *buffer) attrAddr(typ uint16, a netip.Addr) {
	at := b.open(typ)
	if a.Is4() {
		v := a.As4()
		b.b = append(b.b, v[:]...)
	} else {
		v := a.As16()
		b.b = append(b.b, v[:]...)
	}
	b.close(at)
}

func (b *buffer) attrString(typ uint16, s string) {
	at := b.open(typ)
	b.b = append(append(b.b, s...), 0)
	b.close(at)
}

// open starts an attribute whose content follows, until close is given what open returned.
func (b *buffer) open(typ uint16) int {
	at := len(b.b)
	b.b = append(b.b, 0, 0, 0, 0)
	native.PutUint16(b.b[at+2:], typ)
	return at
}

func (b *buffer) close(at int) {
	native.PutUint16(b.b[at:], uint16(len(b.b)-at))
	b.pad()
}

func (b *buffer) pad() {
	for len(b.b)%unix.NLMSG_ALIGNTO != 0 {
		b.b = append(b.b, 0)
	}
}

// netfilterHeader is the length of netfilter's fixed header.
const netfilterHeader = nl.SizeofNfgenmsg

// message is one received message.
type message struct {
	typ, flags uint16
	seq, port  uint32
	body       []byte
}

// messages yields what one receive brought, up to the first message that doesn't fit.
func messages(b []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for m, rest, ok := nextMessage(b); ok && yield(m); m, rest, ok = nextMessage(rest) {
		}
	}
}

// nextMessage takes the first message off; ok is false if there is no whole one.
func nextMessage(b []byte) (m message, rest []byte, ok bool) {
	if len(b) < unix.SizeofNlMsghdr {
		return m, nil, false
	}
	n := int(native.Uint32(b))
	if n < unix.SizeofNlMsghdr || n > len(b) {
		return m, nil, false
	}
	m = message{native.Uint16(b[4:]), native.Uint16(b[6:]), native.Uint32(b[8:]), native.Uint32(b[12:]), b[unix.SizeofNlMsghdr:n]}
	return m, b[min(align(n), len(b)):], true
}

// attributes yields the attributes that follow a fixed header of the given length, without the flags
// in their types.
func attributes(body []byte, header int) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		b := body[min(align(header), len(body)):]
		for len(b) >= unix.SizeofRtAttr {
			n := int(native.Uint16(b))
			if n < unix.SizeofRtAttr || n > len(b) {
				return
			}
			if !yield(native.Uint16(b[2:])&attributeTypeMask, b[unix.SizeofRtAttr:n]) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// bytesOf gives a fixed header's memory.
func bytesOf[T any](header *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(header)), unsafe.Sizeof(*header))
}

// header reads a fixed header; ok is false if the message is too short for it.
func header[T any](body []byte) (h T, ok bool) {
	if len(body) < int(unsafe.Sizeof(h)) {
		return h, false
	}
	copy(bytesOf(&h), body)
	return h, true
}

func uint32Of(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return native.Uint32(b)
}

func big16Of(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

func big32Of(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func uint8Of(b []byte) uint8 {
	if len(b) < 1 {
		return 0
	}
	return b[0]
}

func stringOf(b []byte) string {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return string(b)
}
