// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"korat/test/netns"
)

// TestAwaitCarrier: the host's side has a carrier once both are up.
func TestAwaitCarrier(t *testing.T) {
	netns.Enter(t)
	pod := netns.NewPod(t)
	netns.Run(t, "ip link add cali0 type veth peer name eth0 netns "+pod)
	netns.Run(t, "ip link set cali0 up")
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	link, err := h.LinkByName("cali0")
	if err != nil {
		t.Fatal(err)
	}
	index := link.Attrs().Index
	if err := awaitCarrier(h, index, time.Millisecond); err == nil || err.Error() != "no carrier within 1ms" {
		t.Errorf("one side is down: %v", err)
	}
	up := make(chan error, 1)
	started := make(chan struct{})
	go func() {
		e, err := openEdge(pod)
		if err == nil {
			defer e.close()
			close(started)
			err = e.pod.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}})
		}
		up <- err
	}()
	<-started
	if err := awaitCarrier(h, index, time.Minute); err != nil {
		t.Error(err)
	}
	if err := <-up; err != nil {
		t.Fatal(err)
	}
	if err := awaitCarrier(h, index+1000, time.Minute); err == nil || !strings.HasPrefix(err.Error(), "read the interface: ") {
		t.Errorf("there is no such interface: %v", err)
	}
}
