// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"korat/test/lab"
)

// TestDriftIsRepaired changes what is korat's in a host's kernel behind the agent's back, one thing at a
// time, and holds that everything comes back and that nothing of others' goes away.
func TestDriftIsRepaired(t *testing.T) {
	w := cluster(t, 3)
	a, b := w.host("a"), w.host("b")
	a1, b1, c1 := w.pod(a, "a1"), w.pod(b, "b1"), w.pod(w.host("c"), "c1")
	w.matrix(w.places())
	cali := hostInterface(b1)
	names := strings.NewReplacer("POD", b1.Address().String(), "CALI", cali, "OWN", block(b1.Address()).String(),
		"LEARNED", block(a1.Address()).String(), "OTHER", block(c1.Address()).String())
	const foreign = `
		ip route add 203.0.113.0/24 via 192.168.100.102 proto static
		ip route add POD dev lo metric 77 proto static
		ip route add LEARNED via 192.168.100.102 metric 77
		ip route add table 99 POD dev lo
		ip neigh add 192.168.100.200 lladdr 02:00:00:00:00:77 dev eth0 nud permanent
		ip link add theirs type veth peer name theirs-too
		ip link set theirs-too up
		ip address add 198.51.100.1/24 dev theirs
		ip link set theirs up
		ip route add 198.51.100.128/25 dev theirs proto 76`
	w.commands(b, names.Replace(foreign))
	ours, err := w.ours(w.limit(), b, cali)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := w.theirs(w.limit(), b)
	if err != nil {
		t.Fatal(err)
	}

	cases := []struct{ name, commands string }{
		{"pod's route deleted", "ip route del POD"},
		{"learned route deleted", "ip route del LEARNED via 192.168.100.100"},
		{"blackhole deleted", "ip route del blackhole OWN"},
		{"gateway's route deleted", "ip route del 169.254.1.1"},
		{"all routes flushed", "ip route flush proto 75"},
		{"neighbour deleted", "ip neigh del POD dev CALI"},
		{"neighbour changed", "ip neigh replace POD lladdr 02:00:00:00:00:99 dev CALI nud permanent"},
		{"neighbour made ordinary", "ip neigh replace POD lladdr 02:00:00:00:00:99 dev CALI nud reachable"},
		{"pod's interface down", "ip link set CALI down"},
		{"pod's interface with another MTU", "ip link set CALI mtu 1300"},
		{"uplink flapped", "ip link set eth0 down\nip link set eth0 up\nip route add 203.0.113.0/24 via 192.168.100.102 proto static\n" +
			"ip route add LEARNED via 192.168.100.102 metric 77\nip neigh replace 192.168.100.200 lladdr 02:00:00:00:00:77 dev eth0 nud permanent"},
		{"pod's route replaced", "ip route replace POD dev lo proto static"},
		{"learned route replaced", "ip route replace LEARNED via 192.168.100.102 proto static"},
		{"learned route replaced under our number", "ip route replace LEARNED via 192.168.100.102 proto 75"},
		{"blackhole replaced", "ip route replace unreachable OWN"},
		{"another route before a pod's", "ip route prepend POD dev lo"},
		{"another route before a learned one", "ip route prepend LEARNED via 192.168.100.102\nip route prepend OTHER dev lo"},
		{"proxy_arp off", "sysctl -w net.ipv4.conf.CALI.proxy_arp=0"},
		{"forwarding off", "sysctl -w net.ipv4.conf.CALI.forwarding=0"},
		{"forwarding off everywhere", "sysctl -w net.ipv4.ip_forward=0"},
		{"rp_filter off", "sysctl -w net.ipv4.conf.CALI.rp_filter=0"},
	}
	for _, tc := range cases {
		w.commands(b, names.Replace(tc.commands))
		// Others' routes in the way of ours go; all that is elsewhere stays.
		w.until(tc.name+": repaired", func(ctx context.Context) error {
			have, err := w.ours(ctx, b, cali)
			if err == nil && have != ours {
				return fmt.Errorf("ours: have\n%s\nwant\n%s", have, ours)
			}
			if have, err = w.theirs(ctx, b); err == nil && have != theirs {
				return fmt.Errorf("theirs: have\n%s\nwant\n%s", have, theirs)
			}
			return err
		})
		for _, p := range []*lab.Pod{a1, c1} {
			if err := reach(w.limit(), p, b1.Address()); err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
		}
	}
	w.asksForGateway(b1)
}

// commands runs a command in each line.
func (w *world) commands(h *lab.Host, text string) {
	w.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			w.run(h, line)
		}
	}
}

// ours is what a host's kernel holds of korat's.
func (w *world) ours(ctx context.Context, h *lab.Host, cali string) (string, error) {
	conf := "net.ipv4.conf." + cali
	var all strings.Builder
	for _, command := range []string{
		"ip route show table all proto 75", "ip neigh show nud permanent dev " + cali, "ip -br link show dev " + cali, "ip link show dev " + cali,
		"sysctl net.ipv4.ip_forward " + conf + ".forwarding " + conf + ".proxy_arp " + conf + ".rp_filter net.ipv4.neigh." + cali + ".proxy_delay",
	} {
		out, err := h.Exec(ctx, strings.Fields(command)...)
		if err != nil {
			return "", err
		}
		all.WriteString("# " + command + "\n" + lines(out) + "\n")
	}
	return all.String(), nil
}

// theirs is what it holds of others': all routes but ours and those that the kernel made, and permanent
// neighbours.
func (w *world) theirs(ctx context.Context, h *lab.Host) (string, error) {
	var all strings.Builder
	for _, command := range []string{"ip -4 route show table all", "ip neigh show nud permanent dev eth0", "ip -4 -br address show dev theirs"} {
		out, err := h.Exec(ctx, strings.Fields(command)...)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(out) {
			if !strings.Contains(line, " proto 75") && !strings.Contains(line, " proto kernel ") {
				all.WriteString(line)
			}
		}
	}
	return lines(all.String()), nil
}
