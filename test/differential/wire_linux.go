// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"

	"golang.org/x/sys/unix"

	"korat/policy"
	"korat/test/netns"
)

// burst is how many packets are under way at most: far fewer than the kernel's backlog has room for
// (net.core.netdev_max_backlog, 1000).
const burst = 64

// Shot is a packet with the place that sends it: a pod by the host's side of its interface, "outside" or "host".
type Shot struct {
	From   string
	Packet Packet
}

// Arrival is a packet that came through the host's chains: the interface by which it left, or "host" if the host got it.
type Arrival struct {
	At     string
	Packet Packet
}

// Places that are no interfaces.
const (
	outside   = "outside"
	host      = "host"
	uplink    = "eth0"
	loopIndex = 1
)

// Wire sends packets from several places, and tells which of them came through. What a pod's or a neighbour's end of a
// pair sends is handled by the host in the same thread, one packet after the other, as long as that thread stays on
// its CPU: what was sent before a fence that has arrived is over. So there is nothing to wait for.
type Wire struct {
	// gates are packet sockets at the other ends of the host's interfaces.
	gates map[string]gate
	// own are raw sockets of the host's, for what it sends itself, by EtherType.
	own map[uint16]int
	// tap sees what leaves the host, and fences; ears hear what the host gets.
	tap   int
	ears  []ear
	names map[int]string

	buffer, frame []byte
	fences        uint64
}

// ear is a raw socket of the host's. Of IPv6 it gives no header.
type ear struct {
	fd     int
	header bool
}

type gate struct {
	fd int
	// header has the Ethernet addresses.
	header []byte
}

// newWire listens in the host's namespace.
func newWire(ns *netns.Namespace) (*Wire, error) {
	w := &Wire{gates: map[string]gate{}, own: map[uint16]int{}, tap: -1, names: map[int]string{}, buffer: make([]byte, 2048)}
	return w, ns.Do(func() (err error) {
		if w.tap, err = openTap(); err != nil {
			return err
		}
		for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP, policy.UDPLite, policy.ICMP, gre, 4} {
			if err := w.listen(unix.AF_INET, protocol); err != nil {
				return err
			}
		}
		for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP, policy.UDPLite, policy.ICMPv6, gre} {
			if err := w.listen(unix.AF_INET6, protocol); err != nil {
				return err
			}
		}
		for etherType, family := range map[uint16]int{etherIPv4: unix.AF_INET, etherIPv6: unix.AF_INET6} {
			fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			if err != nil {
				return fmt.Errorf("open the host's raw socket: %w", err)
			}
			w.own[etherType] = fd
		}
		return nil
	})
}

// gre is a protocol without ports (RFC 2784).
const gre policy.Protocol = 47

// pin keeps the calling goroutine on one CPU from now on.
func pin() error {
	runtime.LockOSThread()
	var one unix.CPUSet
	one.Set(0)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("stay on one CPU: %w", err)
	}
	return nil
}

func (w *Wire) close() error {
	errs := []error{unix.Close(w.tap)}
	for _, e := range w.ears {
		errs = append(errs, unix.Close(e.fd))
	}
	for _, fd := range w.own {
		errs = append(errs, unix.Close(fd))
	}
	for name := range w.gates {
		errs = append(errs, w.drop(name))
	}
	return errors.Join(errs...)
}

// roomy gives a socket room for more than a burst.
func roomy(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
}

// openTap opens a packet socket for all interfaces that gets what leaves, and of what comes only fences.
func openTap() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open tap: %w", err)
	}
	const packetType = 0xfffff000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: packetType},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.PACKET_OUTGOING, Jt: 2},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: etherFence, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	if err == nil {
		err = roomy(fd)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swapped(unix.ETH_P_ALL)})
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("open tap: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// swapped gives a number in the network's byte order.
func swapped(n uint16) uint16 { return n>>8 | n<<8 }

func (w *Wire) listen(family int, protocol policy.Protocol) error {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(protocol))
	if err != nil {
		return fmt.Errorf("listen for %s: %w", protocol, err)
	}
	w.ears = append(w.ears, ear{fd, family == unix.AF_INET})
	return roomy(fd)
}

// add opens a gate at the other end of an interface of the host's: in the namespace there, at the interface called peer.
func (w *Wire) add(name, peer string, hostNS, there *netns.Namespace) error {
	var near, far *net.Interface
	lookUp := func(name string, to **net.Interface) func() error {
		return func() (err error) {
			*to, err = net.InterfaceByName(name)
			return err
		}
	}
	if err := errors.Join(hostNS.Do(lookUp(name, &near)), there.Do(lookUp(peer, &far))); err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	w.names[near.Index] = name
	g := gate{header: append(append([]byte{}, near.HardwareAddr...), far.HardwareAddr...)}
	err := there.Do(func() (err error) {
		g.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Bind(g.fd, &unix.SockaddrLinklayer{Ifindex: far.Index})
	})
	if err != nil {
		return fmt.Errorf("open a gate to %s: %w", name, err)
	}
	if name == uplink {
		name = outside
	}
	w.gates[name] = g
	return nil
}

// drop closes a gate.
func (w *Wire) drop(name string) error {
	fd := w.gates[name].fd
	delete(w.gates, name)
	return unix.Close(fd)
}

// Send sends packets and gives those that came through.
func (w *Wire) Send(shots []Shot) ([]Arrival, error) {
	var all []Arrival
	for len(shots) > 0 {
		n := min(burst, len(shots))
		for _, s := range shots[:n] {
			if err := w.send(s); err != nil {
				return nil, fmt.Errorf("send %s from %s: %w", s.Packet, s.From, err)
			}
		}
		var err error
		if all, err = w.collect(all); err != nil {
			return nil, err
		}
		shots = shots[n:]
	}
	return all, nil
}

func (w *Wire) send(s Shot) error {
	if s.From == host {
		w.frame = s.Packet.Append(w.frame[:0])
		var to unix.Sockaddr = &unix.SockaddrInet6{Addr: s.Packet.Destination.As16()}
		if s.Packet.Destination.Is4() {
			to = &unix.SockaddrInet4{Addr: s.Packet.Destination.As4()}
		}
		err := unix.Sendto(w.own[s.Packet.etherType()], w.frame, 0, to)
		if errors.Is(err, unix.EPERM) { // a rule has dropped it
			return nil
		}
		return err
	}
	g, known := w.gates[s.From]
	if !known {
		return errors.New("no such place")
	}
	w.frame = append(w.frame[:0], g.header...)
	w.frame = binary.BigEndian.AppendUint16(w.frame, s.Packet.etherType())
	w.frame = s.Packet.Append(w.frame)
	_, err := unix.Write(g.fd, w.frame)
	return err
}

// collect sends a fence and adds all that has arrived before it.
func (w *Wire) collect(all []Arrival) ([]Arrival, error) {
	w.fences++
	g := w.gates[outside]
	w.frame = append(w.frame[:0], g.header...)
	w.frame = binary.BigEndian.AppendUint16(w.frame, etherFence)
	w.frame = binary.BigEndian.AppendUint64(w.frame, w.fences)
	if _, err := unix.Write(g.fd, w.frame); err != nil {
		return nil, fmt.Errorf("send fence: %w", err)
	}
	for over := false; !over; {
		n, from, err := unix.Recvfrom(w.tap, w.buffer, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			if err := wait(w.tap); err != nil {
				return nil, fmt.Errorf("wait for fence %d: %w", w.fences, err)
			}
			continue
		case err != nil:
			return nil, fmt.Errorf("read tap: %w", err)
		case n < ethernetHeader:
			continue
		}
		b, at := w.buffer[:n], from.(*unix.SockaddrLinklayer)
		if binary.BigEndian.Uint16(b[12:]) == etherFence {
			over = binary.BigEndian.Uint64(b[ethernetHeader:]) == w.fences
		} else if p, ok := parse(b[ethernetHeader:]); ok && at.Ifindex != loopIndex {
			all = append(all, Arrival{w.names[at.Ifindex], p})
		}
	}
	stats, err := unix.GetsockoptTpacketStats(w.tap, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || stats.Drops > 0 {
		return nil, fmt.Errorf("the tap has missed packets: %+v, %w", stats, err)
	}
	return w.hear(all)
}

// wait waits until a socket has something, which takes no time unless the kernel has put the work off.
func wait(fd int) error {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err == nil && n == 0 {
		return errors.New("it never came")
	}
	return err
}

// hear adds what the host has got.
func (w *Wire) hear(all []Arrival) ([]Arrival, error) {
	for _, e := range w.ears {
		for {
			n, _, err := unix.Recvfrom(e.fd, w.buffer, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("listen: %w", err)
			}
			if number, ok := number(w.buffer[:n]); ok && !e.header {
				all = append(all, Arrival{host, Packet{Number: number}})
			} else if p, ok := parse(w.buffer[:n]); ok && e.header {
				all = append(all, Arrival{host, p})
			}
		}
	}
	return all, nil
}
