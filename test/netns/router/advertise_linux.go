// SPDX-License-Identifier: Apache-2.0

// Package router plays the part of an IPv6 router that tells hosts of itself.
package router

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Advertise sends a router advertisement (RFC 4861 4.2) out of an interface, of a default route through it for
// half an hour. It works in the calling thread's namespace.
func Advertise(device string) (err error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return fmt.Errorf("advertise on %s: %w", device, err)
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return fmt.Errorf("advertise on %s: %w", device, err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	const (
		routerAdvertisement = 134
		hopLimit            = 255 // else it may have come from elsewhere, and is not heeded
		lifetime            = 1800
	)
	// The kernel fills in the checksum (RFC 3542 3.1), and takes its link-local address as the source.
	message := make([]byte, 16)
	message[0], message[4] = routerAdvertisement, 64
	message[6], message[7] = lifetime>>8, lifetime&0xff
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, hopLimit),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, link.Index),
	)
	if err == nil {
		allNodes := unix.SockaddrInet6{Addr: [16]byte{0: 0xff, 1: 0x02, 15: 1}, ZoneId: uint32(link.Index)}
		err = unix.Sendto(fd, message, 0, &allNodes)
	}
	if err != nil {
		return fmt.Errorf("advertise on %s: %w", device, err)
	}
	return nil
}
