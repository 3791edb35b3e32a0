// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	gobgp "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"korat/bgp"
)

func encoded(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestIPv6Paths(t *testing.T) {
	v4, v6 := unicast(netip.IPv4Unspecified()), unicast(netip.IPv6Unspecified())
	labelled := &gobgp.Family{Afi: gobgp.Family_AFI_IP6, Safi: gobgp.Family_SAFI_MPLS_LABEL}
	for _, tc := range []struct {
		name     string
		family   *gobgp.Family
		prefix   string
		nextHops []string
		want     string
	}{
		{"one next hop", v6, "fd01::/122", []string{"fd00::2"}, "fd01::/122 via fd00::2"},
		{"the second, link-local one is the same host's", v6, "fd01::/122", []string{"fd00::2", "fe80::2"}, "fd01::/122 via fd00::2"},
		{"nothing but link-local", v6, "fd01::/122", []string{"fe80::2"}, "fd01::/122 via fe80::2"},
		{"IPv4 in IPv6's form", v6, "fd01::/122", []string{"::ffff:10.0.0.2"}, "fd01::/122 via 10.0.0.2"},
		{"none", v6, "fd01::/122", nil, "fd01::/122 via invalid IP"},
		{"host bits", v6, "fd01::1/122", []string{"fd00::2"}, "fd01::/122 via fd00::2"},
		{"IPv4 with an IPv6 next hop", v4, "172.17.1.0/24", []string{"fd00::2"}, "172.17.1.0/24 via fd00::2"},
		{"no unicast", labelled, "fd01::/122", []string{"fd00::2"}, "refused"},
		{"the other family's prefix", v4, "fd01::/122", []string{"fd00::2"}, "refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := netip.MustParsePrefix(tc.prefix)
			l, ok := readPath(&gobgp.Path{
				Family: tc.family, NeighborIp: "fd00::2",
				Nlri:   encoded(t, &gobgp.IPAddressPrefix{Prefix: p.Addr().String(), PrefixLen: uint32(p.Bits())}),
				Pattrs: []*anypb.Any{encoded(t, &gobgp.OriginAttribute{}), encoded(t, &gobgp.MpReachNLRIAttribute{Family: tc.family, NextHops: tc.nextHops})},
			})
			got := fmt.Sprintf("%s via %s", l.prefix, l.path.NextHop)
			if !ok {
				got = "refused"
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// An End-of-RIB is of one family; a session waits for its own.
func TestEndOfRIBOfFamily(t *testing.T) {
	four, six := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")
	c := New(Config{})
	c.Want(bgp.Plan{Peers: map[netip.Addr]bgp.Peer{four: {Address: four}, six: {Address: six}}}, false)
	s := newSession(c, nil)
	check := func(want4, want6 bool) {
		t.Helper()
		if all := c.RIB().Sessions; all[four].EndOfRIB != want4 || all[six].EndOfRIB != want6 {
			t.Errorf("sessions are %+v, want End-of-RIB %t and %t", all, want4, want6)
		}
	}
	s.tableEvent([]*gobgp.Path{{Family: unicast(four), NeighborIp: six.String()}, {Family: unicast(six), NeighborIp: four.String()}})
	check(false, false)
	s.tableEvent([]*gobgp.Path{{Family: unicast(six), NeighborIp: six.String()}})
	check(false, true)
	s.tableEvent([]*gobgp.Path{{Family: unicast(four), NeighborIp: four.String()}})
	check(true, true)
}

func TestRemote(t *testing.T) {
	speaks4 := encoded(t, &gobgp.MultiProtocolCapability{Family: unicast(netip.IPv4Unspecified())})
	speaks6 := encoded(t, &gobgp.MultiProtocolCapability{Family: unicast(netip.IPv6Unspecified())})
	graceful := encoded(t, &gobgp.GracefulRestartCapability{Time: 120})
	restarts := encoded(t, &gobgp.GracefulRestartCapability{Flags: restartState, Time: 120})
	for _, tc := range []struct {
		name string
		peer string
		caps []*anypb.Any
		want remote
	}{
		{"no capability means IPv4", "10.0.0.2", nil, remote{}},
		{"no capability means no IPv6", "fd00::2", nil, remote{mute: true}},
		{"IPv4", "10.0.0.2", []*anypb.Any{speaks4, graceful}, remote{graceful: true}},
		{"IPv6 that restarts", "fd00::2", []*anypb.Any{speaks6, restarts}, remote{graceful: true, restarting: true}},
		{"both", "fd00::2", []*anypb.Any{speaks4, graceful, speaks6}, remote{graceful: true}},
		{"the other one", "fd00::2", []*anypb.Any{speaks4, graceful}, remote{graceful: true, mute: true}},
		{"the other one of IPv4", "10.0.0.2", []*anypb.Any{speaks6, graceful}, remote{graceful: true, mute: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := remoteOf(netip.MustParseAddr(tc.peer), tc.caps)
			if got != tc.want || got.tells() != (tc.want.graceful && !tc.want.mute) {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// A kernel without IPv6 must not keep IPv4 from being spoken.
func TestListenAddresses(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	for _, tc := range []struct {
		listen []netip.Addr
		ipv6   bool
		want   string
	}{
		{nil, true, "0.0.0.0 ::"},
		{nil, false, "0.0.0.0"},
		{own, true, "10.0.0.1 fd00::1"},
		{own, false, "10.0.0.1"},
		{own[1:], true, "fd00::1"},
	} {
		g := apiGlobal(bgp.Global{AS: 1, RouterID: own[0], ListenAddresses: tc.listen}, tc.ipv6)
		if got := strings.Join(g.ListenAddresses, " "); got != tc.want {
			t.Errorf("listen on %v with IPv6 %t: %s, want %s", tc.listen, tc.ipv6, got, tc.want)
		}
	}
}
