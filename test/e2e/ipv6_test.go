// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"korat/test/lab"
	"korat/test/netns/router"
)

const (
	// gateway6 is the host's side of every pod's pair, with the link-local address of ee:ee:ee:ee:ee:ee.
	gateway6 = "fe80::ecee:eeff:feee:eeee"
	// shown6 is what ip shows of every route with the default metric.
	shown6 = " metric 1024 pref medium\n"
)

// TestDualStackShapes holds what `ip` shows of IPv6 on hosts and in pods against what operators of Calico
// expect. What it shows of IPv4 is as without IPv6.
func TestDualStackShapes(t *testing.T) {
	w := clusterOf(t, lab.Dual, 3)
	a, b, c := w.host("a"), w.host("b"), w.host("c")
	a1, a2, b1, c1 := w.pod(a, "a1"), w.pod(a, "a2"), w.pod(b, "b1"), w.pod(c, "c1")

	w.shows(a, "ip -6 route", local6(a, a1, a2)+pods6(a1, a2)+via6(b1)+via6(c1))
	w.shows(b, "ip -6 route", local6(b, b1)+pods6(b1)+via6(a1)+via6(c1))
	w.shows(a, "ip -6 neigh show nud permanent", w.neighbours6(a1, a2))
	w.shows(b, "ip -4 route show proto 75", fmt.Sprintf("169.254.1.1 dev eth0 scope link\nblackhole %s\n%s dev %s scope link\n%s via %s dev eth0 onlink\n%s via %s dev eth0 onlink\n",
		block(b1.Address()), b1.Address(), hostInterface(b1), block(a1.Address()), a.Address(), block(c1.Address()), c.Address()))
	for _, p := range []*lab.Pod{a1, b1, c1} {
		w.podShapes6(p)
	}
	w.shows(a, "sysctl net.ipv6.conf.all.forwarding net.ipv6.conf.eth0.accept_ra", "net.ipv6.conf.all.forwarding = 1\nnet.ipv6.conf.eth0.accept_ra = 2\n")
	w.matrix(w.places())

	// The gateway is the host itself, and answers.
	w.run(a1, "ping -n -c 1 -W 2 -I eth0 "+gateway6)

	// What the plugin made it takes away again.
	if err := a2.Delete(w.limit()); err != nil {
		t.Fatal(err)
	}
	w.shows(a, "ip -6 route", local6(a, a1)+pods6(a1)+via6(b1)+via6(c1))
	w.shows(a, "ip -6 neigh show nud permanent", w.neighbours6(a1))
}

// local6 are the routes that the kernel makes on a host.
func local6(h *lab.Host, pods ...*lab.Pod) string {
	const kernel = " proto kernel metric 256 pref medium\n"
	all := "fe80::/64 dev eth0" + kernel
	for _, p := range pods {
		all += "fe80::/64 dev " + hostInterface(p) + kernel
	}
	if addr := lab.IPv6Of(h); addr.IsValid() {
		all += "fd00:192:168::/64 dev eth0" + kernel
	}
	return all
}

// pods6 are a host's routes to its own block and pods.
func pods6(pods ...*lab.Pod) string {
	all := "blackhole " + block(lab.IPv6Of(pods[0])).String() + " dev lo proto 75" + shown6
	for _, p := range pods {
		all += fmt.Sprintf("%s dev %s proto 75", lab.IPv6Of(p), hostInterface(p)) + shown6
	}
	return all
}

// via6 is another host's route to a pod's block.
func via6(p *lab.Pod) string {
	return fmt.Sprintf("%s via %s dev eth0 proto 75 metric 1024 onlink pref medium\n", block(lab.IPv6Of(p)), lab.IPv6Of(p.Host))
}

// neighbours6 are a host's permanent IPv6 neighbours.
func (w *world) neighbours6(pods ...*lab.Pod) string {
	w.Helper()
	all := ""
	for _, p := range pods {
		mac := strings.Fields(w.run(p, "ip -br link show dev eth0"))[2]
		all += fmt.Sprintf("%s dev %s lladdr %s PERMANENT proto 75\n", lab.IPv6Of(p), hostInterface(p), mac)
	}
	return all
}

// podShapes6 are what a pod has of IPv6, and the settings of its host's side.
func (w *world) podShapes6(p *lab.Pod) {
	w.Helper()
	addr := lab.IPv6Of(p)
	w.shows(p, "ip -6 route", addr.String()+" dev eth0 proto kernel metric 256 pref medium\n"+
		"fe80::/64 dev eth0 proto kernel metric 256 pref medium\n"+
		gateway6+" dev eth0"+shown6+"default via "+gateway6+" dev eth0"+shown6)
	w.shows(p, "ip -6 neigh show nud permanent", gateway6+" dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT\n")
	if have := w.run(p, "ip -6 -o address show dev eth0 scope global"); !strings.Contains(have, " "+addr.String()+"/128 ") || strings.Contains(have, "tentative") {
		w.Errorf("%s: addresses %q, want %s/128, and not tentative", p.Name, have, addr)
	}
	conf := "net.ipv6.conf." + hostInterface(p) + "."
	w.shows(p.Host, "sysctl "+conf+"forwarding "+conf+"proxy_ndp "+conf+"accept_ra "+conf+"accept_dad "+conf+"disable_ipv6",
		conf+"forwarding = 1\n"+conf+"proxy_ndp = 1\n"+conf+"accept_ra = 0\n"+conf+"accept_dad = 0\n"+conf+"disable_ipv6 = 0\n")
}

// TestIPv6Only has hosts without any IPv4 address: agents, datastore, sessions and pods are of IPv6.
func TestIPv6Only(t *testing.T) {
	w := clusterOf(t, lab.IPv6, 2)
	a, b := w.host("a"), w.host("b")
	a1, b1 := w.pod(a, "a1"), w.pod(b, "b1")
	w.shows(a, "ip -6 route", local6(a, a1)+pods6(a1)+via6(b1))
	w.shows(a, "ip -4 route", "")
	w.podShapes6(a1)
	for _, p := range []*lab.Pod{a1, b1} {
		if all := p.Addresses(); len(all) != 1 || all[0].Is4() {
			t.Errorf("%s has addresses %v", p.Name, all)
		}
	}
	w.matrix(w.places())

	m := w.monitor(b)
	if err := w.Agents[1].Kill(); err != nil {
		t.Fatal(err)
	}
	w.ready(w.start(b))
	w.meshed(a, b)
	if changes := w.changes(m); len(changes) > 0 {
		t.Errorf("the agent's death and restart changed the kernel:\n%s", strings.Join(changes, "\n"))
	}
	w.matrix(w.places())
}

// TestIPv6DriftIsRepaired changes what is korat's of IPv6 behind the agent's back. The kernel takes all
// IPv6 routes, permanent neighbours and addresses of a link that goes down away.
func TestIPv6DriftIsRepaired(t *testing.T) {
	w := clusterOf(t, lab.Dual, 2)
	a, b := w.host("a"), w.host("b")
	a1, b1 := w.pod(a, "a1"), w.pod(b, "b1")
	w.matrix(w.places())
	names := strings.NewReplacer("POD", lab.IPv6Of(b1).String(), "CALI", hostInterface(b1), "OWN", block(lab.IPv6Of(b1)).String(),
		"LEARNED", block(lab.IPv6Of(a1)).String(), "HOST", lab.IPv6Of(b).String())
	ours := func(ctx context.Context) (string, error) {
		var all strings.Builder
		for _, command := range []string{
			"ip -6 route show table all proto 75", "ip -6 neigh show nud permanent dev CALI", "ip -6 -o address show dev CALI",
			"sysctl net.ipv6.conf.all.forwarding net.ipv6.conf.CALI.forwarding net.ipv6.conf.CALI.proxy_ndp net.ipv6.conf.CALI.disable_ipv6",
		} {
			out, err := b.Exec(ctx, strings.Fields(names.Replace(command))...)
			if err != nil {
				return "", err
			}
			all.WriteString("# " + command + "\n" + lines(out) + "\n")
		}
		return all.String(), nil
	}
	before, err := ours(w.limit())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, commands string }{
		{"pod's route deleted", "ip -6 route del POD"},
		{"learned route deleted", "ip -6 route del LEARNED"},
		{"blackhole deleted", "ip -6 route del blackhole OWN"},
		{"all routes flushed", "ip -6 route flush proto 75"},
		{"neighbour deleted", "ip -6 neigh del POD dev CALI"},
		{"neighbour changed", "ip -6 neigh replace POD lladdr 02:00:00:00:00:99 dev CALI nud permanent"},
		{"pod's interface down", "ip link set CALI down"},
		{"pod's interface flapped", "ip link set CALI down\nip link set CALI up"},
		{"uplink flapped", "ip link set eth0 down\nip link set eth0 up\nip address add HOST/64 dev eth0 nodad"},
		{"loopback flapped", "ip link set lo down\nip link set lo up"},
		{"learned route replaced", "ip -6 route replace LEARNED via fd00:192:168::77 dev eth0 proto static"},
		{"learned route joined", "ip -6 route append LEARNED via fd00:192:168::77 dev eth0 proto static"},
		{"pod's route replaced", "ip -6 route replace POD dev lo proto static"},
		{"IPv6 switched off for the pod", "sysctl -w net.ipv6.conf.CALI.disable_ipv6=1"},
		{"forwarding off", "sysctl -w net.ipv6.conf.CALI.forwarding=0"},
		{"proxy_ndp off", "sysctl -w net.ipv6.conf.CALI.proxy_ndp=0"},
		{"forwarding off everywhere", "sysctl -w net.ipv6.conf.all.forwarding=0"},
	} {
		w.commands(b, names.Replace(tc.commands))
		w.until(tc.name+": repaired", func(ctx context.Context) error {
			have, err := ours(ctx)
			if err == nil && have != before {
				err = fmt.Errorf("have\n%s\nwant\n%s", have, before)
			}
			return err
		})
		for _, addr := range b1.Addresses() {
			if err := reach(w.limit(), a1, addr); err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
		}
	}
}

// TestRouterAdvertisements: a host that has its IPv6 default route from a router keeps it when it begins to
// forward, and goes on hearing the router.
func TestRouterAdvertisements(t *testing.T) {
	w := hostsOf(t, lab.Dual, 1, "")
	a := w.host("a")
	r, err := w.Host(w.limit(), lab.HostConfig{Name: "r", Router: true, Interfaces: []lab.Interface{{Switch: w.Switch, IPv6: netip.MustParsePrefix("fd00:192:168::1/64")}}})
	if err != nil {
		t.Fatal(err)
	}
	advertised := func() {
		w.until("the advertised default route", func(ctx context.Context) error {
			if err := r.Inside(func() error { return router.Advertise("eth0") }); err != nil {
				return err
			}
			out, err := a.Exec(ctx, "ip", "-6", "route", "show", "default", "proto", "ra")
			if err == nil && out == "" {
				err = errors.New("none yet")
			}
			return err
		})
	}
	advertised()
	w.shows(a, "sysctl net.ipv6.conf.eth0.accept_ra", "net.ipv6.conf.eth0.accept_ra = 1\n")
	m := w.monitor(a)
	agent := w.start(a)
	w.ready(agent)
	w.settled(a)
	w.pod(a, "a1")
	w.shows(a, "sysctl net.ipv6.conf.eth0.accept_ra net.ipv6.conf.all.forwarding", "net.ipv6.conf.eth0.accept_ra = 2\nnet.ipv6.conf.all.forwarding = 1\n")
	for _, change := range w.changes(m) {
		if strings.Contains(change, "Deleted default ") {
			t.Errorf("the default route was gone for a while: %s", change)
		}
	}
	if have := w.run(a, "ip -6 route show default proto ra"); have == "" {
		t.Error("the default route is gone")
	}
	w.run(a, "ip -6 route del default")
	advertised()
}
