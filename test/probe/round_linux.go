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

// again is after how long a packet that may be lost is sent again. (TCP does so by itself.)
const again = 80 * time.Millisecond

// round is the questions of one place. One goroutine at a time has it.
type round struct {
	place     *Place
	questions []*Question
	epoll     int
	// tcp has the question of each connection; it goes with the answer.
	tcp map[int]*Question
	// packets are the sockets of the other protocols, by protocol and family.
	packets map[packetKey]*packetSocket
	bySock  map[int]*packetSocket
	sent    time.Time
}

type packetKey struct {
	protocol Protocol
	ipv6     bool
}

// packetSocket asks all questions of one protocol and family.
type packetSocket struct {
	key  packetKey
	fd   int
	port uint16
	// tag is in each packet and in its answer.
	tag  uint32
	open map[netip.AddrPort]*Question
}

func newRound(p *Place, questions []*Question) *round {
	return &round{
		place: p, questions: questions, epoll: -1,
		tcp: map[int]*Question{}, packets: map[packetKey]*packetSocket{}, bySock: map[int]*packetSocket{},
	}
}

// close resets what there is.
func (r *round) close() {
	for fd := range r.tcp {
		_ = unix.Close(fd) // Nothing is written, so nothing is lost.
	}
	for fd := range r.bySock {
		_ = unix.Close(fd)
	}
	if r.epoll >= 0 {
		_ = unix.Close(r.epoll)
	}
}

// send asks everything.
func (r *round) send() error {
	err := r.place.config.Inside(func() error {
		var err error
		if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return fmt.Errorf("make epoll: %w", err)
		}
		for _, q := range r.questions {
			q.Reached = false
			if q.Protocol == TCP {
				err = r.connect(q)
			} else {
				err = r.enlist(q)
			}
			if err != nil {
				return fmt.Errorf("ask for %s %s: %w", q.Protocol, q.To, err)
			}
		}
		r.resend()
		return nil
	})
	if err != nil {
		return fmt.Errorf("ask from %s: %w", r.place.config.Name, err)
	}
	return nil
}

// socket makes one that is bound to an unused port of the place's address.
func (r *round) socket(ipv6 bool, kind, protocol int) (fd int, port uint16, err error) {
	domain := unix.AF_INET
	if ipv6 {
		domain = unix.AF_INET6
	}
	fd, err = unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, 0, fmt.Errorf("make socket: %w", err)
	}
	for _, addr := range r.place.config.Addresses {
		if addr.Is6() != ipv6 {
			continue
		}
		for range lastPort - firstPort {
			port = r.place.port()
			at := port
			if kind == unix.SOCK_RAW {
				at = 0
			}
			if err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(addr, at))); !errors.Is(err, unix.EADDRINUSE) {
				break
			}
		}
		if err == nil {
			return fd, port, nil
		}
		return -1, 0, errors.Join(fmt.Errorf("bind to %s: %w", addr, err), unix.Close(fd))
	}
	return -1, 0, errors.Join(errors.New("there is no address of that family"), unix.Close(fd))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func (r *round) watch(fd int, events uint32) error {
	if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// connect begins a connection.
func (r *round) connect(q *Question) error {
	fd, _, err := r.socket(q.To.Addr().Is6(), unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	r.tcp[fd] = q
	// A reset leaves no port in TIME_WAIT.
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return fmt.Errorf("set SO_LINGER: %w", err)
	}
	if err := unix.Connect(fd, sockaddr(q.To)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return r.connected(fd) // Refused at once: by no route, or by the own packet filter.
	}
	return r.watch(fd, unix.EPOLLOUT)
}

// connected takes a connection's answer.
func (r *round) connected(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return fmt.Errorf("get SO_ERROR: %w", err)
	}
	if _, err := unix.Getpeername(fd); err == nil && code == 0 {
		r.tcp[fd].Reached = true
	}
	delete(r.tcp, fd)
	// Closing is not enough: while a child that was forked meanwhile has not called exec yet, the socket lives on, and is
	// reported by a number that is another one's then.
	if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_DEL, fd, nil); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("no longer watch socket: %w", err)
	}
	return unix.Close(fd)
}

// enlist adds a question to those of its protocol's socket.
func (r *round) enlist(q *Question) error {
	key := packetKey{q.Protocol, q.To.Addr().Is6()}
	s := r.packets[key]
	if s == nil {
		kind, protocol := unix.SOCK_DGRAM, 0
		if q.Protocol == SCTP {
			kind, protocol = unix.SOCK_RAW, protocolSCTP
		}
		fd, port, err := r.socket(key.ipv6, kind, protocol)
		if err != nil {
			return err
		}
		s = &packetSocket{key: key, fd: fd, port: port, tag: uint32(port)<<16 | 1, open: map[netip.AddrPort]*Question{}}
		r.packets[key], r.bySock[fd] = s, s
		if err := r.watch(fd, unix.EPOLLIN); err != nil {
			return err
		}
	}
	s.open[q.To] = q
	return nil
}

// resend sends what has no answer yet.
func (r *round) resend() {
	for _, s := range r.packets {
		for to := range s.open {
			at := to
			data := binary.BigEndian.AppendUint32(nil, s.tag)
			if s.key.protocol == SCTP {
				data = sctpPacket{source: s.port, destination: to.Port(), chunk: chunkInit, tag: s.tag}.bytes()
				at = netip.AddrPortFrom(to.Addr(), 0)
			}
			_ = unix.Sendto(s.fd, data, 0, sockaddr(at)) // EPERM is the own packet filter's no.
		}
	}
	r.sent = time.Now()
}
