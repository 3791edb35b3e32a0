// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// packetSocket gives one for packets of a protocol of Ethernet, from the IP header on. What comes to any interface comes here,
// too, before the kernel looks whether anybody wants it.
func packetSocket(where insider, protocol uint16) (f *os.File, raw syscall.RawConn, err error) {
	err = where.Inside(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(network16(protocol)))
		if err != nil {
			return fmt.Errorf("open a packet socket: %w", err)
		}
		f = os.NewFile(uintptr(fd), "packet socket")
		raw, err = f.SyscallConn()
		return err
	})
	return f, raw, err
}

// network16 gives a number in network byte order.
func network16(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// receive waits for a packet; of one that goes out it gives nothing.
func receive(raw syscall.RawConn, packet []byte) (n int, err error) {
	readErr := raw.Read(func(fd uintptr) bool {
		var from unix.Sockaddr
		n, from, err = unix.Recvfrom(int(fd), packet, 0)
		if at, is := from.(*unix.SockaddrLinklayer); is && at.Pkttype == unix.PACKET_OUTGOING {
			n = 0
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	if readErr != nil {
		return 0, readErr
	}
	if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.EINTR) { // of an interface that has gone
		return 0, nil
	}
	return max(n, 0), err
}

// transmit sends a packet by an interface, to the host's end of a pod's.
func transmit(raw syscall.RawConn, device int, packet []byte) (err error) {
	at := &unix.SockaddrLinklayer{Protocol: network16(unix.ETH_P_IP), Ifindex: device, Halen: 6, Addr: [8]byte{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}}
	if packet[0]>>4 == 6 {
		at.Protocol = network16(unix.ETH_P_IPV6)
	}
	if closed := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), packet, 0, at) }); closed != nil {
		return closed
	}
	return err
}

// payload is what an IP packet has in it.
type payload struct {
	protocol byte
	data     []byte
}

// packetTo gives what a packet to an address has in it, nothing of one to another.
func packetTo(packet []byte, to netip.Addr) payload {
	protocol, address, header := 9, 16, 20
	if to.Is6() {
		protocol, address, header = 6, 24, 40
	}
	if len(packet) < header || packet[0]>>4 == 6 != to.Is6() {
		return payload{}
	}
	if have, _ := netip.AddrFromSlice(packet[address : address+to.BitLen()/8]); have != to {
		return payload{}
	}
	return payload{packet[protocol], packet[header:]}
}

// of says whether it is of a protocol, and for a port.
func (p payload) of(protocol byte, port uint16) bool {
	return p.protocol == protocol && len(p.data) > 3 && binary.BigEndian.Uint16(p.data[2:]) == port
}

// isSYN says of a segment of TCP whether it is the first of a connection.
func (p payload) isSYN() bool { return len(p.data) > 13 && p.data[13]&0x12 == 0x02 }

// datagram gives a packet of UDP, without a socket.
func datagram(from, to netip.Addr, port uint16, text string) []byte {
	if len(text)%2 > 0 {
		text += " "
	}
	length := byte(8 + len(text))
	udp := append([]byte{0x20, 0x00, byte(port >> 8), byte(port), 0, length, 0, 0}, text...)
	pseudo := append(append(from.AsSlice(), to.AsSlice()...), 0, unix.IPPROTO_UDP, 0, length)
	binary.BigEndian.PutUint16(udp[6:], checksum(append(pseudo, udp...)))
	if to.Is6() {
		ip := []byte{0x60, 0, 0, 0, 0, length, unix.IPPROTO_UDP, 64}
		return append(append(append(ip, from.AsSlice()...), to.AsSlice()...), udp...)
	}
	ip := []byte{0x45, 0, 0, 20 + length, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	ip = append(append(ip, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return append(ip, udp...)
}

// checksum is that of an even number of bytes. (RFC 1071)
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
