// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// settlePatience is how long the kernel may take to put new addresses into use, half of what the agent waits for a pair, and
// settlePeriod how often it is asked.
const (
	settlePatience = 30 * time.Second
	settlePeriod   = time.Millisecond
)

// settle waits until the pod takes what is sent to it. Of an IPv6 address the kernel makes the local route in a work queue,
// without duplicate address detection too (addrconf_dad_work), which takes a while on a busy host; until then the answers to
// the pod's first packets are dropped. IPv4's is there with the address.
func settle(m *making) error {
	patience := time.After(settlePatience)
	tick := time.NewTicker(settlePeriod)
	defer tick.Stop()
	for _, addr := range m.want.Addresses {
		for addr.Is6() {
			err := m.edge.takes(addr)
			if err == nil {
				break
			}
			select {
			case <-patience:
				return fmt.Errorf("%s: not in use after %s: %w", addr, settlePatience, err)
			case <-tick.C:
			}
		}
	}
	return nil
}

var errNotLocal = errors.New("the kernel has no local route yet")

// takes says why the pod does not take what is sent to an address of its.
func (e *edge) takes(addr netip.Addr) error {
	routes, err := e.pod.RouteGet(addr.AsSlice())
	if err == nil && !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Type == unix.RTN_LOCAL }) {
		err = errNotLocal
	}
	return err
}
