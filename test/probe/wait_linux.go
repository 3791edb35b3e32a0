// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// expecting says whether an expected answer is missing.
func (r *round) expecting() bool {
	for _, q := range r.questions {
		if q.Expected && !q.Reached {
			return true
		}
	}
	return false
}

// waiting says whether any answer is missing.
func (r *round) waiting() bool {
	open := len(r.tcp)
	for _, s := range r.packets {
		open += len(s.open)
	}
	return open > 0
}

// wait takes answers until the deadline, or until none is missing.
func (r *round) wait(deadline time.Time, missing func() bool) error {
	events := make([]unix.EpollEvent, 64)
	for missing() {
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		if next := time.Until(r.sent.Add(again)); next < left {
			left = max(next, 0)
		}
		// Rounded up, so as not to spin through the last millisecond.
		n, err := unix.EpollWait(r.epoll, events, int((left+time.Millisecond-1)/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for answers to %s: %w", r.place.config.Name, err)
		}
		for _, e := range events[:max(n, 0)] {
			if err := r.answered(int(e.Fd)); err != nil {
				return fmt.Errorf("take answers to %s: %w", r.place.config.Name, err)
			}
		}
		if time.Since(r.sent) >= again {
			r.resend()
		}
	}
	return nil
}

func (r *round) answered(fd int) error {
	if s := r.bySock[fd]; s != nil {
		return s.read()
	}
	return r.connected(fd)
}

// read takes all answers that are there.
func (s *packetSocket) read() error {
	buf := make([]byte, 256)
	for {
		n, from, err := unix.Recvfrom(s.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive %s: %w", s.key.protocol, err)
		}
		if to, ok := s.match(buf[:n], from); ok && s.open[to] != nil {
			s.open[to].Reached = true
			delete(s.open, to)
		}
	}
}

// match gives what a packet is an answer of.
func (s *packetSocket) match(data []byte, from unix.Sockaddr) (netip.AddrPort, bool) {
	var peer netip.AddrPort
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		peer = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		peer = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	default:
		return peer, false
	}
	if s.key.protocol == UDP {
		return peer, len(data) == 4 && binary.BigEndian.Uint32(data) == s.tag
	}
	// A raw socket of IPv4 has the IP header too (raw(7)), of which the first half of a byte is the length in words.
	if !s.key.ipv6 {
		if len(data) == 0 || len(data) < int(data[0]&0xf)*4 {
			return peer, false
		}
		data = data[int(data[0]&0xf)*4:]
	}
	p, ok := readSCTP(data)
	if !ok || p.chunk != chunkInitAck || p.destination != s.port || p.verification != s.tag {
		return peer, false
	}
	return netip.AddrPortFrom(peer.Addr(), p.source), true
}
