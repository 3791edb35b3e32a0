// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Monitor notes when the kernel tells of routes that come and go.
type Monitor struct {
	mu   sync.Mutex
	seen map[string]time.Duration
	more chan struct{}
}

// Begin listens until the process ends.
func (m *Monitor) Begin(Nothing, *Nothing) error {
	updates := make(chan netlink.RouteUpdate, 1024)
	if err := netlink.RouteSubscribe(updates, nil); err != nil {
		return fmt.Errorf("listen to the kernel's routes: %w", err)
	}
	m.seen, m.more = map[string]time.Duration{}, make(chan struct{})
	go func() {
		for u := range updates {
			at, err := now()
			if err == nil && u.Dst != nil {
				m.note(u.Dst.String(), u.Type == unix.RTM_DELROUTE, at)
			}
		}
	}()
	return nil
}

func (m *Monitor) note(prefix string, gone bool, at time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[event(prefix, gone)] = at
	close(m.more)
	m.more = make(chan struct{})
}

func event(prefix string, gone bool) string { return fmt.Sprintf("%s gone %t", prefix, gone) }

// Awaited is what is waited for: that a route comes, or that it goes, after a time.
type Awaited struct {
	Prefix netip.Prefix
	Gone   bool
	After  time.Duration
}

// awaitLimit ends a wait for what never happens.
const awaitLimit = 30 * time.Second

// Await waits for an event, and says when it was.
func (m *Monitor) Await(a Awaited, at *time.Duration) error {
	limit := time.NewTimer(awaitLimit)
	defer limit.Stop()
	name := event(a.Prefix.String(), a.Gone)
	for {
		m.mu.Lock()
		when, ok := m.seen[name]
		delete(m.seen, name)
		more := m.more
		m.mu.Unlock()
		if ok && when >= a.After {
			*at = when
			return nil
		}
		select {
		case <-more:
		case <-limit.C:
			return fmt.Errorf("route %s: not seen within %s", name, awaitLimit)
		}
	}
}
