// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/test/netns"
)

func sorted(s string) string {
	lines := slices.Sorted(strings.Lines(s))
	return strings.Join(lines, "")
}

func observe(t testing.TB, h *kernel.Handle) dataplane.Host {
	t.Helper()
	host, err := h.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func TestObserve(t *testing.T) {
	ns := netns.New(t)
	ns.Batch(
		"link add eth0 address 02:00:00:00:00:10 mtu 1400 type veth peer name peer0",
		"link set eth0 up alias the-uplink",
		"address add 192.0.2.10/24 dev eth0",
		"address add 198.51.100.10/32 dev eth0",
		"address add 192.0.2.11/24 dev eth0",
		"address add 203.0.113.1 peer 203.0.113.2/32 dev eth0",
		"address add 2001:db8::10/64 dev eth0 nodad",
		"address add 2001:db8::12/64 dev eth0 nodad preferred_lft 0",
		"address add 2001:db8::13/64 dev eth0", // no carrier, no duplicate address detection
		"link add br0 type bridge",
		"link set peer0 master br0 address 02:00:00:00:00:40",
		"link set br0 address 02:00:00:00:00:20", // else it may take that of a port
	)
	for name, accept := range map[string]string{"lo": "0", "eth0": "2", "peer0": "1", "br0": "1"} {
		ns.Run("sysctl", "-qw", "net.ipv6.conf."+name+".forwarding=0", "net.ipv6.conf."+name+".accept_ra="+accept)
	}
	ns.Run("sysctl", "-qw", "net.ipv6.conf.br0.forwarding=1")
	handle := host{ns, t}.open()
	have := observe(t, handle)
	for name, link := range have.Links {
		if link.Index < 1 {
			t.Errorf("%s has no index", name)
		}
		link.Index = 0
		have.Links[name] = link
	}
	prefixes := func(list ...string) (p []netip.Prefix) {
		for _, s := range list {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	addrs := func(list ...string) (a []netip.Addr) {
		for _, p := range prefixes(list...) {
			a = append(a, p.Addr())
		}
		return a
	}
	equal(t, "host", dataplane.Host{Links: map[string]dataplane.HostLink{
		"lo": {Type: "device", MTU: 65536, Up: true, Running: true, MAC: "00:00:00:00:00:00", Addresses: prefixes("127.0.0.1/8", "::1/128"), IPv6: true},
		"eth0": {
			Type: "veth", MTU: 1400, Up: true, MAC: "02:00:00:00:00:10", Alias: "the-uplink",
			Addresses: prefixes("192.0.2.10/24", "198.51.100.10/32", "203.0.113.1/32", "192.0.2.11/24", "2001:db8::13/64", "2001:db8::12/64", "2001:db8::10/64"),
			Unsettled: addrs("2001:db8::13/64", "2001:db8::12/64"),
			IPv6:      true, AcceptRA: dataplane.AcceptRAAlways,
		},
		"peer0": {Type: "veth", MTU: 1500, MAC: "02:00:00:00:00:40", IPv6: true, AcceptRA: dataplane.AcceptRAHost},
		"br0":   {Type: "bridge", MTU: 1500, MAC: "02:00:00:00:00:20", IPv6: true, AcceptRA: dataplane.AcceptRAHost, Forwards: true},
	}}, have)

	ns.Run("ip", "link", "set", "peer0", "up")
	wait(t, handle, func(n kernel.Notice) bool { return n.Host() && observe(t, handle).Links["eth0"].Running }, func(kernel.Notice) {})
}

func TestObserveDefaultRoute(t *testing.T) {
	h := newHost(t)
	handle := h.open()
	check := func(what string, want bool) {
		t.Helper()
		if have := observe(t, handle).DefaultRoute; have != want {
			t.Errorf("%s: have %v", what, have)
		}
	}
	check("none", false)
	step := reconcile.NewStep("routes", handle.Routes())
	want := manyRoutes(2000)
	want[prefix("0.0.0.0/0")] = via("192.0.2.1")
	apply(t, step, want)
	check("our own", false)
	h.Run("ip", "route", "add", "unreachable", "default", "metric", "900")
	check("one that leads nowhere", false)
	h.Run("ip", "route", "add", "0.0.0.0/1", "via", "192.0.2.1")
	check("half of one", false)
	h.Run("ip", "route", "add", "default", "via", "192.0.2.1", "metric", "100")
	check("somebody else's behind ours", true)
	netns.WaitFor(t, "a notice of it", func() bool { return handle.Drain().DefaultRoute })
	h.Run("ip", "route", "delete", "default", "via", "192.0.2.1", "metric", "100")
	wait(t, handle, func(n kernel.Notice) bool { return n.DefaultRoute && n.Host() }, func(kernel.Notice) {})
	check("gone", false)
}

func TestNoDefaultRouteWithoutTable(t *testing.T) {
	handle := host{netns.New(t), t}.open()
	if observe(t, handle).DefaultRoute {
		t.Error("a default route in an empty namespace")
	}
	have, err := handle.Routes().Read(t.Context())
	if err != nil || len(have) > 0 {
		t.Errorf("routes of an empty namespace: %v %v", have, err)
	}
}
