// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/vishvananda/netns"
)

// sysctl is one setting of the pod's namespace.
type sysctl struct{ key, value string }

// sysctls are what the pod's namespace has to have set before the pod's side is up. Forwarding must be
// turned off, too: a new namespace starts with the host's setting. (Linux, net.core.devconf_inherit_init_net)
func sysctls(want Pair) []sysctl {
	forwarding := "0"
	if want.Forwarding {
		forwarding = "1"
	}
	all := []sysctl{{"net/ipv4/ip_forward", forwarding}}
	if !slices.Contains(want.families(), ipv6()) {
		return all
	}
	conf := "net/ipv6/conf/" + want.IfName + "/"
	return append(all,
		sysctl{"net/ipv6/conf/all/forwarding", forwarding},
		// Container runtimes switch IPv6 off in the namespaces that they make. Of the loopback it is wanted
		// for ::1.
		sysctl{"net/ipv6/conf/lo/disable_ipv6", "0"},
		sysctl{conf + "disable_ipv6", "0"},
		// The pod's routes are ours: its host is the only router, and announces nothing.
		sysctl{conf + "accept_ra", "0"},
		// Nobody else is on the link who could have the interface's link-local address.
		sysctl{conf + "accept_dad", "0"},
	)
}

// sysctlRoot shows the network namespace of the thread that opens what is below it.
const sysctlRoot = "/proc/sys/"

// setSysctls sets those that are set otherwise, in their order.
func (e *edge) setSysctls(all []sysctl) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread, in the pod's namespace now, ends with the goroutine.
		runtime.LockOSThread()
		if err := netns.Set(e.ns); err != nil {
			done <- fmt.Errorf("enter the namespace: %w", err)
			return
		}
		for _, s := range all {
			if err := s.set(); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return <-done
}

// set works in the namespace that the thread is in.
func (s sysctl) set() error {
	have, err := os.ReadFile(sysctlRoot + s.key)
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(s.key, "net/ipv6/") {
		return fmt.Errorf("%w: the kernel has no IPv6: boot without ipv6.disable=1, or do not ask for it (ipam.assign_ipv6)", err)
	}
	if err != nil || string(bytes.TrimSpace(have)) == s.value {
		return err
	}
	return os.WriteFile(sysctlRoot+s.key, []byte(s.value), 0o644)
}
