// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
)

func everyKind() routes {
	return routes{
		prefix("10.0.0.1/32"):     dev("cali1"),
		prefix("10.0.0.0/24"):     {Type: dataplane.Blackhole},
		prefix("10.0.1.0/24"):     via("192.0.2.1"),
		prefix("10.0.2.0/24"):     via("192.0.2.1", "192.0.2.2"),
		prefix("10.0.3.0/24"):     via("198.51.100.1"), // no route to it: onlink
		prefix("10.0.4.0/24"):     {NextHops: dev("cali2").NextHops, Source: netip.MustParseAddr("192.0.2.10")},
		prefix("10.0.5.0/24"):     {NextHops: []dataplane.NextHop{{Device: "cali1"}, {Device: "cali2"}}},
		prefix("0.0.0.0/0"):       via("192.0.2.3"),
		prefix("2001:db8::/64"):   {NextHops: []dataplane.NextHop{{Device: "eth0", Gateway: netip.MustParseAddr("fe80::1")}}},
		prefix("2001:db8::1/128"): dev("cali1"),
		prefix("2001:db8:1::/64"): {Type: dataplane.Blackhole},
		prefix("2001:db8:2::/64"): via("2001:db8::11", "2001:db8::12"),
	}
}

const everyKindText = `default via 192.0.2.3 dev eth0 onlink
blackhole 10.0.0.0/24
10.0.0.1 dev cali1 scope link
10.0.1.0/24 via 192.0.2.1 dev eth0 onlink
10.0.2.0/24
	nexthop via 192.0.2.1 dev eth0 weight 1 onlink
	nexthop via 192.0.2.2 dev eth0 weight 1 onlink
10.0.3.0/24 via 198.51.100.1 dev eth0 onlink
10.0.4.0/24 dev cali2 scope link src 192.0.2.10
10.0.5.0/24 scope link
	nexthop dev cali1 weight 1
	nexthop dev cali2 weight 1
`

func TestRoutes(t *testing.T) {
	h := newHost(t)
	handle := h.open()
	step := reconcile.NewStep("routes", handle.Routes())
	want := everyKind()

	equal(t, "first", reconcile.Result{Read: true, Set: len(want)}, apply(t, step, want))
	equal(t, "ip route", everyKindText, h.ours())
	equal(t, "ip -6 route", `2001:db8::1 dev cali1 metric 1024 pref medium
2001:db8::/64 via fe80::1 dev eth0 metric 1024 onlink pref medium
blackhole 2001:db8:1::/64 dev lo metric 1024 pref medium
2001:db8:2::/64 metric 1024 pref medium
	nexthop via 2001:db8::11 dev eth0 weight 1 onlink
	nexthop via 2001:db8::12 dev eth0 weight 1 onlink
`, trim(h.Run("ip", "-6", "route", "show", "proto", "75")))
	equal(t, "unchanged", reconcile.Result{}, apply(t, step, want))
	step.Invalidate()
	equal(t, "resync", reconcile.Result{Read: true}, apply(t, step, want))

	fresh := h.open()
	step = reconcile.NewStep("routes", fresh.Routes())
	equal(t, "a fresh handle knows its own", reconcile.Result{Read: true}, apply(t, step, want))
	equal(t, "its writes", kernel.Writes{}, fresh.Writes())

	// Every kind becomes another one.
	want = routes{
		prefix("10.0.0.1/32"): {Type: dataplane.Blackhole},
		prefix("10.0.0.0/24"): via("192.0.2.1", "192.0.2.9"),
		prefix("10.0.1.0/24"): dev("cali1"),
		prefix("10.0.2.0/24"): via("192.0.2.2"),
	}
	equal(t, "changed", reconcile.Result{Set: 4, Deleted: 8}, apply(t, step, want))
	equal(t, "ip route", `10.0.0.0/24
	nexthop via 192.0.2.1 dev eth0 weight 1 onlink
	nexthop via 192.0.2.9 dev eth0 weight 1 onlink
blackhole 10.0.0.1
10.0.1.0/24 dev cali1 scope link
10.0.2.0/24 via 192.0.2.2 dev eth0 onlink
`, h.ours())
	equal(t, "deleted", reconcile.Result{Deleted: 4}, apply(t, step, nil))
	equal(t, "ip route", "", h.all())
	equal(t, "ip -6 route", "", trim(h.Run("ip", "-6", "route", "show", "proto", "75")))
}

func TestRoutesDeleteOfTheAbsent(t *testing.T) {
	h := newHost(t)
	err := h.open().Routes().Write(t.Context(), reconcile.Diff[dataplane.RouteKey, dataplane.Route]{Delete: everyKind()})
	if err != nil {
		t.Error(err)
	}
}

func TestRoutesErrors(t *testing.T) {
	h := newHost(t)
	h.Run("ip", "link", "set", "cali2", "down")
	step := reconcile.NewStep("routes", h.open().Routes())
	want, text := routes{}, ""
	for i := range 1000 {
		key := prefix(fmt.Sprintf("10.1.%d.%d/32", i/256, i%256))
		want[key] = dev("cali1")
		text += key.Prefix.Addr().String() + " dev cali1 scope link\n"
	}
	good := maps.Clone(want)
	maps.Copy(want, routes{
		prefix("10.2.0.1/32"):  dev("cali2"),
		prefix("10.2.0.2/32"):  dev("cali9"),
		prefix("10.2.0.3/32"):  {},
		prefix("10.2.0.4/32"):  {NextHops: dev("cali1").NextHops, Source: netip.MustParseAddr("192.0.2.99")},
		prefix("10.2.0.5/32"):  {NextHops: []dataplane.NextHop{{Device: "cali1"}, {Device: "cali9"}}},
		prefix("10.2.0.6/32"):  {NextHops: []dataplane.NextHop{{Device: "eth0", Gateway: netip.MustParseAddr("fe80::1")}}},
		prefix("10.2.0.7/24"):  dev("cali1"),
		prefix("10.2.0.8/32"):  {Type: 7},
		prefix("10.2.0.9/32"):  {Type: dataplane.Blackhole, NextHops: dev("cali1").NextHops},
		prefix("192.0.2.0/24"): via("192.0.2.1"),
	})
	r, err := step.Apply(t.Context(), want, nil)
	equal(t, "result", reconcile.Result{Read: true, Set: 1000, Failed: 10}, r)
	equal(t, "ip route", text, h.ours())
	if err == nil {
		t.Fatal("no error")
	}
	equal(t, "error", `write routes:
set 10.2.0.1/32 dev cali2: network is down (Device for nexthop is not up)
set 10.2.0.2/32 dev cali9: no such device
set 10.2.0.3/32 : no next hop
set 10.2.0.4/32 dev cali1 src 192.0.2.99: invalid argument (Invalid prefsrc address)
set 10.2.0.5/32 nexthop dev cali1 nexthop dev cali9: next hop dev cali9: no such device
set 10.2.0.6/32 via fe80::1 dev eth0: gateway fe80::1 is of the other address family
set 10.2.0.7/24 dev cali1: not a prefix, or one with host bits set
set 10.2.0.8/32 type 7: routes of this type are not made here
set 10.2.0.9/32 blackhole dev cali1: a blackhole has no next hop
set 192.0.2.0/24 via 192.0.2.1 dev eth0: it is the subnet of one of the host's own addresses`,
		strings.NewReplacer("routes: ", "routes:\n", "; ", "\n").Replace(err.Error()))
	if !errors.Is(err, unix.ENETDOWN) {
		t.Error("the error is not network is down")
	}

	h.Run("ip", "link", "set", "cali2", "up")
	good[prefix("10.2.0.1/32")] = dev("cali2")
	equal(t, "healed", reconcile.Result{Set: 1}, apply(t, step, good))
}

func TestRoutesOfOthersAreLeftAlone(t *testing.T) {
	h := newHost(t)
	h.Batch(
		"route add default via 192.0.2.1",
		"route add 10.9.0.0/16 via 192.0.2.1 proto bird",
		"route add 10.0.1.0/24 via 192.0.2.7 metric 50", // our prefix, with another metric
		"route add 10.0.1.128/25 via 192.0.2.7",         // more specific than ours
		"route add 10.0.1.0/24 via 192.0.2.7 table 100",
		"route add 10.0.1.0/24 via 192.0.2.7 tos 0x10",
		"route add 10.0.6.0/24 via 192.0.2.7 table 100 proto 75",
		"route add 10.0.7.0/24 via 192.0.2.7 metric 7 proto 75",
	)
	before := h.Run("ip", "-4", "route", "show", "table", "all")
	step := reconcile.NewStep("routes", h.open().Routes())
	apply(t, step, routes{prefix("10.0.1.0/24"): via("192.0.2.1")})
	equal(t, "ip route", `default via 192.0.2.1 dev eth0
10.0.1.0/24 tos lowdelay via 192.0.2.7 dev eth0
10.0.1.0/24 via 192.0.2.1 dev eth0 proto 75 onlink
10.0.1.0/24 via 192.0.2.7 dev eth0 metric 50
10.0.1.128/25 via 192.0.2.7 dev eth0
10.0.7.0/24 via 192.0.2.7 dev eth0 proto 75 metric 7
10.9.0.0/16 via 192.0.2.1 dev eth0 proto bird
`, strings.ReplaceAll(h.all(), "tos 0x10", "tos lowdelay"))
	apply(t, step, nil)
	equal(t, "all tables afterwards", before, h.Run("ip", "-4", "route", "show", "table", "all"))
}

func TestRoutesInOurWay(t *testing.T) {
	const ours = "10.0.1.0/24 via 192.0.2.1 dev eth0 proto 75 onlink\n"
	for name, c := range map[string]struct {
		commands []string
		during   string
		after    string
	}{
		"before us at start": {
			[]string{"route flush proto 75", "route add 10.0.1.0/24 via 192.0.2.7"},
			"10.0.1.0/24 via 192.0.2.7 dev eth0\n", ours,
		},
		"replaced": {
			[]string{"route replace 10.0.1.0/24 via 192.0.2.7"},
			"10.0.1.0/24 via 192.0.2.7 dev eth0\n", ours,
		},
		"replaced with our protocol": {
			[]string{"route replace 10.0.1.0/24 via 192.0.2.7 proto 75"},
			"10.0.1.0/24 via 192.0.2.7 dev eth0 proto 75\n", ours,
		},
		"prepended": {
			[]string{"route prepend 10.0.1.0/24 via 192.0.2.7"},
			"10.0.1.0/24 via 192.0.2.7 dev eth0\n" + ours, ours,
		},
		"prepended thrice": {
			[]string{"route prepend 10.0.1.0/24 via 192.0.2.7", "route prepend blackhole 10.0.1.0/24", "route prepend 10.0.1.0/24 dev cali1"},
			"10.0.1.0/24 dev cali1 scope link\nblackhole 10.0.1.0/24\n10.0.1.0/24 via 192.0.2.7 dev eth0\n" + ours, ours,
		},
		"appended, which is no harm": {
			[]string{"route append 10.0.1.0/24 via 192.0.2.7"},
			ours + "10.0.1.0/24 via 192.0.2.7 dev eth0\n", ours + "10.0.1.0/24 via 192.0.2.7 dev eth0\n",
		},
		"deleted": {[]string{"route delete 10.0.1.0/24"}, "", ours},
	} {
		t.Run(name, func(t *testing.T) {
			for _, how := range []string{"resync", "restart", "notice"} {
				h := newHost(t)
				handle := h.open()
				step := reconcile.NewStep("routes", handle.Routes())
				want := routes{prefix("10.0.1.0/24"): via("192.0.2.1")}
				apply(t, step, want)
				h.Batch(c.commands...)
				equal(t, "before "+how, c.during, h.all())
				switch how {
				case "resync":
					step.Invalidate()
				case "restart":
					step = reconcile.NewStep("routes", h.open().Routes())
				case "notice":
					wait(t, handle, kernel.Notice.TouchesRoutes, func(n kernel.Notice) { step.Touch(n.TouchesRoute) })
				}
				apply(t, step, want)
				equal(t, "after "+how, c.after, h.all())
				step.Invalidate()
				equal(t, "once more", reconcile.Result{Read: true}, apply(t, step, want))
			}
		})
	}
}

// TestRoutesShadowedAndUnwanted: a route of ours is deleted though another stands before it.
func TestRoutesShadowedAndUnwanted(t *testing.T) {
	h := newHost(t)
	apply(t, reconcile.NewStep("routes", h.open().Routes()), routes{prefix("10.0.1.0/24"): via("192.0.2.1")})
	h.Run("ip", "route", "prepend", "10.0.1.0/24", "via", "192.0.2.7")
	have, err := h.open().Routes().Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shadowed := via("192.0.2.1")
	shadowed.Shadowed = true
	equal(t, "read", routes{prefix("10.0.1.0/24"): shadowed}, have)
	apply(t, reconcile.NewStep("routes", h.open().Routes()), nil)
	equal(t, "ip route", "10.0.1.0/24 via 192.0.2.7 dev eth0\n", h.all())
}
