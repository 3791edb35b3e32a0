// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"korat/test/lab"
)

// TestShapes holds what `ip` shows on hosts and in pods against what operators of Calico expect, on
// hosts without a default route (a, c) and with one (b).
func TestShapes(t *testing.T) {
	w := hosts(t, 3, "")
	a, b, c := w.host("a"), w.host("b"), w.host("c")
	w.run(b, "ip route add default via 192.168.100.102")
	if err := w.StartAgents(); err != nil {
		t.Fatal(err)
	}
	w.ready(w.Agents...)
	a1, a2, b1, b2, c1 := w.pod(a, "a1"), w.pod(a, "a2"), w.pod(b, "b1"), w.pod(b, "b2"), w.pod(c, "c1")
	w.meshed(a, b, c)

	pods := func(pods ...*lab.Pod) string {
		all := "blackhole " + block(pods[0].Address()).String() + " proto 75\n"
		for _, p := range pods {
			all += fmt.Sprintf("%s dev %s proto 75 scope link\n", p.Address(), hostInterface(p))
		}
		return all
	}
	via := func(p *lab.Pod) string {
		return fmt.Sprintf("%s via %s dev eth0 proto 75 onlink\n", block(p.Address()), p.Host.Address())
	}
	lan := func(h *lab.Host) string {
		return "192.168.100.0/24 dev eth0 proto kernel scope link src " + h.Address().String() + "\n"
	}
	const gateway = "169.254.1.1 dev eth0 proto 75 scope link\n"
	w.shows(a, "ip route", gateway+lan(a)+pods(a1, a2)+via(b1)+via(c1))
	w.shows(b, "ip route", "default via 192.168.100.102 dev eth0\n"+lan(b)+pods(b1, b2)+via(a1)+via(c1))
	w.shows(c, "ip route", gateway+lan(c)+pods(c1)+via(a1)+via(b1))

	for _, p := range []*lab.Pod{a1, b1, c1} {
		w.shows(p, "ip route", "default via 169.254.1.1 dev eth0\n169.254.1.1 dev eth0 scope link\n")
		if have := w.run(p, "ip -4 -br address show dev eth0"); !strings.HasSuffix(strings.TrimSpace(have), " "+p.Address().String()+"/32") {
			t.Errorf("%s: addresses %q, want %s/32", p.Name, have, p.Address())
		}
		iface := hostInterface(p)
		if have := w.run(p.Host, "ip link show "+iface); !strings.Contains(have, " mtu 1500 ") || !strings.Contains(have, "link/ether ee:ee:ee:ee:ee:ee ") {
			t.Errorf("%s: want MTU 1500 and ee:ee:ee:ee:ee:ee in\n%s", p.Name, have)
		}
		want := map[string]int{
			"net.ipv4.ip_forward":                      1,
			"net.ipv4.conf." + iface + ".forwarding":   1,
			"net.ipv4.conf." + iface + ".proxy_arp":    1,
			"net.ipv4.neigh." + iface + ".proxy_delay": 0,
			"net.ipv4.conf." + iface + ".rp_filter":    1,
		}
		for key, value := range want {
			w.shows(p.Host, "sysctl "+key, fmt.Sprintf("%s = %d\n", key, value))
		}
	}
	w.matrix(w.places())
	for _, p := range []*lab.Pod{a1, b1, c1} {
		w.asksForGateway(p)
	}

	// A default route that comes and goes takes the route to the gateway away and brings it back.
	w.run(a, "ip route add default via 192.168.100.101")
	w.shows(a, "ip route", "default via 192.168.100.101 dev eth0\n"+lan(a)+pods(a1, a2)+via(b1)+via(c1))
	w.asksForGateway(a1)
	w.run(a, "ip route del default")
	w.shows(a, "ip route", gateway+lan(a)+pods(a1, a2)+via(b1)+via(c1))
	w.asksForGateway(a1)

	// What the plugin made it takes away again.
	if err := a2.Delete(w.limit()); err != nil {
		t.Fatal(err)
	}
	w.shows(a, "ip route", gateway+lan(a)+pods(a1)+via(b1)+via(c1))
	if have := w.run(a, "ip neigh show nud permanent"); strings.Contains(have, a2.Address().String()+" ") {
		t.Errorf("neighbour left:\n%s", have)
	}
}

// shows waits until a command prints just these lines, in any order.
func (w *world) shows(where lab.Runner, command, want string) {
	w.Helper()
	w.until(fmt.Sprintf("%q shows as expected", command), func(ctx context.Context) error {
		have, err := where.Exec(ctx, strings.Fields(command)...)
		if err == nil && lines(have) != lines(want) {
			err = fmt.Errorf("have\n%s\nwant\n%s", lines(have), lines(want))
		}
		return err
	})
}

// asksForGateway has a pod forget its gateway and resolve it again: one ARP request has to do, and the
// first packet has to get through.
func (w *world) asksForGateway(p *lab.Pod) {
	w.Helper()
	w.run(p, "ip neigh flush dev eth0")
	w.run(p, "ping -n -c 1 -W 2 "+p.Host.Address().String())
	if have := w.run(p, "ip neigh show 169.254.1.1"); !strings.HasPrefix(have, "169.254.1.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee ") {
		w.Errorf("%s: neighbours %q", p.Name, have)
	}
}
