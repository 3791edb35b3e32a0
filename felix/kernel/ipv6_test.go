// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/test/netns"
	"korat/test/netns/router"
)

// all6 is what ip shows of the main IPv6 table with metric 1024.
func (h host) all6() string {
	h.t.Helper()
	var b strings.Builder
	for line := range strings.Lines(trim(h.Run("ip", "-6", "route"))) {
		if !strings.Contains(line, " metric 256 ") {
			b.WriteString(strings.ReplaceAll(line, " metric 1024", ""))
		}
	}
	return strings.ReplaceAll(b.String(), " pref medium", "")
}

func (h host) permanent6() string {
	h.t.Helper()
	return sorted(trim(h.Run("ip", "-6", "neigh", "show", "nud", "permanent")))
}

func (h host) ip(command string) {
	h.t.Helper()
	h.Run(append([]string{"ip"}, strings.Fields(command)...)...)
}

func blackhole() dataplane.Route { return dataplane.Route{Type: dataplane.Blackhole} }

func TestIPv6RoutesInOurWay(t *testing.T) {
	const (
		gateway  = "2001:db8:1::/64 via 2001:db8::1 dev eth0 proto 75 onlink\n"
		direct   = "2001:db8:1::/64 dev cali1 proto 75\n"
		nowhere  = "blackhole 2001:db8:1::/64 dev lo proto 75\n"
		foreign  = "2001:db8:1::/64 via 2001:db8::7 dev eth0\n"
		foreign2 = "2001:db8:1::/64 dev cali2\n"
	)
	for name, c := range map[string]struct {
		want     dataplane.Route
		commands []string
		during   string
		after    string
	}{
		"before us at start": {
			via("2001:db8::1"),
			[]string{"route flush proto 75", "route add 2001:db8:1::/64 via 2001:db8::7"},
			foreign, gateway,
		},
		"of the other class before us at start": {
			via("2001:db8::1"),
			[]string{"route flush proto 75", "route add blackhole 2001:db8:1::/64"},
			"blackhole 2001:db8:1::/64 dev lo\n", gateway,
		},
		"one of each class before us at start": {
			dev("cali1"),
			[]string{"route flush proto 75", "route add 2001:db8:1::/64 via 2001:db8::7", "route append 2001:db8:1::/64 dev cali2"},
			foreign + foreign2, direct,
		},
		"one of each class and an old one of ours": {
			dev("cali1"),
			[]string{
				"route flush proto 75", "route add 2001:db8:1::/64 via 2001:db8::7",
				"route append blackhole 2001:db8:1::/64", "route append 2001:db8:1::/64 dev cali2 proto 75",
			},
			foreign + "blackhole 2001:db8:1::/64 dev lo\n2001:db8:1::/64 dev cali2 proto 75\n", direct,
		},
		"replaced": {
			blackhole(),
			[]string{"route replace blackhole 2001:db8:1::/64"},
			"blackhole 2001:db8:1::/64 dev lo\n", nowhere,
		},
		"replaced with our protocol": {
			via("2001:db8::1"),
			[]string{"route replace 2001:db8:1::/64 via 2001:db8::7 dev eth0 proto 75"},
			"2001:db8:1::/64 via 2001:db8::7 dev eth0 proto 75\n", gateway,
		},
		"replaced by several of our protocol": {
			via("2001:db8::1"),
			[]string{
				"route replace 2001:db8:1::/64 proto 75 nexthop via 2001:db8::7 dev eth0 nexthop via 2001:db8::8 dev eth0",
			},
			"2001:db8:1::/64 proto 75\n\tnexthop via 2001:db8::7 dev eth0 weight 1\n\tnexthop via 2001:db8::8 dev eth0 weight 1\n", gateway,
		},
		"joined": {
			via("2001:db8::1"),
			[]string{"route append 2001:db8:1::/64 via 2001:db8::7"},
			"2001:db8:1::/64 proto 75\n\tnexthop via 2001:db8::1 dev eth0 weight 1 onlink\n\tnexthop via 2001:db8::7 dev eth0 weight 1\n", gateway,
		},
		"appended, which is no harm": {
			via("2001:db8::1"),
			[]string{"route append 2001:db8:1::/64 dev cali2"},
			gateway + foreign2, gateway + foreign2,
		},
		"deleted": {dev("cali1"), []string{"route delete 2001:db8:1::/64"}, "", direct},
	} {
		t.Run(name, func(t *testing.T) {
			for _, how := range []string{"resync", "restart"} {
				h := newHost(t)
				h.Run("ip", "address", "add", "2001:db8::10/64", "dev", "eth0", "nodad")
				step := reconcile.NewStep("routes", h.open().Routes())
				want := routes{prefix("2001:db8:1::/64"): c.want}
				apply(t, step, want)
				for _, command := range c.commands {
					h.ip("-6 " + command)
				}
				equal(t, "before "+how, c.during, h.all6())
				if step.Invalidate(); how == "restart" {
					step = reconcile.NewStep("routes", h.open().Routes())
				}
				apply(t, step, want)
				step.Invalidate()
				apply(t, step, want) // one that stands before ours is known by then
				equal(t, "after "+how, c.after, h.all6())
				step.Invalidate()
				equal(t, "once more", reconcile.Result{Read: true}, apply(t, step, want))
			}
		})
	}
}

// A route of ours that changes its class beside somebody else's of the new class has the old one before it.
func TestIPv6RouteOfOursBeforeOurs(t *testing.T) {
	for name, c := range map[string]struct {
		first, then      dataplane.Route
		foreign, between string
		after            string
	}{
		"to a gateway": {
			blackhole(), via("2001:db8::1"), "route append 2001:db8:1::/64 via 2001:db8::7 dev eth0 onlink",
			"blackhole 2001:db8:1::/64 dev lo proto 75\n2001:db8:1::/64 via 2001:db8::1 dev eth0 proto 75 onlink\n",
			"2001:db8:1::/64 via 2001:db8::1 dev eth0 proto 75 onlink\n",
		},
		"from a gateway": {
			via("2001:db8::1"), dev("cali1"), "route append blackhole 2001:db8:1::/64",
			"2001:db8:1::/64 via 2001:db8::1 dev eth0 proto 75 onlink\n2001:db8:1::/64 dev cali1 proto 75\n",
			"2001:db8:1::/64 dev cali1 proto 75\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			step := reconcile.NewStep("routes", h.open().Routes())
			key := prefix("2001:db8:1::/64")
			apply(t, step, routes{key: c.first})
			h.ip("-6 " + c.foreign)
			want := routes{key: c.then}
			apply(t, step, want)
			equal(t, "at first", c.between, h.all6())
			step.Invalidate()
			apply(t, step, want)
			equal(t, "after a resync", c.after, h.all6())
			step.Invalidate()
			equal(t, "once more", reconcile.Result{Read: true}, apply(t, step, want))
		})
	}
}

func TestIPv6RoutesOfOthersAreLeftAlone(t *testing.T) {
	h := newHost(t)
	h.Batch(
		"address add 2001:db8::10/64 dev eth0 nodad",
		"route add default via 2001:db8::9",
		"route add 2001:db8:1::/64 via 2001:db8::7 metric 50",
		"route add 2001:db8:1::/64 via 2001:db8::7 table 100 proto 75",
		"route add 2001:db8:1::/64 from 2001:db8:9::/64 via 2001:db8::7 proto 75",
		"route add 2001:db8:1::/64 via 2001:db8::7 metric 2048 proto 75",
		"route add 2001:db8:1:0:8000::/65 via 2001:db8::7",
	)
	// The order in which ip shows routes to one prefix from different sources is the kernel's affair.
	// The kernel adds the routes of addresses themselves by and by (addrconf_dad_work), those of links once they have carriers.
	late := regexp.MustCompile(`(?m)^local (2001:db8::10|fe80:.*) dev .*\n`)
	show := func() string { return h.Run("ip", "-6", "route", "show", "table", "all") }
	netns.WaitFor(t, "the links' routes", func() bool {
		all := show()
		return strings.Count(all, "fe80::/64 dev ") == 6 && strings.Count(all, "multicast ff00::/8 dev ") == 6
	})
	const ours = "2001:db8:1::/64 via 2001:db8::1 dev eth0 proto 75 metric 1024 onlink pref medium\n"
	table := func(without string) string {
		return sorted(strings.Replace(late.ReplaceAllString(show(), ""), without, "", 1))
	}
	before := table("")
	step := reconcile.NewStep("routes", h.open().Routes())
	apply(t, step, routes{prefix("2001:db8:1::/64"): via("2001:db8::1")})
	equal(t, "all tables meanwhile", before, table(ours))
	if !strings.Contains(trim(h.Run("ip", "-6", "route")), ours) {
		t.Error("our route is missing")
	}
	apply(t, step, nil)
	equal(t, "all tables afterwards", before, table(""))
}

func TestIPv6RoutesErrors(t *testing.T) {
	h := newHost(t)
	h.Run("sysctl", "-qw", "net.ipv6.conf.cali2.disable_ipv6=1")
	step := reconcile.NewStep("routes", h.open().Routes())
	_, err := step.Apply(t.Context(), routes{
		prefix("2001:db8:1::1/128"): dev("cali1"),
		prefix("2001:db8:1::2/128"): dev("cali2"),
		prefix("2001:db8:1::3/128"): via("192.0.2.1"),
		prefix("2001:db8:1::4/128"): {NextHops: []dataplane.NextHop{{Device: "cali1"}, {Device: "cali2"}}},
		prefix("2001:db8:2::/64"):   via("2001:db8::1", "2001:db8::2"),
	}, nil)
	if err == nil {
		t.Fatal("no error")
	}
	equal(t, "error", `write routes:
set 2001:db8:1::2/128 dev cali2: permission denied (IPv6 is disabled on nexthop device)
set 2001:db8:1::3/128 via 192.0.2.1 dev eth0: gateway 192.0.2.1 is of the other address family
set 2001:db8:1::4/128 nexthop dev cali1 nexthop dev cali2: the kernel uses only one of several IPv6 next hops without a gateway`,
		strings.NewReplacer("routes: ", "routes:\n", "; ", "\n").Replace(err.Error()))
	equal(t, "ip -6 route", `2001:db8:1::1 dev cali1 proto 75
2001:db8:2::/64 proto 75
	nexthop via 2001:db8::1 dev eth0 weight 1 onlink
	nexthop via 2001:db8::2 dev eth0 weight 1 onlink
`, h.all6())
}

// Proxy entries are in a table of their own, with the addresses as keys as well.
func TestIPv6NeighboursLeaveProxiesAlone(t *testing.T) {
	h := newHost(t)
	h.Batch(
		"neigh add proxy 2001:db8::1 dev cali1", "neigh add proxy 2001:db8::2 dev cali1",
		"neigh add 2001:db8::3 lladdr 02:00:00:00:00:99 dev cali1 nud permanent",
	)
	proxies := func() string { return sorted(trim(h.Run("ip", "-6", "neigh", "show", "proxy"))) }
	before := proxies()
	step := reconcile.NewStep("neighbours", h.open().Neighbours())
	apply(t, step, neighbours{neighbour("cali1", "2001:db8::1"): {MAC: "02:00:00:00:00:01"}})
	const foreign = "2001:db8::3 dev cali1 lladdr 02:00:00:00:00:99 PERMANENT\n"
	equal(t, "ip -6 neigh", "2001:db8::1 dev cali1 lladdr 02:00:00:00:00:01 PERMANENT proto 75\n"+foreign, h.permanent6())
	apply(t, step, nil)
	equal(t, "ip -6 neigh", foreign, h.permanent6())
	equal(t, "proxies", before, proxies())
}

// TestIPv6RepairAfterNotice: the kernel takes all IPv6 routes, permanent neighbours and addresses of a link
// that goes down away, and tells of it.
func TestIPv6RepairAfterNotice(t *testing.T) {
	for name, commands := range map[string][]string{
		"deleted":            {"route delete 2001:db8:1::1/128", "route delete 2001:db8:2::/64", "neigh delete 2001:db8:1::1 dev cali1"},
		"all flushed":        {"-6 route flush proto 75", "-6 neigh flush dev cali1 nud permanent"},
		"replaced":           {"route replace 2001:db8:2::/64 via 2001:db8::7 dev eth0 onlink", "route replace blackhole 2001:db8:1::1"},
		"joined":             {"route append 2001:db8:2::/64 via 2001:db8::7 dev eth0 onlink"},
		"link flapped":       {"link set cali1 down", "link set cali1 up"},
		"uplink flapped":     {"link set eth0 down", "link set eth0 up"},
		"loopback flapped":   {"link set lo down", "link set lo up"},
		"link made anew":     {"link delete cali1", "link add cali1 type veth peer name pod1", "link set pod1 up", "link set cali1 up"},
		"IPv6 off and on":    {"sysctl cali1 1", "sysctl cali1 0"},
		"IPv6 of the uplink": {"sysctl eth0 1", "sysctl eth0 0"},
	} {
		for _, silent := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " silent ", silent), func(t *testing.T) { ipv6Repair(t, commands, silent) })
		}
	}
}

func ipv6Repair(t *testing.T, commands []string, silent bool) {
	h := newHost(t)
	if silent {
		h.Run("sysctl", "-qw", "net.ipv6.route.skip_notify_on_dev_down=1")
	}
	handle := h.open()
	wantRoutes := routes{
		prefix("2001:db8:1::1/128"): dev("cali1"), prefix("2001:db8:2::/64"): via("2001:db8::1"),
		prefix("2001:db8:3::/64"): via("2001:db8::1", "2001:db8::2"), prefix("2001:db8:1::/64"): blackhole(),
	}
	wantNeighbours := neighbours{neighbour("cali1", "2001:db8:1::1"): {MAC: "02:00:00:00:00:01"}}
	routeStep := reconcile.NewStep("routes", handle.Routes())
	neighbourStep := reconcile.NewStep("neighbours", handle.Neighbours())
	apply(t, routeStep, wantRoutes)
	apply(t, neighbourStep, wantNeighbours)
	before := h.all6() + h.permanent6()

	settle(t, h, handle)
	for _, command := range commands {
		if words := strings.Fields(command); words[0] == "sysctl" {
			h.Run("sysctl", "-qw", "net.ipv6.conf."+words[1]+".disable_ipv6="+words[2])
		} else {
			h.ip(command)
		}
	}
	if h.all6()+h.permanent6() == before {
		t.Fatal("the commands changed nothing")
	}
	repair(h, handle, routeTable{routeStep, wantRoutes}, neighbourTable{neighbourStep, wantNeighbours})
	equal(t, "repaired", before, h.all6()+h.permanent6())
}

// TestIPv6ForwardingKeepsTheDefaultRoute: the kernel takes what router advertisements gave away when it begins to
// forward, unless accept_ra is 2 by then.
func TestIPv6ForwardingKeepsTheDefaultRoute(t *testing.T) {
	const (
		forwarding = "net/ipv6/conf/all/forwarding"
		accept     = "net/ipv6/conf/eth0/accept_ra"
	)
	for name, c := range map[string]struct {
		want  sysctls
		stays bool
	}{
		"with accept_ra 2":    {sysctls{forwarding: "1", accept: "2", "net/ipv6/conf/cali1/forwarding": "1", "net/ipv6/conf/cali1/accept_ra": "0"}, true},
		"without accept_ra 2": {sysctls{forwarding: "1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.Run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=1", "net.ipv6.conf.all.forwarding=0")
			for _, dev := range []string{"eth0", "peer0"} { // for link-local addresses at once
				key := "net.ipv6.conf." + dev + "."
				h.Run("sysctl", "-qw", key+"disable_ipv6=1", key+"accept_dad=0", key+"disable_ipv6=0")
				for h.Run("ip", "-6", "address", "show", "dev", dev, "scope", "link", "-tentative") == "" {
				}
			}
			h.advertised("peer0")
			apply(t, reconcile.NewStep("sysctls", h.open().Sysctls()), c.want)
			for key, value := range c.want {
				equal(t, key, string(value), h.sysctl(key))
			}
			if stays := h.Run("ip", "-6", "route", "show", "default") != ""; stays != c.stays {
				t.Errorf("the default route is there: %v, want %v", stays, c.stays)
			}
			if c.stays { // and is learned again
				h.Run("ip", "-6", "route", "del", "default")
				h.advertised("peer0")
			}
		})
	}
}

// advertised waits until the host has taken a default route from an advertisement.
func (h host) advertised(device string) {
	h.t.Helper()
	for h.Run("ip", "-6", "route", "show", "default", "proto", "ra") == "" {
		if err := h.Do(func() error { return router.Advertise(device) }); err != nil {
			h.t.Fatal(err)
		}
	}
}

// A kernel without IPv6, or an interface with a small MTU, has no such files: that fails what needs them by
// name, and nothing else.
func TestIPv6SysctlsMissing(t *testing.T) {
	h := newHost(t)
	h.Run("ip", "link", "set", "cali2", "mtu", "1000")
	_, err := reconcile.NewStep("sysctls", h.open().Sysctls()).Apply(t.Context(), sysctls{
		"net/ipv4/ip_forward":             "1",
		"net/ipv6/conf/cali2/forwarding":  "1",
		"net/ipv6/conf/cali9/forwarding":  "1",
		"net/ipv6/conf/all/no_forwarding": "1",
	}, nil)
	if err == nil {
		t.Fatal("no error")
	}
	equal(t, "error", "write sysctls: read sysctl net/ipv6/conf/all/no_forwarding: no such file or directory; "+
		"read sysctl net/ipv6/conf/cali2/forwarding: no such file or directory", err.Error())
	equal(t, "ip_forward", "1", h.sysctl("net/ipv4/ip_forward"))
	if link := observe(t, h.open()).Links["cali2"]; link.IPv6 {
		t.Error("cali2 is observed to have IPv6")
	}
}

// What others do to IPv6 settings is noticed; what the kernel does to link-local addresses by itself is not.
func TestIPv6Notices(t *testing.T) {
	h := newHost(t)
	handle := h.open()
	comeUp(t, h, handle)
	for _, c := range []struct {
		command string
		noticed func(kernel.Notice) bool
	}{
		{"sysctl -qw net.ipv6.conf.all.forwarding=1", func(n kernel.Notice) bool { return n.TouchesSysctl("net/ipv6/conf/all/forwarding", "") }},
		{"sysctl -qw net.ipv6.conf.cali1.proxy_ndp=1", func(n kernel.Notice) bool { return n.TouchesSysctl("net/ipv6/conf/cali1/proxy_ndp", "") }},
		{"sysctl -qw net.ipv6.conf.cali1.disable_ipv6=1", func(n kernel.Notice) bool { return n.TouchesSysctl("net/ipv6/conf/cali1/disable_ipv6", "") }},
		{"ip address add 2001:db8::10/64 dev eth0 nodad", func(n kernel.Notice) bool { return n.Host() }},
		{"ip address del 2001:db8::10/64 dev eth0", func(n kernel.Notice) bool { return n.Host() }},
	} {
		h.Run(strings.Fields(c.command)...)
		wait(t, handle, c.noticed, func(kernel.Notice) {})
	}
	if n := settle(t, h, handle); n.TouchesRoute(prefix("2001:db8:1::/64"), via("2001:db8::1")) {
		t.Errorf("an address that went has flushed the link: %+v", n)
	}
	h.Run("ip", "address", "add", "fe80::1/64", "dev", "eth0", "nodad")
	if n := settle(t, h, handle); n.Host() {
		t.Errorf("a link-local address is noticed: %+v", n)
	}
}
