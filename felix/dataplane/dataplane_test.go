// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"maps"
	"net/netip"
	"testing"
)

func via(gateway, device string) NextHop {
	return NextHop{Device: device, Gateway: netip.MustParseAddr(gateway)}
}

func TestRouteString(t *testing.T) {
	for want, r := range map[string]Route{
		"blackhole":                   {Type: Blackhole},
		"dev cali1":                   {NextHops: []NextHop{{Device: "cali1"}}},
		"via 192.0.2.1 dev eth0":      {NextHops: []NextHop{via("192.0.2.1", "eth0")}},
		"dev tap0 src 192.0.2.9":      {NextHops: []NextHop{{Device: "tap0"}}, Source: netip.MustParseAddr("192.0.2.9")},
		"type 7 dev eth0 (shadowed)":  {Type: 7, NextHops: []NextHop{{Device: "eth0"}}, Shadowed: true},
		"nexthop dev a nexthop dev b": {NextHops: []NextHop{{Device: "a"}, {Device: "b"}}},
	} {
		if have := r.String(); have != want {
			t.Errorf("have %q, want %q", have, want)
		}
	}
}

func TestRouteEqual(t *testing.T) {
	a := Route{NextHops: []NextHop{via("192.0.2.1", "eth0"), via("192.0.2.2", "eth0")}}
	b := Route{NextHops: []NextHop{via("192.0.2.2", "eth0"), via("192.0.2.1", "eth0")}}
	if a.Equal(b) {
		t.Error("unsorted next hops are equal")
	}
	SortNextHops(b.NextHops)
	if !a.Equal(b) {
		t.Errorf("%v is not %v", a, b)
	}
	for name, other := range map[string]Route{
		"type":     {Type: Blackhole, NextHops: a.NextHops},
		"hops":     {NextHops: a.NextHops[:1]},
		"source":   {NextHops: a.NextHops, Source: netip.MustParseAddr("192.0.2.9")},
		"shadowed": {NextHops: a.NextHops, Shadowed: true},
	} {
		if a.Equal(other) {
			t.Errorf("a different %s is equal", name)
		}
	}
}

func TestSortNextHopsByDevice(t *testing.T) {
	hops := []NextHop{{Device: "b"}, via("192.0.2.1", "z"), {Device: "a"}}
	SortNextHops(hops)
	if have, want := (Route{NextHops: hops}).String(), "nexthop dev a nexthop dev b nexthop via 192.0.2.1 dev z"; have != want {
		t.Errorf("have %q, want %q", have, want)
	}
}

func TestLinkEqual(t *testing.T) {
	have := Link{Up: true, MTU: 1450}
	for _, c := range []struct {
		want  Link
		equal bool
	}{
		{Link{Up: true, MTU: 1450}, true},
		{Link{Up: true}, true},
		{Link{Up: true, MTU: 1500}, false},
		{Link{MTU: 1450}, false},
	} {
		if c.want.Equal(have) != c.equal {
			t.Errorf("want %v, have %v: equal is %v", c.want, have, !c.equal)
		}
	}
	if have.Equal(Link{Up: true}) {
		t.Error("an MTU is wanted, and none is enough")
	}
}

func TestKeep(t *testing.T) {
	route := func(gateways ...string) Route {
		var r Route
		for _, g := range gateways {
			r.NextHops = append(r.NextHops, via(g, "eth0"))
		}
		return r
	}
	state := State{HoldLearned: true, Settled: map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true}}
	for _, c := range []struct {
		name  string
		route Route
		keep  bool
	}{
		{"settled", route("192.0.2.1"), false},
		{"unsettled", route("192.0.2.2"), true},
		{"one of two unsettled", route("192.0.2.1", "192.0.2.2"), true},
		{"local", Route{NextHops: []NextHop{{Device: "cali1"}}}, false},
		{"blackhole", Route{Type: Blackhole}, false},
	} {
		if have := state.Keep(RouteKey{}, c.route); have != c.keep {
			t.Errorf("%s: have %v, want %v", c.name, have, c.keep)
		}
		if (State{}).Keep(RouteKey{}, c.route) {
			t.Errorf("%s: kept without HoldLearned", c.name)
		}
	}
}

func TestSubnets(t *testing.T) {
	host := Host{Links: map[string]HostLink{}}
	for name, addresses := range map[string][]string{
		"eth0":  {"192.0.2.10/24", "198.51.100.1/32"},
		"eth1":  {"192.0.2.11/24", "192.0.2.12/25", "10.0.0.1/0"},
		"cali1": nil,
	} {
		var l HostLink
		for _, a := range addresses {
			l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
		}
		host.Links[name] = l
	}
	want := map[netip.Prefix]string{
		netip.MustParsePrefix("192.0.2.0/24"): "eth0",
		netip.MustParsePrefix("192.0.2.0/25"): "eth1",
	}
	if have := host.Subnets(); !maps.Equal(have, want) {
		t.Errorf("have %v, want %v", have, want)
	}
}

func TestDeviceFor(t *testing.T) {
	link := func(running bool, addresses ...string) HostLink {
		l := HostLink{Up: true, Running: running}
		for _, a := range addresses {
			l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
		}
		return l
	}
	host := Host{Links: map[string]HostLink{
		"eth0":  link(true, "192.0.2.10/24", "198.51.100.1/24"),
		"eth1":  link(true, "198.51.100.1/28"),
		"eth2":  link(false, "203.0.113.1/24"),
		"eth3":  link(true, "192.0.2.11/24"),
		"eth4":  link(true, "203.0.113.64/26", "10.9.0.1/24"),
		"eth5":  {Addresses: []netip.Prefix{netip.MustParsePrefix("10.8.0.1/24")}},
		"eth6":  link(true, "203.0.113.2/24"),
		"eth1a": link(false, "10.9.0.2/24"),
	}}
	for addr, want := range map[string]string{
		"192.0.2.99":    "eth0", // the first by name of two alike
		"198.51.100.2":  "eth1", // the longer prefix
		"198.51.100.99": "eth0",
		"203.0.113.9":   "eth6", // eth2 is as good but for its carrier
		"203.0.113.65":  "eth4",
		"10.9.0.9":      "eth4",
		"10.8.0.9":      "", // down
		"10.0.0.1":      "",
	} {
		have, ok := host.DeviceFor(netip.MustParseAddr(addr))
		if have != want || ok != (want != "") {
			t.Errorf("%s: have %q %v, want %q", addr, have, ok, want)
		}
	}
	delete(host.Links, "eth6")
	if have, _ := host.DeviceFor(netip.MustParseAddr("203.0.113.9")); have != "eth2" {
		t.Errorf("without carrier: have %q, want eth2", have)
	}
}

func TestHostEqual(t *testing.T) {
	a := Host{Links: map[string]HostLink{"eth0": {Index: 2, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")}}}}
	b := Host{Links: map[string]HostLink{"eth0": {Index: 2, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/25")}}}}
	if !a.Equal(a) || a.Equal(b) || a.Equal(Host{Links: a.Links, DefaultRoute: true}) {
		t.Error("Equal misses a difference or sees one where there is none")
	}
}
