// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"korat/felix/kernel"
)

// bare is a route-netlink socket used as sparingly as can be.
type bare struct {
	fd  int
	in  []byte
	seq uint32
}

const (
	// bareBatch is the number of messages per send.
	bareBatch = 128
	// bareReceive is the size of the receive buffer; the kernel fills what it is given, up to 32 KiB.
	bareReceive = 64 << 10
)

func dialBare() (*bare, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	// The kernel's own filter by table, as felix/kernel has it.
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
		return nil, errors.Join(fmt.Errorf("set up netlink socket: %w", err), unix.Close(fd))
	}
	return &bare{fd: fd, in: make([]byte, bareReceive)}, nil
}

func (b *bare) close() error { return unix.Close(b.fd) }

func (b *bare) send(msg []byte) error {
	return unix.Sendto(b.fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// message appends a header, whose length is to be filled in, and the fixed part of a route message.
func (b *bare) message(out []byte, typ, flags uint16, rt unix.RtMsg) []byte {
	b.seq++
	native := binary.NativeEndian
	out = native.AppendUint32(out, 0)
	out = native.AppendUint16(out, typ)
	out = native.AppendUint16(out, flags|unix.NLM_F_REQUEST)
	out = native.AppendUint32(out, b.seq)
	out = native.AppendUint32(out, 0)
	out = append(out, rt.Family, rt.Dst_len, rt.Src_len, rt.Tos, rt.Table, rt.Protocol, rt.Scope, rt.Type)
	return native.AppendUint32(out, rt.Flags)
}

// dump reads the main table and counts the messages.
func (b *bare) dump() (int, error) {
	msg := b.message(nil, unix.RTM_GETROUTE, unix.NLM_F_DUMP, unix.RtMsg{Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN})
	binary.NativeEndian.PutUint32(msg, uint32(len(msg)))
	if err := b.send(msg); err != nil {
		return 0, fmt.Errorf("ask for routes: %w", err)
	}
	for n := 0; ; {
		got, _, err := unix.Recvfrom(b.fd, b.in, 0)
		if err != nil {
			return 0, fmt.Errorf("read routes: %w", err)
		}
		for rest := b.in[:got]; len(rest) >= unix.SizeofNlMsghdr; n++ {
			switch binary.NativeEndian.Uint16(rest[4:]) {
			case unix.NLMSG_DONE:
				return n, nil
			case unix.NLMSG_ERROR:
				return 0, fmt.Errorf("read routes: %w", answer(rest))
			}
			rest = rest[binary.NativeEndian.Uint32(rest):]
		}
	}
}

// write makes the routes, with one acknowledgement for each batch.
func (b *bare) write(cfg RoutesConfig) error {
	dev, err := net.InterfaceByName(cfg.Device)
	if err != nil {
		return fmt.Errorf("write routes: %w", err)
	}
	var out []byte
	for from := 0; from < cfg.Count; from += bareBatch {
		out = out[:0]
		to := min(from+bareBatch, cfg.Count)
		for i := from; i < to; i++ {
			var ack uint16
			if i == to-1 {
				ack = unix.NLM_F_ACK
			}
			out = b.route(out, cfg, i, uint32(dev.Index), ack)
		}
		if err := b.send(out); err != nil {
			return fmt.Errorf("write routes: %w", err)
		}
		if _, _, err := unix.Recvfrom(b.fd, b.in, 0); err != nil {
			return fmt.Errorf("write routes: %w", err)
		}
		if err := answer(b.in); err != nil {
			return fmt.Errorf("write routes: %w", err)
		}
	}
	return nil
}

// answer is the error in an acknowledgement.
func answer(msg []byte) error {
	if code := int32(binary.NativeEndian.Uint32(msg[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

func (b *bare) route(out []byte, cfg RoutesConfig, i int, index uint32, flags uint16) []byte {
	start, native := len(out), binary.NativeEndian
	out = b.message(out, unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|flags, unix.RtMsg{
		Family: unix.AF_INET, Dst_len: uint8(cfg.prefix(i).Bits()), Table: unix.RT_TABLE_MAIN,
		Protocol: kernel.Protocol, Type: unix.RTN_UNICAST, Flags: unix.RTNH_F_ONLINK,
	})
	dst, gateway := cfg.prefix(i).Addr().As4(), cfg.gateway(i).As4()
	for _, a := range []struct {
		typ   uint16
		value [4]byte
	}{
		{unix.RTA_DST, dst},
		{unix.RTA_OIF, [4]byte(native.AppendUint32(nil, index))},
		{unix.RTA_GATEWAY, gateway},
	} {
		out = native.AppendUint16(out, unix.SizeofRtAttr+4)
		out = native.AppendUint16(out, a.typ)
		out = append(out, a.value[:]...)
	}
	native.PutUint32(out[start:], uint32(len(out)-start))
	return out
}
