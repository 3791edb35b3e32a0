// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"korat/test/netns"
)

// dual gives a pair with addresses of both families.
func dual(netNS string) Pair {
	p := pairIn(netNS)
	p.Addresses = addresses("10.65.0.2", "fd00::2")
	return p
}

// showPod is what the pod has of each family. Link-local addresses are made of the random MAC.
func showPod(t *testing.T, pod string) string {
	t.Helper()
	var b strings.Builder
	for _, command := range []string{
		"ip -4 -br addr show dev eth0", "ip -4 route", "ip -4 neigh",
		"ip -6 -br addr show dev lo", "ip -6 -o addr show dev eth0 scope global", "ip -6 route", "ip -6 neigh",
	} {
		fmt.Fprintf(&b, "# %s\n%s", command, netns.InPod(t, pod, command))
	}
	text := regexp.MustCompile(`(?m)[ \\]+`).ReplaceAllString(noIndexes(b.String()), " ")
	return strings.ReplaceAll(text, " \n", "\n")
}

const (
	ipv4Text = `# ip -4 -br addr show dev eth0
eth0@peer UP 10.65.0.2/32
# ip -4 route
default via 169.254.1.1 dev eth0
169.254.1.1 dev eth0 scope link
# ip -4 neigh
169.254.1.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT
`
	noIPv4Text = `# ip -4 -br addr show dev eth0
# ip -4 route
# ip -4 neigh
`
	ipv6Text = `# ip -6 -br addr show dev lo
lo UNKNOWN ::1/128
# ip -6 -o addr show dev eth0 scope global
eth0 inet6 fd00::2/128 scope global nodad valid_lft forever preferred_lft forever
# ip -6 route
fd00::2 dev eth0 proto kernel metric 256 pref medium
fe80::ecee:eeff:feee:eeee dev eth0 metric 1024 pref medium
fe80::/64 dev eth0 proto kernel metric 256 pref medium
default via fe80::ecee:eeff:feee:eeee dev eth0 metric 1024 pref medium
# ip -6 neigh
fe80::ecee:eeff:feee:eeee dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT
`
	noIPv6Text = `# ip -6 -br addr show dev lo
# ip -6 -o addr show dev eth0 scope global
# ip -6 route
# ip -6 neigh
`
)

// The namespace has IPv6 switched off, as container runtimes leave it.
func TestFamilies(t *testing.T) {
	for _, tt := range []struct {
		name      string
		addresses []string
		want      string
	}{
		{"IPv4", []string{"10.65.0.2"}, ipv4Text + noIPv6Text},
		{"IPv6", []string{"fd00::2"}, noIPv4Text + ipv6Text},
		{"both", []string{"10.65.0.2", "fd00::2"}, ipv4Text + ipv6Text},
	} {
		t.Run(tt.name, func(t *testing.T) {
			netns.Enter(t)
			pod := netns.NewPod(t)
			want := pairIn(pod)
			want.Addresses = addresses(tt.addresses...)
			create(t, want)
			untilUp(t, pod)
			wantText(t, showPod(t, pod), tt.want)
			// Detection would take a second; that there is none for the link-local address is for a worker to find.
			if text := netns.InPod(t, pod, "ip -6 addr show tentative scope global"); text != "" {
				t.Errorf("addresses that wait for duplicate address detection:\n%s", text)
			}
			netns.WaitFor(t, "the link-local address", func() bool { return netns.InPod(t, pod, "ip -6 addr show tentative") == "" })
			if err := Check(want, Later{}); err != nil {
				t.Errorf("check: %v", err)
			}
			if again := create(t, want); again.New {
				t.Error("the second ADD made another pair")
			}
		})
	}
}

func TestIPv6Sysctls(t *testing.T) {
	const keys = "net.ipv6.conf.all.forwarding net.ipv6.conf.eth0.disable_ipv6 net.ipv6.conf.eth0.accept_ra net.ipv6.conf.eth0.accept_dad"
	for _, tt := range []struct {
		forwarding bool
		want       string
	}{{false, "0 0 0 0"}, {true, "1 0 0 0"}} {
		netns.Enter(t)
		pod := netns.NewPod(t)
		netns.InPod(t, pod, fmt.Sprintf("sysctl -qw net.ipv6.conf.all.forwarding=%d net.ipv6.conf.default.accept_ra=2", map[bool]int{false: 1}[tt.forwarding]))
		want := dual(pod)
		want.Forwarding = tt.forwarding
		create(t, want)
		wantText(t, strings.Join(strings.Fields(netns.InPod(t, pod, "sysctl -n "+keys)), " "), tt.want)
	}
}

// A name is one element of a sysctl's path, whatever it is: with a dot it is still one interface's, and those that
// would lead elsewhere are the kernel's to refuse, before anything is set.
func TestSysctlsOfOddNames(t *testing.T) {
	netns.Enter(t)
	pod := netns.NewPod(t)
	good := dual(pod)
	good.IfName = "a.lo"
	create(t, good)
	wantText(t, netns.InPod(t, pod, "cat /proc/sys/net/ipv6/conf/a.lo/accept_dad /proc/sys/net/ipv6/conf/a.lo/disable_ipv6"), "0\n0")

	const show = `sysctl -a -r ^net\.(ipv4\.ip_forward|ipv6\.conf\..*\.(accept_ra|accept_dad|disable_ipv6|forwarding))$`
	netns.InPod(t, pod, "sysctl -qw net.ipv6.conf.all.accept_ra=1 net.ipv6.conf.default.accept_ra=1")
	before := netns.InPod(t, pod, show)
	if !strings.Contains(before, "net.ipv6.conf.lo.disable_ipv6") {
		t.Fatalf("have %s", before)
	}
	for _, name := range []string{"all", "default", ".", "..", "../lo", "../../all", "a/b", "sixteen-bytes-xx", "a b", ""} {
		bad := dual(pod)
		bad.IfName, bad.Interface = name, "cali0123456789b"
		if made, err := Create(bad); err == nil {
			t.Errorf("%q: made %+v", name, made)
		}
		wantText(t, netns.InPod(t, pod, show), before)
	}
	if links := netns.Run(t, "ip -o link"); strings.Contains(links, "cali0123456789b") {
		t.Errorf("left:\n%s", links)
	}
}

// Both ways, and a second interface leaves the first its default route.
func TestIPv6Traffic(t *testing.T) {
	netns.Enter(t)
	netns.Run(t, "sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0")
	pod := netns.NewPod(t)
	made := create(t, dual(pod))
	second := dual(pod)
	second.IfName, second.Interface, second.Addresses = "net1", "cali0123456789b", addresses("10.65.0.3", "fd00::3")
	create(t, second)
	netns.Run(t, "ip link set lo up")
	netns.Run(t, "ip addr add fd01::1/128 dev lo")
	netns.WaitFor(t, "the host's address", func() bool { return strings.Contains(netns.Run(t, "ip -6 route show table local"), "local fd01::1 ") })
	netns.Run(t, "ip route add fd00::2 dev cali0123456789a")
	netns.Run(t, "ip neigh replace fd00::2 lladdr "+made.MAC+" dev cali0123456789a")
	netns.InPod(t, pod, "ping -c 1 -W 5 fd01::1")
	netns.Run(t, "ping -c 1 -W 5 -I fd01::1 fd00::2")
	index := strings.Split(netns.InPod(t, pod, "ip -o link show net1"), ":")[0]
	var metric int
	if _, err := fmt.Sscan(index, &metric); err != nil {
		t.Fatal(err)
	}
	wantText(t, netns.InPod(t, pod, "ip -6 route show default"), fmt.Sprintf(`
default via fe80::ecee:eeff:feee:eeee dev eth0 metric 1024 pref medium
default via fe80::ecee:eeff:feee:eeee dev net1 metric %d pref medium`, 1024+metric))
	for _, p := range []Pair{dual(pod), second} {
		if err := Check(p, Later{}); err != nil {
			t.Errorf("check %s: %v", p.ID, err)
		}
	}
}

// A pod takes the answer to its first packet.
func TestIPv6AddressesAreThere(t *testing.T) {
	netns.Enter(t)
	for i := range 20 {
		pod := netns.NewPod(t)
		want := dual(pod)
		want.Interface = fmt.Sprintf("cali%011d", i)
		create(t, want)
		e, err := openEdge(pod)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.takes(want.Addresses[1]); err != nil {
			t.Errorf("pod %d: %v", i, err)
		}
		e.close()
	}
}

func TestCheckIPv6(t *testing.T) {
	for _, tt := range []struct{ command, want string }{
		{"ip -6 addr del fd00::2/128 dev eth0", "interface eth0 lacks address fd00::2/128"},
		{"ip -6 route del default", "route default via fe80::ecee:eeff:feee:eeee dev eth0 is missing"},
		{"ip -6 route replace default via fe80::1 dev eth0", "route default via fe80::ecee:eeff:feee:eeee dev eth0 is missing"},
		{"ip -6 route del fe80::ecee:eeff:feee:eeee/128 dev eth0", "route fe80::ecee:eeff:feee:eeee dev eth0 scope link is missing"},
		{"ip -6 neigh del fe80::ecee:eeff:feee:eeee dev eth0", "permanent neighbour fe80::ecee:eeff:feee:eeee lladdr ee:ee:ee:ee:ee:ee dev eth0 is missing"},
		{"ip -6 neigh replace fe80::ecee:eeff:feee:eeee lladdr 02:00:00:00:00:01 dev eth0", "permanent neighbour fe80::ecee:eeff:feee:eeee lladdr ee:ee:ee:ee:ee:ee dev eth0 is missing"},
		{"sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1", `interface eth0 lacks address fd00::2/128
route fe80::ecee:eeff:feee:eeee dev eth0 scope link is missing
route default via fe80::ecee:eeff:feee:eeee dev eth0 is missing
permanent neighbour fe80::ecee:eeff:feee:eeee lladdr ee:ee:ee:ee:ee:ee dev eth0 is missing`},
	} {
		t.Run(tt.command, func(t *testing.T) {
			netns.Enter(t)
			pod := netns.NewPod(t)
			create(t, dual(pod))
			netns.InPod(t, pod, tt.command)
			err := Check(dual(pod), Later{})
			if err == nil || err.Error() != tt.want {
				t.Errorf("have %v, want %s", err, tt.want)
			}
			if repaired := create(t, dual(pod)); !repaired.New {
				t.Error("have the old pair, want a new one: it was damaged")
			}
			if err := Check(dual(pod), Later{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whatever step fails, nothing of either family stays.
func TestUndoOfBothFamilies(t *testing.T) {
	failure := errors.New("planted")
	all := steps()
	for n := range len(all) + 1 {
		netns.Enter(t)
		pod := netns.NewPod(t)
		netns.InPod(t, pod, "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.lo.disable_ipv6=0")
		netns.InPod(t, pod, "ip link set lo up") // stays up: it is the pod's, not the attachment's
		before := netns.Listing(t, pod)
		e, err := openEdge(pod)
		if err != nil {
			t.Fatal(err)
		}
		planted := append(append([]step{}, all[:n]...), step{"fail", func(*making) error { return failure }})
		if _, err := e.create(dual(pod), planted); !errors.Is(err, failure) {
			t.Errorf("have %v, want the planted failure", err)
		}
		e.close()
		wantText(t, netns.Listing(t, pod), before)
	}
}
