// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// carrierLimit bounds the wait for the carrier. The kernel's link watch puts off what it thinks is not urgent for a second.
const carrierLimit = 5 * time.Second

// awaitCarrier waits until the host's side sends. What is sent to the pod before the kernel's link watch, a worker, has seen
// that the pod's side is up is dropped without a word. Since Linux 6.8 reading a link has that done (linkwatch_sync_dev).
func awaitCarrier(h *netlink.Handle, index int, limit time.Duration) error {
	if sends, err := hasCarrier(h, index); sends || err != nil {
		return err
	}
	news, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err != nil {
		return fmt.Errorf("listen to the kernel: %w", err)
	}
	defer news.Close()
	for end := time.Now().Add(limit); ; {
		if sends, err := hasCarrier(h, index); sends || err != nil {
			return err
		}
		left := time.Until(end)
		if left < time.Microsecond {
			return fmt.Errorf("no carrier within %s", limit)
		}
		timeout := unix.NsecToTimeval(left.Nanoseconds())
		if err := news.SetReceiveTimeout(&timeout); err != nil {
			return fmt.Errorf("listen to the kernel: %w", err)
		}
		_, _, err := news.Receive()
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("listen to the kernel: %w", err)
		}
	}
}

func hasCarrier(h *netlink.Handle, index int) (bool, error) {
	link, err := h.LinkByIndex(index)
	if err != nil {
		return false, fmt.Errorf("read the interface: %w", err)
	}
	return link.Attrs().OperState == netlink.OperUp, nil
}
