// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Rules notes when somebody has changed the packet filter.
type Rules struct {
	mu    sync.Mutex
	times []time.Duration
	more  chan struct{}
}

// rulesBuffer takes the notices of a large change.
const rulesBuffer = 4 << 20

// Begin listens until the process ends.
func (r *Rules) Begin(Nothing, *Nothing) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("listen to nftables: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}); err != nil {
		return fmt.Errorf("listen to nftables: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, rulesBuffer); err != nil {
		return fmt.Errorf("listen to nftables: %w", err)
	}
	r.more = make(chan struct{})
	go func() {
		for buffer := make([]byte, 64<<10); ; {
			if _, _, err := unix.Recvfrom(fd, buffer, 0); err != nil {
				continue // what was lost is a change, too, but no time of one
			}
			if at, err := now(); err == nil {
				r.note(at)
			}
		}
	}()
	return nil
}

func (r *Rules) note(at time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times = append(r.times, at)
	close(r.more)
	r.more = make(chan struct{})
}

// Await waits for the first change after a time, and says when it was. It forgets all before.
func (r *Rules) Await(after time.Duration, at *time.Duration) error {
	limit := time.NewTimer(awaitLimit)
	defer limit.Stop()
	for {
		r.mu.Lock()
		for len(r.times) > 0 && r.times[0] < after {
			r.times = r.times[1:]
		}
		more := r.more
		if len(r.times) > 0 {
			*at = r.times[0]
			r.mu.Unlock()
			return nil
		}
		r.mu.Unlock()
		select {
		case <-more:
		case <-limit.C:
			return fmt.Errorf("packet filter: nothing has changed within %s", awaitLimit)
		}
	}
}
