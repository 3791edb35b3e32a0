// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"korat/felix/reconcile"
)

// neighbourhood is a pod's end of its interface, which asks who has an address, and hears who claims it.
type neighbourhood struct {
	t    *testing.T
	fd   int
	link *net.Interface
}

func arpOf(t *testing.T, h host, device string) *neighbourhood {
	t.Helper()
	n := &neighbourhood{t: t}
	err := h.Do(func() (err error) {
		if n.link, err = net.InterfaceByName(device); err != nil {
			return err
		}
		n.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(arpProtocol()))
		if err != nil {
			return err
		}
		return errors.Join(
			unix.Bind(n.fd, &unix.SockaddrLinklayer{Protocol: arpProtocol(), Ifindex: n.link.Index}),
			unix.SetsockoptTimeval(n.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Close(n.fd); err != nil {
			t.Error(err)
		}
	})
	return n
}

// arpProtocol is ETH_P_ARP in network byte order.
func arpProtocol() uint16 {
	return binary.NativeEndian.Uint16([]byte{unix.ETH_P_ARP >> 8, unix.ETH_P_ARP & 0xff})
}

// Where the addresses are in an Ethernet frame with an ARP message (RFC 826), and what stands at its begin.
const (
	arpOperation, arpSender, arpTarget, arpLength = 21, 28, 38, 42

	arpHeader = "\x08\x06\x00\x01\x08\x00\x06\x04\x00"
)

// asks broadcasts a request: sender has it that who has target is to tell sender.
func (n *neighbourhood) asks(sender, target netip.Addr) {
	n.t.Helper()
	frame := slices.Concat([]byte("\xff\xff\xff\xff\xff\xff"), n.link.HardwareAddr, []byte(arpHeader+"\x01"),
		n.link.HardwareAddr, sender.AsSlice(), make([]byte, 6), target.AsSlice())
	if _, err := unix.Write(n.fd, frame); err != nil {
		n.t.Fatal(err)
	}
}

// answered asks, and says whether anybody claims the target before an answer to a question that is always answered:
// who has the host's address, as somebody without one asks (RFC 5227).
func (n *neighbourhood) answered(sender, target netip.Addr) bool {
	n.t.Helper()
	n.asks(sender, target)
	hosts := netip.MustParseAddr("192.0.2.10")
	n.asks(netip.IPv4Unspecified(), hosts)
	found := false
	deadline := time.Now().Add(10 * time.Second)
	for frame := make([]byte, 64); time.Now().Before(deadline); {
		length, err := unix.Read(n.fd, frame)
		if err != nil {
			n.t.Fatalf("no answer for the host's own address: %v", err)
		}
		if length < arpLength || frame[arpOperation] != 2 {
			continue
		}
		switch claimed, _ := netip.AddrFromSlice(frame[arpSender : arpSender+4]); claimed {
		case target:
			found = true
		case hosts:
			return found
		}
	}
	n.t.Fatal("no answer for the host's own address")
	return false
}

// TestHostDoesNotClaimPodsAddress: a pod that looks whether somebody else has its address (RFC 5227) is not told
// that its host does, by proxy ARP, whichever routes there are when it asks. The kernel never answers a probe by proxy.
// An announcement it does answer if the pod's address is routed to elsewhere and the interface has rp_filter 0, which
// it never has together with proxy_arp.
func TestHostDoesNotClaimPodsAddress(t *testing.T) {
	nobody, pods, gateway := netip.IPv4Unspecified(), netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("169.254.1.1")
	const proxy, filter = "net.ipv4.conf.cali1.proxy_arp=", "net.ipv4.conf.cali1.rp_filter="
	for name, c := range map[string]struct {
		commands []string
		// agent says that the agent has written its sysctls; otherwise proxy_arp alone is set.
		agent                         bool
		probe, announcement, gateways bool
	}{
		"proxy_arp alone, elsewhere": {commands: []string{"ip route add default via 192.0.2.1"}, announcement: true, gateways: true},
		"no route":                   {agent: true},
		"elsewhere":                  {commands: []string{"ip route add default via 192.0.2.1"}, agent: true},
		"another host's block":       {commands: []string{"ip route add 10.1.0.0/24 via 192.0.2.1"}, agent: true},
		"own block":                  {commands: []string{"ip route add default via 192.0.2.1", "ip route add blackhole 10.1.0.0/24"}, agent: true},
		"the pod's":                  {commands: []string{"ip route add default via 192.0.2.1", "ip route add 10.1.0.5 dev cali1"}, agent: true, gateways: true},
		"the pod's, rp_filter off": {
			commands: []string{"ip route add default via 192.0.2.1", "ip route add 10.1.0.5 dev cali1", "sysctl -qw " + filter + "0"}, agent: true, gateways: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.Run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", filter+"0", proxy+"0", "net.ipv4.neigh.cali1.proxy_delay=0",
				"net.ipv4.ip_forward=1", "net.ipv4.conf.pod1.arp_ignore=8")
			if c.agent {
				apply(t, reconcile.NewStep("sysctls", h.open().Sysctls()), sysctls{
					"net/ipv4/conf/cali1/forwarding": "1", "net/ipv4/conf/cali1/proxy_arp": "1", "net/ipv4/conf/cali1/rp_filter": "1",
				})
			} else {
				h.Run("sysctl", "-qw", proxy+"1")
			}
			for _, command := range c.commands {
				h.Run(strings.Fields(command)...)
			}
			n := arpOf(t, h, "pod1")
			equal(t, "probe answered", c.probe, n.answered(nobody, pods))
			equal(t, "announcement answered", c.announcement, n.answered(pods, pods))
			equal(t, "gateway answered", c.gateways, n.answered(pods, gateway))
		})
	}
}

// tells sends an answer that nobody has asked for: the address is at the hardware address.
func (n *neighbourhood) tells(to, at net.HardwareAddr, address, asked netip.Addr) {
	n.t.Helper()
	frame := slices.Concat(to, n.link.HardwareAddr, []byte(arpHeader+"\x02"), at, address.AsSlice(), to, asked.AsSlice())
	if _, err := unix.Write(n.fd, frame); err != nil {
		n.t.Fatal(err)
	}
}

// TestPodsClaimsChangeNothing: whatever a pod says of addresses, in answers, announcements and requests, the host goes on
// sending to where it did. A pod's neighbour entry is permanent, an entry of another interface is another's, and
// rp_filter lets no request with somebody else's sender make one.
func TestPodsClaimsChangeNothing(t *testing.T) {
	h := newHost(t)
	hosts, gateway := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.1")
	mine, others := netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.1.0.6")
	h.Run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.ip_forward=1", "net.ipv4.neigh.cali1.proxy_delay=0",
		"net.ipv4.conf.pod1.arp_ignore=8", "net.ipv4.conf.pod2.arp_ignore=8")
	handle := h.open()
	apply(t, reconcile.NewStep("sysctls", handle.Sysctls()), sysctls{
		"net/ipv4/conf/cali1/forwarding": "1", "net/ipv4/conf/cali1/rp_filter": "1", "net/ipv4/conf/cali1/proxy_arp": "1",
	})
	pod, peer := arpOf(t, h, "pod1"), arpOf(t, h, "pod2")
	apply(t, reconcile.NewStep("neighbours", handle.Neighbours()), neighbours{
		neighbour("cali1", mine.String()):   {MAC: pod.link.HardwareAddr.String()},
		neighbour("cali2", others.String()): {MAC: peer.link.HardwareAddr.String()},
	})
	h.Batch("route add 10.1.0.5 dev cali1", "route add 10.1.0.6 dev cali2", "route add default via 192.0.2.1",
		"neigh add 192.0.2.1 lladdr 02:00:00:00:00:01 dev eth0 nud reachable")
	before := h.Run("ip", "neigh", "show")

	evil := net.HardwareAddr{2, 0, 0, 0, 0, 0x66}
	broadcast := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	host := arpOf(t, h, "cali1").link.HardwareAddr
	for _, address := range []netip.Addr{mine, others, hosts, gateway, netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("10.1.0.77")} {
		for _, at := range []net.HardwareAddr{evil, pod.link.HardwareAddr} {
			pod.tells(host, at, address, hosts)
			pod.tells(broadcast, at, address, address)
		}
		if address != mine {
			pod.asks(address, address)
			pod.asks(address, hosts)
			pod.asks(address, others)
		}
	}
	// The answer to this comes after all of those have been looked at.
	equal(t, "own address answered", false, pod.answered(netip.IPv4Unspecified(), mine))
	equal(t, "neighbours", before, h.Run("ip", "neigh", "show"))
}
