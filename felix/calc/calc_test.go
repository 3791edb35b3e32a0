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
	got := Sysctls([]endpoint.Endpoint{{Interface: "cali1"}})
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
