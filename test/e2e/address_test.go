// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"korat/test/lab"
)

// TestNodeAddress lets a node with two interfaces find its address.
func TestNodeAddress(t *testing.T) {
	w := cluster(t, 1)
	a := w.host("a")
	side, err := w.Lab.Switch(w.limit(), "side")
	if err != nil {
		t.Fatal(err)
	}
	d := w.member("d", "192.168.100.103/24", lab.Interface{Switch: side})

	// Another node holds the only address that there is.
	w.koratctl(a, "apply", "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: ghost}\nspec: {bgp: {ipv4Address: 192.168.100.103/24}}\n")
	agent := w.start(d)
	const held = `address 192.168.100.103 is held by node "ghost" in the datastore: delete that Node if it is gone, or give this node another address with --ip`
	w.notReady(d, held)
	w.refused(d, lab.PodConfig{Name: "d1"}, 11, held)
	if s, err := w.status(w.limit(), d); err != nil || !strings.Contains(strings.Join(s.Problems, "\n"), held) || len(s.Sessions) > 0 {
		t.Errorf("node status: %+v, %v", s, err)
	}
	if nodes := w.run(a, "koratctl get nodes -o name"); strings.Contains(nodes, "/d") {
		t.Errorf("the node has registered: %s", nodes)
	}
	w.run(a, "koratctl delete node ghost")
	w.ready(agent)
	w.hasAddress(d, "192.168.100.103/24")
	w.meshed(a, d)

	// The address stays, whatever else there is: now an interface that comes first.
	w.run(d, "ip address add 10.9.0.4/24 dev eth0")
	w.hasAddress(d, "192.168.100.103/24")
	before := w.sessionsOfPeers(d, a)
	w.stop(agent)
	agent = w.start(d)
	w.ready(agent)
	w.hasAddress(d, "192.168.100.103/24")
	w.meshed(a, d)
	if after := w.sessionsOfPeers(d, a); after != before {
		t.Errorf("the session was lost: before\n%s\nafter\n%s", before, after)
	}

	for _, tc := range []struct{ flag, want string }{
		{"--ip-autodetection-method=first-found", "10.9.0.4/24"},
		{"--ip-autodetection-method=interface=eth[1-9]", "192.168.100.103/24"},
		{"--ip-autodetection-method=skip-interface=eth1", "10.9.0.4/24"},
		{"--ip-autodetection-method=cidr=172.31.0.0/16,192.168.0.0/16", "192.168.100.103/24"},
		{"--ip-autodetection-method=can-reach=10.9.0.1", "10.9.0.4/24"},
		{"--ip-autodetection-method=can-reach=192.168.100.100", "192.168.100.103/24"},
		{"--ip=10.9.0.4", "10.9.0.4/24"},
	} {
		w.stop(agent)
		w.run(a, "koratctl delete node d")
		agent = w.start(d, tc.flag)
		w.ready(agent)
		w.hasAddress(d, tc.want)
	}

	for flag, why := range map[string]string{
		"--ip-autodetection-method=interface=eth9": "no address found by method interface=eth9 among eth0 10.9.0.4/24, eth1 192.168.100.103/24: " +
			"set the address with --ip, or another --ip-autodetection-method",
		"--ip-autodetection-method=cidr=10.8.0.0/16":    "no address found by method cidr=10.8.0.0/16 among eth0 10.9.0.4/24, eth1 192.168.100.103/24",
		"--ip-autodetection-method=can-reach=192.0.2.1": "method can-reach=192.0.2.1: ",
		"--ip=10.9.0.5": "address 10.9.0.5 given by --ip is on no running interface",
	} {
		w.stop(agent)
		w.try(a, "", "koratctl", "delete", "node", "d") // It is there only after a successful start.
		agent = w.start(d, flag)
		w.notReady(d, why)
	}
}

// hasAddress waits until a node says that its IPv4 address is this, and has registered it.
func (w *world) hasAddress(h *lab.Host, want string) {
	w.Helper()
	w.until(h.Name+" has the address "+want, func(ctx context.Context) error {
		s, err := w.status(ctx, h)
		if err != nil {
			return err
		}
		registered, err := h.Exec(ctx, "koratctl", "get", "node", h.Name, "-o", "yaml")
		if err == nil && (s.Address != want || !strings.Contains(registered, "ipv4Address: "+want+"\n")) {
			err = fmt.Errorf("status says %s, the datastore\n%s", s.Address, registered)
		}
		return err
	})
}

func (w *world) stop(agent *lab.Agent) {
	w.Helper()
	if err := agent.Stop(w.limit()); err != nil {
		w.Error(err)
	}
}

// TestNodeAddressesOfEachFamily starts a node with two interfaces with all that its IPv6 address may come from, and
// without either family.
func TestNodeAddressesOfEachFamily(t *testing.T) {
	w := hostsOf(t, lab.Dual, 2, "")
	a, b := w.host("a"), w.host("b")
	w.ready(w.start(a))
	w.run(b, "ip link add side0 type veth peer name side1")
	w.run(b, "ip link set side0 up")
	w.run(b, "ip link set side1 up")
	w.run(b, "ip address add fd00:9::9/64 dev side0 nodad")
	w.run(b, "ip address add fd00:9::8/64 dev side0 nodad preferred_lft 0") // comes before the other
	const v4, eth0, side0 = "192.168.100.101/24", "fd00:192:168::101/64", "fd00:9::9/64"
	agent := w.start(b)
	w.ready(agent)
	for _, tc := range []struct{ flags, want4, want6 string }{
		{"", v4, eth0},
		{"--ip6-autodetection-method=interface=side.", v4, side0},
		{"--ip6-autodetection-method=skip-interface=eth0", v4, side0},
		{"--ip6-autodetection-method=cidr=fd00:8::/64,fd00:9::/64", v4, side0},
		{"--ip6-autodetection-method=can-reach=fd00:9::1", v4, side0},
		{"--ip6-autodetection-method=can-reach=fd00:192:168::1", v4, eth0},
		{"--ip6=fd00:9::8", v4, "fd00:9::8/64"},
		{"--ip6=none", v4, ""},
		{"--ip=none", "", eth0},
	} {
		w.stop(agent)
		w.try(a, "", "koratctl", "delete", "node", "b")
		agent = w.start(b, strings.Fields(tc.flags)...)
		w.ready(agent)
		w.hasAddresses(b, tc.want4, tc.want6)
	}

	// What is registered stays, and a family that is switched off goes.
	for _, tc := range []struct{ flags, want4, want6 string }{
		{"--ip6-autodetection-method=interface=side0", v4, eth0},
		{"--ip6=none", v4, ""},
		{"--ip6-autodetection-method=interface=side0", v4, side0},
	} {
		w.stop(agent)
		agent = w.start(b, strings.Fields(tc.flags)...)
		w.ready(agent)
		w.hasAddresses(b, tc.want4, tc.want6)
	}
	w.run(b, "sysctl -qw net.ipv6.conf.side0.disable_ipv6=1")
	w.notReady(b, "address fd00:9::9, with which this node is registered, is on no interface")
	w.run(b, "sysctl -qw net.ipv6.conf.side0.disable_ipv6=0")
	w.run(b, "ip address add fd00:9::9/64 dev side0 nodad")
	w.ready(agent)
}

// hasAddresses waits until a node says that its addresses are these, and has registered them and no others.
func (w *world) hasAddresses(h *lab.Host, want4, want6 string) {
	w.Helper()
	w.until(fmt.Sprintf("%s has the addresses %q and %q", h.Name, want4, want6), func(ctx context.Context) error {
		s, err := w.status(ctx, h)
		if err != nil {
			return err
		}
		registered, err := h.Exec(ctx, "koratctl", "get", "node", h.Name, "-o", "yaml")
		if err != nil {
			return err
		}
		found := func(field, want string) bool {
			return strings.Contains(registered, field+": "+want+"\n") == (want != "") && strings.Contains(registered, field) == (want != "")
		}
		if s.Address != want4 || s.AddressIPv6 != want6 || !found("ipv4Address", want4) || !found("ipv6Address", want6) {
			return fmt.Errorf("status says %q and %q, the datastore\n%s", s.Address, s.AddressIPv6, registered)
		}
		return nil
	})
}
