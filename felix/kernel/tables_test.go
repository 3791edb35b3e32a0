// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
)

func neighbour(device, address string) dataplane.NeighbourKey {
	return dataplane.NeighbourKey{Device: device, Address: netip.MustParseAddr(address)}
}

func (h host) permanent() string {
	h.t.Helper()
	return trim(h.Run("ip", "neigh", "show", "nud", "permanent"))
}

func TestNeighbours(t *testing.T) {
	h := newHost(t)
	h.Batch(
		"neigh add 192.0.2.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
		"neigh add 10.0.0.9 lladdr 02:00:00:00:00:99 dev cali1 nud permanent",
		"neigh add 10.0.0.8 lladdr 02:00:00:00:00:99 dev cali1 nud reachable",
	)
	handle := h.open()
	step := reconcile.NewStep("neighbours", handle.Neighbours())
	want := neighbours{
		neighbour("cali1", "10.0.0.1"):    {MAC: "02:00:00:00:00:01"},
		neighbour("cali2", "10.0.0.2"):    {MAC: "02:00:00:00:00:02"},
		neighbour("cali2", "2001:db8::2"): {MAC: "02:00:00:00:00:02"},
		neighbour("cali1", "10.0.0.8"):    {MAC: "02:00:00:00:00:08"}, // another's is taken over
	}
	const others = "192.0.2.99 dev eth0 lladdr 02:00:00:00:00:99 PERMANENT\n10.0.0.9 dev cali1 lladdr 02:00:00:00:00:99 PERMANENT\n"
	equal(t, "first", reconcile.Result{Read: true, Set: 4}, apply(t, step, want))
	equal(t, "ip neigh", sorted(others+`10.0.0.1 dev cali1 lladdr 02:00:00:00:00:01 PERMANENT proto 75
10.0.0.2 dev cali2 lladdr 02:00:00:00:00:02 PERMANENT proto 75
10.0.0.8 dev cali1 lladdr 02:00:00:00:00:08 PERMANENT proto 75
2001:db8::2 dev cali2 lladdr 02:00:00:00:00:02 PERMANENT proto 75
`), sorted(h.permanent()))

	fresh := h.open()
	step = reconcile.NewStep("neighbours", fresh.Neighbours())
	equal(t, "a fresh handle knows its own", reconcile.Result{Read: true}, apply(t, step, want))
	want = neighbours{neighbour("cali1", "10.0.0.1"): {MAC: "02:00:00:00:00:11"}}
	equal(t, "changed", reconcile.Result{Set: 1, Deleted: 3}, apply(t, step, want))
	equal(t, "ip neigh", sorted(others+"10.0.0.1 dev cali1 lladdr 02:00:00:00:00:11 PERMANENT proto 75\n"), sorted(h.permanent()))
	equal(t, "writes", kernel.Writes{Neighbours: 4}, fresh.Writes())

	for _, command := range []string{
		"neigh delete 10.0.0.1 dev cali1",
		"neigh replace 10.0.0.1 lladdr 02:00:00:00:00:ee dev cali1 nud permanent",
	} {
		h.Batch(command)
		changed := func(n kernel.Notice) bool { return n.Neighbours[neighbour("cali1", "10.0.0.1")] } // not a late one of its link
		wait(t, fresh, changed, func(n kernel.Notice) { step.Touch(n.TouchesNeighbour) })
		equal(t, command, reconcile.Result{Set: 1}, apply(t, step, want))
		equal(t, "ip neigh", sorted(others+"10.0.0.1 dev cali1 lladdr 02:00:00:00:00:11 PERMANENT proto 75\n"), sorted(h.permanent()))
	}
	equal(t, "deleted", reconcile.Result{Deleted: 1}, apply(t, step, nil))
	equal(t, "ip neigh", sorted(others), sorted(h.permanent()))
}

func TestNeighboursErrors(t *testing.T) {
	h := newHost(t)
	table := h.open().Neighbours()
	err := table.Write(t.Context(), reconcile.Diff[dataplane.NeighbourKey, dataplane.Neighbour]{
		Set: neighbours{
			neighbour("cali1", "10.0.0.1"): {MAC: "02:00:00:00:00:01"},
			neighbour("cali9", "10.0.0.2"): {MAC: "02:00:00:00:00:02"},
			neighbour("cali2", "10.0.0.3"): {MAC: "two"},
		},
		Delete: neighbours{neighbour("cali1", "10.0.0.4"): {}, neighbour("cali9", "10.0.0.5"): {}},
	})
	const want = `set 10.0.0.2 dev cali9 lladdr 02:00:00:00:00:02: no such device; set 10.0.0.3 dev cali2 lladdr two: "two" is not a MAC address`
	if err == nil || err.Error() != want {
		t.Errorf("have %v\nwant %s", err, want)
	}
	equal(t, "ip neigh", "10.0.0.1 dev cali1 lladdr 02:00:00:00:00:01 PERMANENT proto 75\n", h.permanent())
}

func TestLinks(t *testing.T) {
	h := newHost(t)
	h.Run("ip", "link", "set", "cali2", "down", "mtu", "1300", "group", "0x7fffffff")
	handle := h.open()
	table := handle.Links()
	have, err := table.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "read", links{"cali1": {Up: true, MTU: 1500}, "cali2": {MTU: 1300, Group: 0x7fffffff}}, have)

	step := reconcile.NewStep("links", table)
	want := links{"cali1": {Up: true, MTU: 1450, Group: 0x1a2b3c4d}, "cali2": {Up: true}, "cali9": {Up: true, MTU: 1450}}
	equal(t, "first", reconcile.Result{Read: true, Set: 3}, apply(t, step, want))
	have, err = table.ReadEntries(t.Context(), []string{"cali1", "cali2", "cali9"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "entries", links{"cali1": {Up: true, MTU: 1450, Group: 0x1a2b3c4d}, "cali2": {Up: true, MTU: 1300}}, have)
	if out := h.Run("ip", "link"); strings.Contains(out, "cali9") {
		t.Errorf("a link was made:\n%s", out)
	}

	// A link is touched, and then one appears.
	writes := handle.Writes().Links
	h.Batch("link set cali1 mtu 1400", "link set cali1 mtu 1450", "link add cali9 type veth peer name pod9")
	wait(t, handle, func(n kernel.Notice) bool { return n.TouchesLink("cali9", dataplane.Link{}) },
		func(n kernel.Notice) { step.Touch(n.TouchesLink) })
	equal(t, "touched", reconcile.Result{Set: 1}, apply(t, step, want))
	equal(t, "writes", writes+1, handle.Writes().Links)
	have, err = table.ReadEntries(t.Context(), []string{"cali9"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "entries", links{"cali9": {Up: true, MTU: 1450}}, have)
	equal(t, "deletion does nothing", reconcile.Result{Deleted: 3}, apply(t, step, nil))
	have, err = table.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "read", 3, len(have))
}

// That a link has the group that we gave it is no news; what others do to it is, and so is what else has changed.
func TestOwnGroupsAreNotNoticed(t *testing.T) {
	h := newHost(t)
	handle := h.open()
	set := func(l dataplane.Link) {
		t.Helper()
		err := handle.Links().Write(t.Context(), reconcile.Diff[string, dataplane.Link]{Set: links{"cali1": l, "cali9": l}})
		if err != nil {
			t.Fatal(err)
		}
	}
	comeUp(t, h, handle)
	for i, c := range []struct {
		change  func()
		noticed bool
	}{
		{func() { set(dataplane.Link{Up: true, Group: 7}) }, false},
		{func() { set(dataplane.Link{Up: true, Group: 8}) }, false},
		{func() { h.Run("ip", "link", "set", "cali1", "group", "8") }, true}, // which may have been another meanwhile
		{func() { h.Run("ip", "link", "set", "cali1", "group", "7") }, true},
		{func() { set(dataplane.Link{Up: true, Group: 0}) }, false},
		{func() { set(dataplane.Link{Up: true, Group: 9, MTU: 1400}) }, true},
		{func() { set(dataplane.Link{Group: 10}) }, true},
	} {
		c.change()
		n := settle(t, h, handle)
		if n.TouchesLink("cali1", dataplane.Link{}) != c.noticed {
			t.Errorf("%d: noticed %v", i, n.Links)
		}
	}
	h.Run("ip", "link", "add", "cali9", "group", "10", "type", "veth", "peer", "name", "pod9")
	if n := settle(t, h, handle); !n.TouchesLink("cali9", dataplane.Link{}) {
		t.Errorf("a link of a group that was written to none of its name: noticed %v", n.Links)
	}
}

func TestLinksErrors(t *testing.T) {
	h := newHost(t)
	err := h.open().Links().Write(t.Context(), reconcile.Diff[string, dataplane.Link]{
		Set: links{"cali1": {Up: true, MTU: 1}, "cali2": {Up: true, MTU: 1400}},
	})
	const want = "set cali1 up mtu 1: invalid argument (mtu less than device minimum)"
	if err == nil || err.Error() != want {
		t.Errorf("have %v, want %s", err, want)
	}
}

func (h host) sysctl(key string) string {
	h.t.Helper()
	return strings.TrimSpace(h.Run("cat", "/proc/sys/"+key))
}

func TestSysctls(t *testing.T) {
	h := newHost(t)
	handle := h.open()
	table := handle.Sysctls()
	have, err := table.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "a table that knows nothing", sysctls{}, have)

	const conf = "net/ipv4/conf/cali1/"
	step := reconcile.NewStep("sysctls", table)
	want := sysctls{
		"net/ipv4/ip_forward": "1", conf + "proxy_arp": "1", conf + "rp_filter": "1", conf + "forwarding": "1",
		"net/ipv4/neigh/cali1/proxy_delay": "0", "net/ipv4/ip_local_port_range": "20000 30000",
		"net/ipv4/conf/cali9/proxy_arp": "1",
	}
	equal(t, "first", reconcile.Result{Read: true, Set: 7}, apply(t, step, want))
	for key, value := range want {
		if key == "net/ipv4/conf/cali9/proxy_arp" {
			continue
		}
		if have := strings.Join(strings.Fields(h.sysctl(key)), " "); have != string(value) {
			t.Errorf("%s: have %q, want %q", key, have, value)
		}
	}
	// Forwarding of an interface that exists follows ip_forward, which is written before.
	equal(t, "writes", kernel.Writes{Sysctls: 5}, handle.Writes())

	fresh := h.open()
	restarted := reconcile.NewStep("sysctls", fresh.Sysctls())
	apply(t, restarted, want)
	equal(t, "writes after a restart", kernel.Writes{}, fresh.Writes())

	// Somebody else changes one, and an interface appears.
	h.Run("sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward")
	h.Batch("link add cali9 type veth peer name pod9")
	wait(t, handle, func(n kernel.Notice) bool { return n.TouchesSysctl("net/ipv4/conf/cali9/proxy_arp", "") },
		func(n kernel.Notice) { step.Touch(n.TouchesSysctl) })
	r := apply(t, step, want)
	if r.Read || r.Set < 2 {
		t.Errorf("have %+v", r)
	}
	equal(t, "ip_forward", "1", h.sysctl("net/ipv4/ip_forward"))
	equal(t, "proxy_arp", "1", h.sysctl("net/ipv4/conf/cali9/proxy_arp"))

	h.Run("ip", "link", "delete", "cali1")
	step.Invalidate()
	equal(t, "an interface goes, its entries not yet", reconcile.Result{Read: true, Set: 4}, apply(t, step, want))
	equal(t, "deleted", reconcile.Result{Deleted: 7}, apply(t, step, nil))
	equal(t, "what is no longer wanted stays as it is", "1", h.sysctl("net/ipv4/ip_forward"))
}

func TestSysctlsErrors(t *testing.T) {
	h := newHost(t)
	err := h.open().Sysctls().Write(t.Context(), reconcile.Diff[string, dataplane.SysctlValue]{Set: sysctls{
		"net/ipv4/ip_forward":            "1",
		"net/ipv4/no_such":               "1",
		"net/ipv4/conf/cali1/no_such":    "1",
		"net/ipv4/../../kernel/hostname": "pod",
		"net/ipv4/conf/cali1/rp_filter":  "loose",
	}})
	const want = `read sysctl net/ipv4/conf/cali1/no_such: no such file or directory; ` +
		`read sysctl net/ipv4/no_such: no such file or directory; ` +
		`set sysctl net/ipv4/conf/cali1/rp_filter to "loose": invalid argument; ` +
		`sysctl "net/ipv4/../../kernel/hostname": not a path below /proc/sys/`
	if err == nil || err.Error() != want {
		t.Errorf("have %v\nwant %s", err, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the error is not that a file is missing")
	}
	equal(t, "the good one", "1", h.sysctl("net/ipv4/ip_forward"))
}
