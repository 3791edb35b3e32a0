// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"korat/api/wake"
	"korat/felix/dataplane"
	"korat/felix/reconcile"
	"korat/test/netns"
)

func route(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
}

// TestNoticesAreBounded: what nobody takes is forgotten, but not that there was something.
func TestNoticesAreBounded(t *testing.T) {
	n := &notices{pending: newNotice(), wake: wake.New()}
	for i := range 10 * maxNoticed {
		n.note(func(p *Notice) { p.Routes[route(i)] = true })
		if size := n.pending.size(); size > maxNoticed {
			t.Fatalf("%d entries are kept", size)
		}
	}
	if len(n.wake) != 1 || !n.take().Lost || n.take().Lost {
		t.Error("the loss must be told once")
	}
	n.note(func(p *Notice) {})
	<-n.wake
	if n.note(func(p *Notice) {}); len(n.wake) != 0 {
		t.Error("woken for nothing")
	}
}

// openIn gives a Handle of a namespace, closed when the test is over.
func openIn(t *testing.T, ns *netns.Namespace) *Handle {
	t.Helper()
	h, err := OpenAt(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// drainUntil takes notices until one of them is what is waited for.
func drainUntil(t *testing.T, h *Handle, what string, holds func(Notice) bool) {
	t.Helper()
	netns.WaitFor(t, what, func() bool { return holds(h.Drain()) })
}

// listenWithout gives a Handle whose notices have next to no room, and holds their reader up during f.
func listenWithout(t *testing.T, ns *netns.Namespace, f func(*Handle)) *Handle {
	t.Helper()
	h := openIn(t, ns)
	err := h.notices.raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	h.notices.mu.Lock()
	defer h.notices.mu.Unlock()
	f(h)
	return h
}

// TestNoticesLostInTheSocket holds the reader up while more changes than its socket has room for.
func TestNoticesLostInTheSocket(t *testing.T) {
	ns := netns.New(t)
	h := listenWithout(t, ns, func(*Handle) { ns.Batch(manyBlackholes()...) })
	drainUntil(t, h, "the loss", func(n Notice) bool { return n.Lost })
	for _, mark := range []string{"192.0.2.1/32", "192.0.2.2/32"} { // it goes on
		ns.Run("ip", "route", "add", "blackhole", mark)
		drainUntil(t, h, mark, func(n Notice) bool { return n.Routes[netip.MustParsePrefix(mark)] })
	}
}

// manyBlackholes are commands of ip that make more notices than small sockets have room for.
func manyBlackholes() (lines []string) {
	for i := range 200 {
		lines = append(lines, fmt.Sprintf("route add blackhole %v", route(i)))
	}
	return lines
}

// TestLinksChangedWhileNoticesWereLost: what is told of a link later has its index only.
func TestLinksChangedWhileNoticesWereLost(t *testing.T) {
	ns := netns.New(t)
	ns.Run("ip", "link", "add", "old1", "type", "veth", "peer", "name", "peer1")
	h := listenWithout(t, ns, func(*Handle) {
		ns.Batch(append(manyBlackholes(), "link add cali1 type veth peer name peer2", "link set old1 name cali2")...)
	})
	drainUntil(t, h, "the loss", func(n Notice) bool { return n.Lost })
	for _, name := range []string{"cali1", "cali2"} {
		ns.Run("sysctl", "-qw", "net.ipv4.conf."+name+".forwarding=1")
		drainUntil(t, h, name+"'s setting", func(n Notice) bool {
			if n.Lost {
				t.Fatal("lost again")
			}
			return n.Sysctls[name]
		})
	}
}

// TestLossIsToldAtItsEnd: until a full buffer has been read empty the kernel drops everything, and doesn't say so again.
func TestLossIsToldAtItsEnd(t *testing.T) {
	ns := netns.New(t)
	var fd int
	err := openIn(t, ns).inside(func() (err error) {
		fd, _, err = socket(unix.NETLINK_ROUTE, groups)
		return errors.Join(err, unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 16384))
	})
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "netlink")
	defer file.Close()
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	r := receiver{raw: raw, buf: make([]byte, receiveSize)}
	mustHear := func(want netip.Prefix) {
		t.Helper()
		b, err := r.receive()
		if err != nil {
			t.Fatalf("%v: %v", want, err)
		}
		for m := range messages(b) {
			if have, _ := decodeRoute(m.body, unix.AF_INET); have.prefix != want {
				t.Fatalf("want %v, have %v", want, have.prefix)
			}
		}
	}
	ns.Batch(manyBlackholes()...)
	mustHear(route(0))
	ns.Run("ip", "route", "add", "blackhole", "192.0.2.1") // is dropped, though there is room again
	mustHear(route(1))
	for i := 2; ; i++ {
		b, err := r.receive()
		if errors.Is(err, unix.ENOBUFS) {
			break
		}
		if err != nil || i == 200 || !bytes.Contains(b, route(i).Addr().AsSlice()) {
			t.Fatalf("route %d: %v, %v", i, b, err)
		}
	}
	ns.Run("ip", "route", "add", "blackhole", "192.0.2.2")
	mustHear(netip.MustParsePrefix("192.0.2.2/32"))
}

func TestNoticeTouches(t *testing.T) {
	hop := func(device string) dataplane.Route {
		return dataplane.Route{NextHops: []dataplane.NextHop{{Device: "other"}, {Device: device}}}
	}
	sourced := dataplane.Route{Source: netip.MustParseAddr("192.0.2.1")}
	key := dataplane.RouteKey{Prefix: route(1)}
	cali1 := dataplane.NeighbourKey{Device: "cali1"}
	for name, c := range map[string]struct {
		notice Notice
		have   func(Notice) bool
		want   bool
	}{
		"route by prefix":              {Notice{Routes: map[netip.Prefix]bool{route(1): true}}, func(n Notice) bool { return n.TouchesRoute(key, hop("a")) }, true},
		"route by flushed device":      {Notice{Links: map[string]bool{"a": true}}, func(n Notice) bool { return n.TouchesRoute(key, hop("a")) }, true},
		"route by changed device":      {Notice{Links: map[string]bool{"a": false}}, func(n Notice) bool { return n.TouchesRoute(key, hop("a")) }, false},
		"route by source":              {Notice{RemovedAddresses: map[netip.Addr]bool{sourced.Source: true}}, func(n Notice) bool { return n.TouchesRoute(key, sourced) }, true},
		"another route":                {Notice{Routes: map[netip.Prefix]bool{route(2): true}}, func(n Notice) bool { return n.TouchesRoute(key, sourced) }, false},
		"neighbour by flushed device":  {Notice{Links: map[string]bool{"cali1": true}}, func(n Notice) bool { return n.TouchesNeighbour(cali1, dataplane.Neighbour{}) }, true},
		"neighbour by changed device":  {Notice{Links: map[string]bool{"cali1": false}}, func(n Notice) bool { return n.TouchesNeighbour(cali1, dataplane.Neighbour{}) }, false},
		"neighbour":                    {Notice{Neighbours: map[dataplane.NeighbourKey]bool{cali1: true}}, func(n Notice) bool { return n.TouchesNeighbour(cali1, dataplane.Neighbour{}) }, true},
		"link":                         {Notice{Links: map[string]bool{"cali1": false}}, func(n Notice) bool { return n.TouchesLink("cali1", dataplane.Link{}) }, true},
		"another link":                 {Notice{Links: map[string]bool{"cali2": true}}, func(n Notice) bool { return n.TouchesLink("cali1", dataplane.Link{}) }, false},
		"sysctl by link":               {Notice{Links: map[string]bool{"a.b": false}}, func(n Notice) bool { return n.TouchesSysctl("net/ipv4/conf/a.b/forwarding", "") }, true},
		"sysctl":                       {Notice{Sysctls: map[string]bool{"a": true}}, func(n Notice) bool { return n.TouchesSysctl("net/ipv4/neigh/a/proxy_delay", "") }, true},
		"sysctl of the host":           {Notice{Sysctls: map[string]bool{"all": true}}, func(n Notice) bool { return n.TouchesSysctl("net/ipv4/ip_forward", "") }, true},
		"sysctl of another":            {Notice{Sysctls: map[string]bool{"b": true}}, func(n Notice) bool { return n.TouchesSysctl("net/ipv4/conf/a/forwarding", "") }, false},
		"no link, no host":             {Notice{Sysctls: map[string]bool{"b": true}}, Notice.Host, false},
		"addresses":                    {Notice{Addresses: true}, Notice.Host, true},
		"default route":                {Notice{DefaultRoute: true}, Notice.Host, true},
		"lost: links":                  {Everything(), Notice.TouchesLinks, true},
		"lost: sysctls":                {Everything(), Notice.TouchesSysctls, true},
		"lost: neighbours":             {Everything(), Notice.TouchesNeighbours, true},
		"lost: routes":                 {Everything(), Notice.TouchesRoutes, true},
		"planted: routes":              {Notice{Planted: true}, Notice.UnknownRoutes, true},
		"known routes":                 {Notice{Routes: map[netip.Prefix]bool{route(1): true}}, Notice.UnknownRoutes, false},
		"nothing: routes":              {Notice{Links: map[string]bool{"a": false}}, Notice.TouchesRoutes, false},
		"a link went down: routes":     {Notice{Links: map[string]bool{"a": true}}, Notice.TouchesRoutes, true},
		"a link went down: neighbours": {Notice{Links: map[string]bool{"a": true}}, Notice.TouchesNeighbours, true},
	} {
		if have := c.have(c.notice); have != c.want {
			t.Errorf("%s: have %v", name, have)
		}
	}
}

// TestOwnChangesFillNoSocket holds the reader up while more of our own changes than its socket has room for.
func TestOwnChangesFillNoSocket(t *testing.T) {
	ns := netns.New(t)
	set := map[dataplane.RouteKey]dataplane.Route{}
	for i := range 200 {
		set[dataplane.RouteKey{Prefix: route(i)}] = dataplane.Route{Type: dataplane.Blackhole}
	}
	h := listenWithout(t, ns, func(h *Handle) {
		if err := h.Routes().Write(t.Context(), reconcile.Diff[dataplane.RouteKey, dataplane.Route]{Set: set}); err != nil {
			t.Error(err)
		}
	})
	ns.Batch("route add blackhole 192.0.2.1/32")
	drainUntil(t, h, "another's route", func(n Notice) bool {
		if n.Lost {
			t.Fatal("our own routes were delivered, and others' changes lost")
		}
		return n.Routes[netip.MustParsePrefix("192.0.2.1/32")]
	})
}
