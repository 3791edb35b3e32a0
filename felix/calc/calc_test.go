// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
)

func facts() Inputs {
	pod := func(container, iface, mac string, ready bool, addr string) endpoint.Endpoint {
		return endpoint.Endpoint{
			ID: endpoint.ID{ContainerID: container, IfName: "eth0"}, Interface: iface, MAC: mac, MTU: 1400,
			Addresses: []netip.Addr{netip.MustParseAddr(addr)}, Ready: ready,
		}
	}
	in := Inputs{
		Endpoints: map[endpoint.ID]endpoint.Endpoint{},
		Blocks:    []netip.Prefix{netip.MustParsePrefix("172.17.8.0/24"), netip.MustParsePrefix("172.17.40.7/32")},
		Learned: map[dataplane.RouteKey]dataplane.Route{
			{Prefix: netip.MustParsePrefix("172.17.9.0/24")}: {NextHops: []dataplane.NextHop{{Device: "eth0", Gateway: netip.MustParseAddr("192.168.100.101")}}},
		},
		Host: dataplane.Host{DefaultRoute: true, Links: map[string]dataplane.HostLink{
			"eth0":      {Up: true, Running: true},
			"caliup":    {Up: true, Running: true},
			"calidown":  {},
			"calinomac": {Up: true, Running: true},
			"calinew":   {Up: true, Running: true},
		}},
		Uplink: "eth0",
	}
	for _, ep := range []endpoint.Endpoint{
		pod("up", "caliup", "02:00:00:00:00:01", true, "172.17.8.2"),
		pod("down", "calidown", "02:00:00:00:00:02", true, "172.17.8.3"),
		pod("recovered", "calinomac", "", true, "172.17.8.4"),
		pod("unfinished", "calinew", "", false, "172.17.8.5"),
		pod("gone", "caligone", "02:00:00:00:00:03", true, "172.17.8.6"),
	} {
		in.Endpoints[ep.ID] = ep
	}
	return in
}

// text lists a State's entries, sorted.
func text(s dataplane.State) string {
	var lines []string
	for k, v := range s.Links {
		lines = append(lines, fmt.Sprintf("link %s up=%t mtu=%d", k, v.Up, v.MTU))
	}
	for k, v := range s.Neighbours {
		lines = append(lines, fmt.Sprintf("neighbour %s %s %s", k.Device, k.Address, v.MAC))
	}
	for k, v := range s.Routes {
		line := "route " + k.Prefix.String()
		if v.Type == dataplane.Blackhole {
			line += " blackhole"
		}
		for _, h := range v.NextHops {
			if h.Gateway.IsValid() {
				line += " via " + h.Gateway.String()
			}
			line += " dev " + h.Device
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestState(t *testing.T) {
	const want = `link calidown up=true mtu=1400
link calinomac up=true mtu=1400
link caliup up=true mtu=1400
neighbour calidown 172.17.8.3 02:00:00:00:00:02
neighbour caliup 172.17.8.2 02:00:00:00:00:01
route 172.17.8.0/24 blackhole
route 172.17.8.2/32 dev caliup
route 172.17.8.4/32 dev calinomac
route 172.17.9.0/24 via 192.168.100.101 dev eth0`
	if got := text(State(facts())); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A blackhole for a block that overlaps a connected subnet would cut the host off from it.
func TestNoBlackholeInAConnectedSubnet(t *testing.T) {
	for _, tc := range []struct {
		address string
		want    bool
	}{
		{"172.17.8.1/24", false},   // the block itself
		{"172.17.0.1/16", false},   // the block is a part of it
		{"172.17.8.129/28", false}, // it is a part of the block
		{"172.17.9.1/24", true},
		{"172.17.8.1/32", true}, // an address, not a subnet
	} {
		in := facts()
		in.Host.Links["eth0"] = dataplane.HostLink{Up: true, Running: true, Addresses: []netip.Prefix{netip.MustParsePrefix(tc.address)}}
		got := text(State(in))
		if strings.Contains(got, "route 172.17.8.0/24 blackhole") != tc.want {
			t.Errorf("%s: want a blackhole: %t, have\n%s", tc.address, tc.want, got)
		}
		if !strings.Contains(got, "route 172.17.8.2/32 dev caliup") {
			t.Errorf("%s: the pod lost its route:\n%s", tc.address, got)
		}
	}
}

func TestSysctls(t *testing.T) {
	got := Sysctls(Inputs{}, []endpoint.Endpoint{{Interface: "cali1"}})
	want := map[string]dataplane.SysctlValue{
		"net/ipv4/ip_forward":              "1",
		"net/ipv4/conf/cali1/forwarding":   "1",
		"net/ipv4/conf/cali1/proxy_arp":    "1",
		"net/ipv4/conf/cali1/rp_filter":    "1",
		"net/ipv4/neigh/cali1/proxy_delay": "0",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// ipv6Facts is a node with a dual-stack pod beside one of IPv4 only.
func ipv6Facts() Inputs {
	in := facts()
	link := func(name string, addresses ...string) {
		l := dataplane.HostLink{Up: true, Running: true, IPv6: true, AcceptRA: dataplane.AcceptRAHost}
		for _, a := range addresses {
			l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
		}
		in.Host.Links[name] = l
	}
	link("lo", "127.0.0.1/8", "::1/128")
	link("eth0", "192.168.100.100/24", "fd00:192:168::100/64")
	link("caliup")
	link("calidual")
	in.Endpoints = map[endpoint.ID]endpoint.Endpoint{}
	for name, addresses := range map[string][]string{"caliup": {"172.17.8.2"}, "calidual": {"172.17.8.3", "fd00:172:17::3"}} {
		ep := endpoint.Endpoint{ID: endpoint.ID{ContainerID: name}, Interface: name, MAC: "02:00:00:00:00:01", Ready: true}
		for _, a := range addresses {
			ep.Addresses = append(ep.Addresses, netip.MustParseAddr(a))
		}
		in.Endpoints[ep.ID] = ep
	}
	in.Blocks = append(in.Blocks, netip.MustParsePrefix("fd00:172:17::/122"), netip.MustParsePrefix("fd00:172:17::ff/128"))
	in.Learned[dataplane.RouteKey{Prefix: netip.MustParsePrefix("fd00:172:17:1::/122")}] = dataplane.Route{
		NextHops: []dataplane.NextHop{{Device: "eth0", Gateway: netip.MustParseAddr("fd00:192:168::101")}},
	}
	in.Addresses = api.Addresses{IPv4: netip.MustParsePrefix("192.168.100.100/24"), IPv6: netip.MustParsePrefix("fd00:192:168::100/64")}
	return in
}

func TestIPv6State(t *testing.T) {
	const want = `link calidual up=true mtu=0
link caliup up=true mtu=0
neighbour calidual 172.17.8.3 02:00:00:00:00:01
neighbour calidual fd00:172:17::3 02:00:00:00:00:01
neighbour caliup 172.17.8.2 02:00:00:00:00:01
route 172.17.8.0/24 blackhole
route 172.17.8.2/32 dev caliup
route 172.17.8.3/32 dev calidual
route 172.17.9.0/24 via 192.168.100.101 dev eth0
route fd00:172:17:1::/122 via fd00:192:168::101 dev eth0
route fd00:172:17::/122 blackhole
route fd00:172:17::3/128 dev calidual`
	in := ipv6Facts()
	if got := text(State(in)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// Without an IPv4 default route there is a route to the IPv4 gateway only: IPv6 needs none.
	in.Host.DefaultRoute = false
	if got := text(State(in)); strings.Replace(got, "route 169.254.1.1/32 dev eth0\n", "", 1) != want {
		t.Errorf("without a default route: got\n%s", got)
	}
}

// ipv6Text lists the IPv6 settings that are wanted.
func ipv6Text(in Inputs) string {
	var lines []string
	for k, v := range State(in).Sysctls {
		if name, found := strings.CutPrefix(k, "net/ipv6/conf/"); found {
			lines = append(lines, name+"="+string(v))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestIPv6Sysctls(t *testing.T) {
	const pods = `calidual/accept_dad=0
calidual/accept_ra=0
calidual/disable_ipv6=0
calidual/forwarding=1
calidual/proxy_ndp=1
caliup/accept_ra=0`
	for name, c := range map[string]struct {
		change func(*Inputs)
		want   string
	}{
		"all":               {func(*Inputs) {}, "all/forwarding=1\n" + pods + "\neth0/accept_ra=2"},
		"restarted":         {func(in *Inputs) { acceptRA(in, "eth0", dataplane.AcceptRAAlways) }, "all/forwarding=1\n" + pods + "\neth0/accept_ra=2"},
		"no advertisements": {func(in *Inputs) { acceptRA(in, "eth0", dataplane.AcceptRANever) }, "all/forwarding=1\n" + pods},
		"another uplink with IPv6": {func(in *Inputs) {
			in.Host.Links["eth1"] = dataplane.HostLink{IPv6: true, AcceptRA: dataplane.AcceptRAHost, Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64")}}
			in.Host.Links["eth2"] = dataplane.HostLink{IPv6: true, AcceptRA: dataplane.AcceptRAHost, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}
			// The host forwards already: what did not heed routers is not to begin with it.
			docker := in.Host.Links["eth1"]
			docker.Forwards = true
			in.Host.Links["docker0"] = docker
		}, "all/forwarding=1\n" + pods + "\neth0/accept_ra=2\neth1/accept_ra=2"},
		"uplinks that forward": {func(in *Inputs) {
			eth0 := in.Host.Links["eth0"]
			eth0.Forwards = true
			in.Host.Links["eth1"] = eth0
			eth0.Addresses = eth0.Addresses[:1]
			in.Host.Links["eth0"] = eth0
			in.Host.Links["eth2"] = dataplane.HostLink{IPv6: true, AcceptRA: dataplane.AcceptRAAlways, Forwards: true, Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::1/64")}}
		}, "all/forwarding=1\n" + pods + "\neth0/accept_ra=2\neth1/accept_ra=2\neth2/accept_ra=2"},
		"an address of IPv6 only": {func(in *Inputs) { in.Blocks, in.Endpoints = nil, nil }, "all/forwarding=1\neth0/accept_ra=2"},
		"a block of IPv6 only":    {func(in *Inputs) { in.Addresses, in.Endpoints = api.Addresses{}, nil }, "all/forwarding=1\neth0/accept_ra=2"},
		"a pod of IPv6 only": {func(in *Inputs) {
			in.Addresses, in.Blocks = api.Addresses{}, nil
		}, "all/forwarding=1\n" + pods + "\neth0/accept_ra=2"},
		"nothing of IPv6": {func(in *Inputs) {
			in.Addresses.IPv6, in.Blocks = netip.Prefix{}, in.Blocks[:1]
			delete(in.Endpoints, endpoint.ID{ContainerID: "calidual"})
		}, "caliup/accept_ra=0"},
		"a kernel without IPv6": {func(in *Inputs) {
			*in = facts()
		}, ""},
	} {
		in := ipv6Facts()
		c.change(&in)
		if got := ipv6Text(in); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

func acceptRA(in *Inputs, name string, accept dataplane.AcceptRA) {
	link := in.Host.Links[name]
	link.AcceptRA = accept
	in.Host.Links[name] = link
}

// A blackhole for an IPv6 block would cut the host off from a connected subnet just as well.
func TestNoIPv6BlackholeInAConnectedSubnet(t *testing.T) {
	in := ipv6Facts()
	in.Blocks = []netip.Prefix{netip.MustParsePrefix("fd00:192:168::/122")}
	if got := text(State(in)); strings.Contains(got, "blackhole") {
		t.Errorf("got\n%s", got)
	}
}

// What belongs to this node wins over what a neighbour says of the same prefix.
func TestPrecedence(t *testing.T) {
	in := facts()
	elsewhere := dataplane.Route{NextHops: []dataplane.NextHop{{Device: "eth0", Gateway: netip.MustParseAddr("192.168.100.66")}}}
	for _, prefix := range []string{"172.17.8.0/24", "172.17.8.2/32"} {
		in.Learned[dataplane.RouteKey{Prefix: netip.MustParsePrefix(prefix)}] = elsewhere
	}
	got := text(State(in))
	for _, want := range []string{"route 172.17.8.0/24 blackhole", "route 172.17.8.2/32 dev caliup"} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
}

// Two records with one address are a fault elsewhere, but traffic must not swing from one pod to the
// other with every pass.
func TestTheOlderRecordKeepsTheAddress(t *testing.T) {
	in := facts()
	first := in.Endpoints[endpoint.ID{ContainerID: "up", IfName: "eth0"}]
	first.Since = time.Unix(1000, 0)
	in.Endpoints[first.ID] = first
	for i := range 9 {
		other := first
		other.ID.ContainerID, other.Interface, other.Since = fmt.Sprint("other", i), fmt.Sprint("caliother", i), time.Unix(int64(1001+i/2), 0)
		in.Endpoints[other.ID] = other
		in.Host.Links[other.Interface] = dataplane.HostLink{Up: true, Running: true}
	}
	for range 20 {
		if got := text(State(in)); !strings.Contains(got, "route 172.17.8.2/32 dev caliup") {
			t.Fatalf("the pod that had it first has lost its route:\n%s", got)
		}
	}
}

func TestGatewayRouteOnlyWithoutDefaultRoute(t *testing.T) {
	in := facts()
	const line = "route 169.254.1.1/32 dev eth0"
	if strings.Contains(text(State(in)), line) {
		t.Error("gateway route beside a default route")
	}
	in.Host.DefaultRoute = false
	if !strings.Contains(text(State(in)), line) {
		t.Error("no gateway route without a default route")
	}
	in.Host.Links["eth0"] = dataplane.HostLink{}
	if strings.Contains(text(State(in)), line) {
		t.Error("route over an uplink that is down: the kernel would refuse it")
	}
}

// Every blackholed prefix is an own confirmed block: nothing else may swallow traffic.
func TestBlackholesAreOwnBlocks(t *testing.T) {
	in := facts()
	in.Blocks = nil
	for key, r := range State(in).Routes {
		if r.Type == dataplane.Blackhole {
			t.Errorf("blackhole for %s although this node has no block", key.Prefix)
		}
	}
}
