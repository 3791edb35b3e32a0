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

// settlePatience is how long the kernel's workers may take for a new pair, half of what the agent waits for one.
const settlePatience = 30 * time.Second

var errNotYet = errors.New("not done by the kernel yet")

// settle waits until no packet is dropped because a worker of the kernel's has not come by yet, as one may on a busy host.
func settle(m *making) error {
	for _, addr := range m.want.Addresses {
		if err := await(m.edge.ns, unix.RTNLGRP_IPV6_ROUTE, settlePatience, func() error { return m.edge.takes(addr) }); err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
	}
	index := m.host.Attrs().Index
	return await(netns.None(), unix.RTNLGRP_LINK, settlePatience, func() error { return m.edge.sends(index) })
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

// await asks at each notice of a multicast group in a namespace again, until the answer is another one than errNotYet.
func await(in netns.NsHandle, group uint, patience time.Duration, ask func() error) error {
	if err := ask(); !errors.Is(err, errNotYet) {
		return err
	}
	news, err := nl.SubscribeAt(in, netns.None(), unix.NETLINK_ROUTE, group)
	if err != nil {
		return fmt.Errorf("listen to the kernel: %w", err)
	}
	defer news.Close()
	for end := time.Now().Add(patience); ; {
		err := ask()
		left := time.Until(end)
		if !errors.Is(err, errNotYet) {
			return err
		}
		if left < time.Microsecond {
			return fmt.Errorf("after %s: %w", patience, err)
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
