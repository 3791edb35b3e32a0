// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/reconcile"
	"korat/felix/reconcile/reconciletest"
)

func TestReadyWaitsForTheRoute(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	ep, err := n.ask(request("c1", "web"))
	if err != nil {
		t.Fatal(err)
	}
	w.kernel.addLink(ep.Interface, dataplane.HostLink{Index: 100})
	type outcome struct {
		err    error
		routed bool
	}
	answered := make(chan outcome, 1)
	go func() {
		err := n.ready(ep.ID)
		answered <- outcome{err, w.hasRoute(ep.Addresses[0].String() + "/32 dev " + ep.Interface)}
	}()
	w.until("the interface is set up", func() bool { return w.links.Dump() != "" })
	w.kernel.addLink(ep.Interface, dataplane.HostLink{Index: 100, Up: true, Running: true})
	if have := <-answered; have.err != nil || !have.routed {
		t.Errorf("READY: %v, route there %t", have.err, have.routed)
	}
}

// The pair of a repeated ADD is made anew; the kernel took the route away with the first one, and the
// notice of that has not been heard yet.
func TestReadyOfAPairMadeAnew(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	ep := n.attach("web")
	n.untilReady()
	if _, err := n.ask(request(ep.ContainerID, ep.Pod)); err != nil {
		t.Fatal(err)
	}
	w.kernel.change(func(k *fakeKernel) {
		k.host.Links[ep.Interface] = dataplane.HostLink{Index: 200, Up: true, Running: true}
	})
	w.routes.Change(func(r *reconciletest.Table[dataplane.RouteKey, dataplane.Route]) {
		delete(r.Have, dataplane.RouteKey{Prefix: netip.PrefixFrom(ep.Addresses[0], 32)})
	})
	if err := n.ready(ep.ID); err != nil || !w.hasRoute(ep.Addresses[0].String()+"/32") {
		t.Errorf("READY: %v, routes:\n%s", err, w.routes.Dump())
	}
}

// What fails for one pod, for no pod and for every pod.
func TestFailureOfAPod(t *testing.T) {
	ep := endpoint.Endpoint{Interface: "cali1", Addresses: []netip.Addr{netip.MustParseAddr("172.17.8.2")}}
	bad := errors.New("bad")
	named := func(keys ...string) error {
		var e reconcile.WriteError[string]
		for _, k := range keys {
			e.Fail(k, bad)
		}
		return fmt.Errorf("step: %w", e.Err())
	}
	route := func(prefix string) error {
		var e reconcile.WriteError[dataplane.RouteKey]
		e.Fail(dataplane.RouteKey{Prefix: netip.MustParsePrefix(prefix)}, bad)
		return fmt.Errorf("step: %w", e.Err())
	}
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"nothing", nil, false},
		{"its link", named("cali1"), true},
		{"another's link", named("cali12"), false},
		{"its sysctl", named("net/ipv4/conf/cali1/proxy_arp"), true},
		{"its neighbour sysctl", named("net/ipv4/neigh/cali1/proxy_delay"), true},
		{"another's sysctls", named("net/ipv4/conf/cali12/proxy_arp", "net/ipv4/neigh/cali12/proxy_delay"), false},
		{"forwarding", named("net/ipv4/ip_forward"), true},
		{"IPv6's forwarding", named("net/ipv6/conf/all/forwarding"), false},
		{"the uplink's", named("net/ipv6/conf/eth0/accept_ra"), false},
		{"its route", route("172.17.8.2/32"), true},
		{"another route", route("172.17.9.0/24"), false},
		{"a whole table", errors.New("step routes: read routes: no buffer space"), true},
	} {
		if have := failure(&ep, errors.Join(c.err)); have != nil != c.want {
			t.Errorf("%s: %v", c.name, have)
		}
	}
	ep.Addresses = []netip.Addr{netip.MustParseAddr("fd00::2")}
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"its IPv6 sysctl", named("net/ipv6/conf/cali1/proxy_ndp"), true},
		{"IPv6's forwarding", named("net/ipv6/conf/all/forwarding"), true},
		{"IPv4's forwarding", named("net/ipv4/ip_forward"), false},
		{"the uplink's", named("net/ipv6/conf/eth0/accept_ra"), false},
		{"its IPv6 route", route("fd00::2/128"), true},
		{"another IPv6 route", route("fd00::/122"), false},
	} {
		if have := failure(&ep, c.err); have != nil != c.want {
			t.Errorf("IPv6 pod, %s: %v", c.name, have)
		}
	}
	if err := failure(nil, named("net/ipv4/ip_forward")); err != nil {
		t.Errorf("DEL: %v", err)
	}
}

// Should the record contradict itself, two pods have one address.
func TestTheYoungerOfTwoWithOneAddressIsNotReady(t *testing.T) {
	first := endpoint.Endpoint{Interface: "cali1", Addresses: []netip.Addr{netip.MustParseAddr("172.17.8.2")}}
	second := first
	second.Interface = "cali2"
	want := map[dataplane.RouteKey]dataplane.Route{
		{Prefix: netip.MustParsePrefix("172.17.8.2/32")}: {NextHops: []dataplane.NextHop{{Device: "cali1"}}},
	}
	if err := unrouted(&first, want); err != nil {
		t.Error(err)
	}
	if unrouted(&second, want) == nil {
		t.Error("the younger is taken to be routed")
	}
	if err := unrouted(nil, nil); err != nil {
		t.Error(err)
	}
}
