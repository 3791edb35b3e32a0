// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	vishnetns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"korat/test/netns"
)

// TestAwaitCarrier: the host's side sends once both are up.
func TestAwaitCarrier(t *testing.T) {
	netns.Enter(t)
	pod := netns.NewPod(t)
	netns.Run(t, "ip link add cali0 type veth peer name eth0 netns "+pod)
	netns.Run(t, "ip link set cali0 up")
	e, err := openEdge(pod)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	link, err := e.host.LinkByName("cali0")
	if err != nil {
		t.Fatal(err)
	}
	sends := func(index int, patience time.Duration) error {
		return await(vishnetns.None(), unix.RTNLGRP_LINK, time.Now().Add(patience), func() error { return e.sends(index) })
	}
	index := link.Attrs().Index
	if err := sends(index, time.Millisecond); !errors.Is(err, errNotYet) || !strings.HasPrefix(err.Error(), "carrier of the host's side: ") {
		t.Errorf("one side is down: %v", err)
	}
	up := make(chan error, 1)
	go func() { up <- e.pod.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}) }()
	if err := sends(index, time.Minute); err != nil {
		t.Error(err)
	}
	if err := <-up; err != nil {
		t.Fatal(err)
	}
	if err := sends(index+1000, time.Minute); err == nil || !strings.HasPrefix(err.Error(), "read the host's side: ") {
		t.Errorf("there is no such interface: %v", err)
	}
}

// TestAwaitAddress: the pod takes what is sent to an address once that is there.
func TestAwaitAddress(t *testing.T) {
	netns.Enter(t)
	pod := netns.NewPod(t)
	netns.InPod(t, pod, "sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0")
	netns.InPod(t, pod, "ip link set lo up")
	e, err := openEdge(pod)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	addr := addresses("fd00::2")[0]
	takes := func(patience time.Duration) error {
		return await(e.ns, unix.RTNLGRP_IPV6_ROUTE, time.Now().Add(patience), func() error { return e.takes(addr) })
	}
	if err := takes(time.Millisecond); !errors.Is(err, errNotYet) || !strings.HasPrefix(err.Error(), "local route: ") {
		t.Errorf("there is no address: %v", err)
	}
	added := make(chan error, 1)
	go func() {
		added <- e.pod.AddrAdd(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}, &netlink.Addr{IPNet: hostNet(addr), Flags: unix.IFA_F_NODAD})
	}()
	if err := takes(time.Minute); err != nil {
		t.Error(err)
	}
	if err := <-added; err != nil {
		t.Fatal(err)
	}
}
