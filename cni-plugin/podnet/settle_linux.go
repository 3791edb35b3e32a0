// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// settlePatience is how long ADD waits for the kernel's workers, half of what it has for everything (Config.Timeout).
const settlePatience = 5 * time.Second

var errNotYet = errors.New("not done by the kernel yet")

// settle waits until no packet is dropped because a worker of the kernel's has not come by yet, as one may on a busy host.
// One that takes longer than the patience comes without anybody waiting for it.
func settle(m *making) error {
	end := time.Now().Add(settlePatience)
	for _, addr := range m.want.Addresses {
		err := await(m.edge.ns, unix.RTNLGRP_IPV6_ROUTE, end, func() error { return m.edge.takes(addr) })
		if err != nil && !errors.Is(err, errNotYet) {
			return fmt.Errorf("%s: %w", addr, err)
		}
	}
	index := m.host.Attrs().Index
	err := await(netns.None(), unix.RTNLGRP_LINK, end, func() error { return m.edge.sends(index) })
	if errors.Is(err, errNotYet) {
		return nil
	}
	return err
}

// takes gives errNotYet while the pod does not take what is sent to an address. Of one of IPv6 the kernel makes the local
// route in a work queue, without duplicate address detection too (addrconf_dad_work). IPv4's is there with the address.
func (e *edge) takes(addr netip.Addr) error {
	if addr.Is4() {
		return nil
	}
	routes, err := e.pod.RouteGet(addr.AsSlice())
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
	case err != nil:
		return fmt.Errorf("read the local route: %w", err)
	case slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Type == unix.RTN_LOCAL }):
		return nil
	}
	return fmt.Errorf("local route: %w", errNotYet)
}

// sends gives errNotYet while the host's side drops what it is to send to the pod: until the kernel's link watch has seen that
// the pod's side is up. Since Linux 6.8 reading the link has that done (linkwatch_sync_dev).
func (e *edge) sends(host int) error {
	link, err := e.host.LinkByIndex(host)
	switch {
	case err != nil:
		return fmt.Errorf("read the host's side: %w", err)
	case link.Attrs().OperState != netlink.OperUp:
		return fmt.Errorf("carrier of the host's side: %w", errNotYet)
	default:
		return nil
	}
}

// await asks at each notice of a multicast group in a namespace again, until the answer is another one than errNotYet or
// the time has come.
func await(in netns.NsHandle, group uint, end time.Time, ask func() error) error {
	if err := ask(); !errors.Is(err, errNotYet) {
		return err
	}
	news, err := nl.SubscribeAt(in, netns.None(), unix.NETLINK_ROUTE, group)
	if err != nil {
		return fmt.Errorf("listen to the kernel: %w", err)
	}
	defer news.Close()
	for {
		err := ask()
		left := time.Until(end)
		if !errors.Is(err, errNotYet) || left < time.Microsecond {
			return err
		}
		timeout := unix.NsecToTimeval(left.Nanoseconds())
		if err := news.SetReceiveTimeout(&timeout); err != nil {
			return fmt.Errorf("listen to the kernel: %w", err)
		}
		_, _, err = news.Receive()
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("listen to the kernel: %w", err)
		}
	}
}
