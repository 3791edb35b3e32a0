// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"korat/felix/endpoint"
	"korat/test/netns"
)

func pairIn(netNS string) Pair {
	return Pair{
		ID:        endpoint.ID{ContainerID: "c1", IfName: "eth0"},
		Namespace: "default",
		Pod:       "web",
		NetNS:     netNS,
		Interface: "cali0123456789a",
		MTU:       1400,
		Addresses: addresses("10.65.0.2"),
	}
}

func create(t *testing.T, want Pair) Made {
	t.Helper()
	made, err := Create(want)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func wantText(t *testing.T, have, want string) {
	t.Helper()
	if strings.TrimSpace(have) != strings.TrimSpace(want) {
		t.Errorf("have\n%s\nwant\n%s", have, want)
	}
}

// noIndexes blanks what differs from run to run: indexes, the pod's MAC, namespace IDs.
func noIndexes(s string) string {
	s = regexp.MustCompile(`(?m)^\d+: `).ReplaceAllString(s, "")
	s = regexp.MustCompile(`@if\d+`).ReplaceAllString(s, "@peer")
	s = regexp.MustCompile(`link-netnsid \d+ *`).ReplaceAllString(s, "")
	return regexp.MustCompile(` +\n`).ReplaceAllString(s, "\n")
}

func TestCreate(t *testing.T) {
	netns.Enter(t)
	pod := netns.NewPod(t)
	made := create(t, pairIn(pod))
	if !made.New {
		t.Error("have an old pair, want a new one")
	}
	if !regexp.MustCompile(`^.[26ae](:[0-9a-f]{2}){5}$`).MatchString(made.MAC) {
		t.Errorf("MAC %s is not a locally administered unicast one", made.MAC)
	}
	untilUp(t, pod)
	wantText(t, noIndexes(netns.Run(t, "ip link show cali0123456789a")), `
cali0123456789a@peer: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1400 qdisc noqueue state UP mode DEFAULT group default qlen 1000
    link/ether ee:ee:ee:ee:ee:ee brd ff:ff:ff:ff:ff:ff
    alias korat default/web c1/eth0 10.65.0.2`)
	wantText(t, noIndexes(netns.InPod(t, pod, "ip link show")), `
lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
eth0@peer: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1400 qdisc noqueue state UP mode DEFAULT group default qlen 1000
    link/ether `+made.MAC+` brd ff:ff:ff:ff:ff:ff`)
	wantText(t, noIndexes(netns.InPod(t, pod, "ip -o -4 addr show dev eth0")), `eth0    inet 10.65.0.2/32 scope global eth0\       valid_lft forever preferred_lft forever`)
	wantText(t, netns.InPod(t, pod, "ip route"), "default via 169.254.1.1 dev eth0 \n169.254.1.1 dev eth0 scope link")
	wantText(t, netns.InPod(t, pod, "ip -4 neigh"), "169.254.1.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT")
	wantText(t, netns.InPod(t, pod, "cat /proc/sys/net/ipv4/ip_forward"), "0")
	if err := Check(pairIn(pod), Later{}); err != nil {
		t.Errorf("check: %v", err)
	}
}

// untilUp waits until both sides of a pod's first pair can send: until the kernel's link watch has come by, a side drops
// what it is to send although its peer is up. (Linux, dev_activate)
func untilUp(t *testing.T, pod string) {
	t.Helper()
	netns.WaitFor(t, "both carriers", func() bool {
		return strings.Contains(netns.Run(t, "ip link show cali0123456789a"), "state UP") &&
			strings.Contains(netns.InPod(t, pod, "ip link show eth0"), "state UP")
	})
}

func TestForwarding(t *testing.T) {
	for _, on := range []bool{true, false} {
		t.Run(fmt.Sprint(on), func(t *testing.T) {
			netns.Enter(t)
			pod := netns.NewPod(t)
			before := "1"
			if on {
				before = "0"
			}
			netns.InPod(t, pod, "sysctl -qw net.ipv4.ip_forward="+before)
			want := pairIn(pod)
			want.Forwarding = on
			create(t, want)
			wantText(t, netns.InPod(t, pod, "cat /proc/sys/net/ipv4/ip_forward"), map[bool]string{true: "1", false: "0"}[on])
		})
	}
}

// A pod reaches its host's address, and a second interface leaves the first its default route.
func TestTraffic(t *testing.T) {
	netns.Enter(t)
	pod := netns.NewPod(t)
	create(t, pairIn(pod))
	second := pairIn(pod)
	second.IfName, second.Interface, second.Addresses = "net1", "cali0123456789b", addresses("10.65.0.3")
	create(t, second)
	netns.Run(t, "ip link set lo up")
	netns.Run(t, "ip addr add 192.0.2.1/32 dev lo")
	netns.Run(t, "ip route add 10.65.0.2 dev cali0123456789a")
	netns.InPod(t, pod, "ping -c 1 -W 5 192.0.2.1")
	index := strings.Split(netns.InPod(t, pod, "ip -o link show net1"), ":")[0]
	wantText(t, netns.InPod(t, pod, "ip route"), "default via 169.254.1.1 dev eth0 \ndefault via 169.254.1.1 dev net1 metric "+index+
		" \n169.254.1.1 dev eth0 scope link \n169.254.1.1 dev net1 scope link metric "+index)
	for _, p := range []Pair{pairIn(pod), second} {
		if err := Check(p, Later{}); err != nil {
			t.Errorf("check %s: %v", p.ID, err)
		}
	}
}

func TestCreateTwice(t *testing.T) {
	netns.Enter(t)
	pod := netns.NewPod(t)
	first := create(t, pairIn(pod))
	before := netns.Listing(t, pod)
	again := create(t, pairIn(pod))
	if again.New || again.MAC != first.MAC {
		t.Errorf("have %+v, want the old one, %s", again, first.MAC)
	}
	wantText(t, netns.Listing(t, pod), before)

	netns.InPod(t, pod, "ip route del default")
	if repaired := create(t, pairIn(pod)); !repaired.New {
		t.Error("have the old pair, want a new one: it was damaged")
	}
	if err := Check(pairIn(pod), Later{}); err != nil {
		t.Error(err)
	}
}

// Whatever step fails, nothing stays.
func TestUndo(t *testing.T) {
	failure := errors.New("planted")
	all := steps()
	for n := range len(all) + 1 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			netns.Enter(t)
			pod := netns.NewPod(t)
			netns.InPod(t, pod, "sysctl -qw net.ipv4.ip_forward=0")
			netns.InPod(t, pod, "ip link set lo up") // stays up: it is the pod's, not the attachment's
			before := netns.Listing(t, pod)
			e, err := openEdge(pod)
			if err != nil {
				t.Fatal(err)
			}
			defer e.close()
			planted := append(append([]step{}, all[:n]...), step{"fail", func(*making) error { return failure }})
			if _, err := e.create(pairIn(pod), planted); !errors.Is(err, failure) {
				t.Fatalf("have %v, want the planted failure", err)
			}
			wantText(t, netns.Listing(t, pod), before)
		})
	}
}

func TestBadPairs(t *testing.T) {
	netns.Enter(t)
	pod := netns.NewPod(t)
	tests := []struct {
		name   string
		change func(*Pair)
		want   string
	}{
		{"MTU too large", func(p *Pair) { p.MTU = 1 << 20 }, "create cali0123456789a and, in"},
		{"address twice", func(p *Pair) { p.Addresses = addresses("10.0.0.1", "10.0.0.1") }, "add the pod's addresses (cali0123456789a, eth0 in"},
		{"MTU too small for IPv6", func(p *Pair) { p.MTU, p.Addresses = 1279, addresses("10.0.0.1", "fd00::1") }, "MTU 1279 of cali0123456789a: it is too small for IPv6: want at least 1280"},
		{"MAC", func(p *Pair) { p.MAC = "no" }, "invalid MAC address"},
	}
	netns.InPod(t, pod, "ip link set lo up")
	before := netns.Listing(t, pod)
	for _, tt := range tests {
		want := pairIn(pod)
		tt.change(&want)
		if _, err := Create(want); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: have %v, want %q", tt.name, err, tt.want)
		}
	}
	wantText(t, netns.Listing(t, pod), before)
}

func TestBadNetNS(t *testing.T) {
	netns.Enter(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	fifo := filepath.Join(dir, "fifo")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	tests := map[string]error{
		filepath.Join(dir, "absent"): ErrNoNetNS,
		filepath.Join(file, "below"): ErrNoNetNS,
		loop:                         ErrNoNetNS,
		filepath.Join(dir, strings.Repeat("n", 300)): ErrNoNetNS,
		file:                       ErrNotNetNS,
		fifo:                       ErrNotNetNS,
		dir:                        ErrNotNetNS,
		"/proc/self/ns/mnt":        ErrNotNetNS,
		"/proc/thread-self/ns/net": ErrOwnNetNS,
	}
	for path, want := range tests {
		if err := CheckNetNS(path); !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("check %s: have %v, want %v", path, err, want)
		}
		if _, err := Create(pairIn(path)); !errors.Is(err, want) {
			t.Errorf("create in %s: have %v, want %v", path, err, want)
		}
		err := Delete(endpoint.ID{ContainerID: "c1", IfName: "eth0"}, path, "cali0123456789a")
		if own := errors.Is(want, ErrOwnNetNS); own && !errors.Is(err, want) || !own && err != nil {
			t.Errorf("delete in %s: have %v", path, err)
		}
	}
}

func addresses(texts ...string) []netip.Addr {
	var addrs []netip.Addr
	for _, s := range texts {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	return addrs
}
