// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/test/netns"
)

type (
	routes     = map[dataplane.RouteKey]dataplane.Route
	neighbours = map[dataplane.NeighbourKey]dataplane.Neighbour
	sysctls    = map[string]dataplane.SysctlValue
	links      = map[string]dataplane.Link
)

// host is a namespace with an uplink, eth0 192.0.2.10/24, and two pods' interfaces.
type host struct {
	*netns.Namespace
	t testing.TB
}

func newHost(t testing.TB) host {
	t.Helper()
	ns := netns.New(t)
	ns.Batch(
		"link add eth0 type veth peer name peer0",
		"link set eth0 up", "link set peer0 up",
		"address add 192.0.2.10/24 dev eth0",
		"link add cali1 type veth peer name pod1",
		"link set cali1 up", "link set pod1 up",
		"link add cali2 type veth peer name pod2",
		"link set cali2 up", "link set pod2 up",
	)
	return host{ns, t}
}

func (h host) open() *kernel.Handle {
	h.t.Helper()
	handle, err := kernel.OpenAt(h.Path())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		if err := handle.Close(); err != nil {
			h.t.Error(err)
		}
	})
	return handle
}

// ours is what ip shows of our routes.
func (h host) ours() string {
	h.t.Helper()
	return trim(h.Run("ip", "route", "show", "proto", "75"))
}

// all is what ip shows of the main table, without the uplink's subnet.
func (h host) all() string {
	h.t.Helper()
	return strings.Replace(trim(h.Run("ip", "route")), "192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.10\n", "", 1)
}

// trim takes away what ip puts at the end of lines.
func trim(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return b.String()
}

func prefix(s string) dataplane.RouteKey { return dataplane.RouteKey{Prefix: netip.MustParsePrefix(s)} }

func dev(name string) dataplane.Route {
	return dataplane.Route{NextHops: []dataplane.NextHop{{Device: name}}}
}

func via(gateways ...string) dataplane.Route {
	var r dataplane.Route
	for _, g := range gateways {
		r.NextHops = append(r.NextHops, dataplane.NextHop{Device: "eth0", Gateway: netip.MustParseAddr(g)})
	}
	return r
}

// apply makes a table as wanted, and wants no error.
func apply[K comparable, V reconcile.Value[V]](t testing.TB, s *reconcile.Step[K, V], want map[K]V) reconcile.Result {
	t.Helper()
	r, err := s.Apply(t.Context(), want, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func equal(t testing.TB, what string, want, have any) {
	t.Helper()
	if diff := cmp.Diff(want, have, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("%s: want (-), have (+):\n%s", what, diff)
	}
}

// manyRoutes gives n host routes, to pods and via another node by turns.
func manyRoutes(n int) routes {
	want := make(routes, n+1)
	for i := range n {
		key := dataplane.RouteKey{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(1 + i>>16), byte(i >> 8), byte(i)}), 32)}
		if want[key] = dev("cali1"); i%2 == 1 {
			want[key] = via("192.0.2.1")
		}
	}
	return want
}
