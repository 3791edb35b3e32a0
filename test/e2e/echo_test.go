// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
)

// echoConn is a flow of ICMP, all of it with one identifier: what is written goes out as an echo request, and what the other
// end sends back with its reply is read. (RFC 792, RFC 4443)
type echoConn struct {
	net.Conn
	raw            *net.IPConn
	request, reply byte
	sent           atomic.Uint32
}

const (
	echoHeader = 8
	echoID     = 4711
)

func openEcho(ctx context.Context, from dialler, to netip.Addr) (*echoConn, error) {
	e, network := &echoConn{request: 8, reply: 0}, "ip4:icmp"
	if to.Is6() {
		e.request, e.reply, network = 128, 129, "ip6:ipv6-icmp"
	}
	c, err := from.Dial(ctx, network, to.String())
	if err != nil {
		return nil, fmt.Errorf("open a flow of ICMP: %w", err)
	}
	e.Conn, e.raw = c, c.(*net.IPConn)
	return e, nil
}

// Write takes an even number of bytes. Of ICMPv6 the kernel sets the checksum.
func (e *echoConn) Write(b []byte) (int, error) {
	message := []byte{e.request, 0, 0, 0}
	message = binary.BigEndian.AppendUint16(message, echoID)
	message = binary.BigEndian.AppendUint16(message, uint16(e.sent.Add(1)))
	message = append(message, b...)
	binary.BigEndian.PutUint16(message[2:], checksum(message))
	if _, err := e.Conn.Write(message); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Read gives nothing of what is no reply.
func (e *echoConn) Read(b []byte) (int, error) {
	packet := make([]byte, 2048) // with the header of IPv4, which is cut off
	n, _, err := e.raw.ReadFromIP(packet)
	if err != nil || n < echoHeader || packet[0] != e.reply || binary.BigEndian.Uint16(packet[4:]) != echoID {
		return 0, err
	}
	return copy(b, packet[echoHeader:n]), nil
}
