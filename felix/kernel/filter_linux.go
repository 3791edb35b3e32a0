// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"math/bits"
	"syscall"

	"golang.org/x/sys/unix"
)

// leaveOut has the kernel keep from a socket the notices of route and neighbour changes that were asked for
// through a port. Thousands of routes written at once would otherwise each be delivered, read and
// dropped here, and could fill the socket's buffer, which then means to read everything again. Where the
// filter can't be attached, hear leaves the same out.
func leaveOut(fd int, port uint32) {
	const (
		typeAt, portAt = 4, 12 // in struct nlmsghdr
		all            = 0xffffffff
	)
	// The jumps are counted from the next instruction; the last two give the verdict.
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: typeAt},
		equals(asLoaded16(unix.RTM_NEWROUTE), 4, 0),
		equals(asLoaded16(unix.RTM_DELROUTE), 3, 0),
		equals(asLoaded16(unix.RTM_NEWNEIGH), 2, 0),
		equals(asLoaded16(unix.RTM_DELNEIGH), 1, 0),
		{Code: unix.BPF_RET | unix.BPF_K, K: all},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: portAt},
		equals(asLoaded32(port), 0, 1),
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: all},
	}
	_ = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// leaveOutPorts has the kernel keep from a socket all notices of changes that were asked for through one of the ports.
// Its error is that the socket is closed.
func leaveOutPorts(raw syscall.RawConn, ports []uint32) error {
	const portAt = 12 // in struct nlmsghdr
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: portAt}}
	for i, port := range ports {
		program = append(program, equals(asLoaded32(port), uint8(len(ports)-i), 0))
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K})
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
}

// equals jumps by yes or no.
func equals(value uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: value}
}

// A filter loads in network byte order what netlink has in the host's.

func asLoaded16(v uint16) uint32 {
	if native.Uint16([]byte{0, 1}) == 1 {
		return uint32(v)
	}
	return uint32(bits.ReverseBytes16(v))
}

func asLoaded32(v uint32) uint32 {
	if native.Uint16([]byte{0, 1}) == 1 {
		return v
	}
	return bits.ReverseBytes32(v)
}
