// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"korat/felix/kernel"
	"korat/policy"
	"korat/test/netns"
)

// podHost is a host with two pods behind cali1 and cali2, and connection tracking: pod1 is 10.0.1.2 and fd00:1::2,
// pod2 10.0.2.2 and fd00:2::2.
type podHost struct {
	host
	pods   [2]pod
	handle *kernel.Handle
}

// pod is a pod's namespace.
type pod struct {
	*netns.Namespace
	t testing.TB
}

func newPodHost(t testing.TB) podHost {
	t.Helper()
	h := podHost{host: host{netns.New(t), t}}
	// An address that is still tentative asks for no neighbours.
	const now = "net.ipv6.conf.default.accept_dad=0"
	h.Run("sysctl", "-qw", now)
	// A pair of which both sides have one index has its carrier up to a second late (linkwatch_urgent_event).
	h.Batch("link add unused type veth peer name unused1", "link del unused")
	for i := range h.pods {
		pod, n := pod{netns.New(t), t}, i+1
		h.pods[i] = pod
		pod.Run("sysctl", "-qw", now)
		h.Batch(
			fmt.Sprintf("link add cali%d type veth peer name eth0 netns %s", n, pod.Path()),
			fmt.Sprintf("address add 10.0.%d.1/24 dev cali%d", n, n),
			fmt.Sprintf("address add fd00:%d::1/64 dev cali%d nodad", n, n),
			fmt.Sprintf("link set cali%d up", n),
		)
		pod.Batch(
			fmt.Sprintf("address add 10.0.%d.2/24 dev eth0", n),
			fmt.Sprintf("address add fd00:%d::2/64 dev eth0 nodad", n),
			"link set eth0 up",
			fmt.Sprintf("route add default via 10.0.%d.1", n),
			fmt.Sprintf("route add default via fd00:%d::1", n),
		)
	}
	h.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for _, iptables := range []string{"iptables", "ip6tables"} {
		h.Run(iptables, "-w", "-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
	}
	h.handle = h.open()
	return h
}

// serve answers in pod2: to every connection and to every datagram with what was sent.
func (h podHost) serve(network, address string) {
	h.t.Helper()
	err := h.pods[1].Do(func() error {
		if network == "udp" {
			c, err := new(net.ListenConfig).ListenPacket(h.t.Context(), network, address)
			if err == nil {
				h.t.Cleanup(func() { _ = c.Close() })
				go echo(c)
			}
			return err
		}
		l, err := new(net.ListenConfig).Listen(h.t.Context(), network, address)
		if err == nil {
			h.t.Cleanup(func() { _ = l.Close() }) // the kernel takes connections that nobody accepts
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func echo(c net.PacketConn) {
	b := make([]byte, 100)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(b[:n], from)
	}
}

// dial connects from pod1, from a port of choice, and of UDP sends and hears two datagrams.
func (h podHost) dial(network, from, to string) {
	h.t.Helper()
	var conn net.Conn
	err := h.pods[0].Do(func() error {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))}
		if network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))
		}
		var err error
		conn, err = d.DialContext(h.t.Context(), network, to)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	for range 2 {
		if network == "udp" {
			talk(h.t, conn)
		}
	}
}

func talk(t testing.TB, conn net.Conn) {
	t.Helper()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// flows are the flows of addresses as text, sorted: the same ones whether the kernel searches or not.
func (h podHost) flows(addresses ...string) string {
	h.t.Helper()
	var texts [2]string
	for i, conntrack := range []kernel.Conntrack{h.handle.Conntrack(), h.handle.Conntrack().Searching()} {
		var lines []string
		err := conntrack.Read(h.t.Context(), addrs(addresses...), func(f kernel.Flow) { lines = append(lines, f.String()+"\n") })
		if err != nil {
			h.t.Fatal(err)
		}
		slices.Sort(lines)
		texts[i] = strings.Join(lines, "")
	}
	equal(h.t, "searched", texts[0], texts[1])
	return texts[0]
}

func addrs(texts ...string) []netip.Addr {
	all := make([]netip.Addr, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParseAddr(text)
	}
	return all
}

// listed is what conntrack(8) says of a family, without protocols' names, time-outs and references.
func (h podHost) listed(family string) string {
	h.t.Helper()
	var lines []string
	for line := range strings.Lines(h.Run("conntrack", "-L", "-f", family)) {
		words := strings.Fields(line)
		words = slices.Delete(words, 2, 3)[1:]
		words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "use=") })
		lines = append(lines, strings.Join(words, " ")+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// ping sends one from pod1; a child's reply is awaited by ping itself.
func (h podHost) ping(to string) { h.pods[0].Run("ping", "-c1", "-W5", "-e77", to) }

func TestConntrack(t *testing.T) {
	h := newPodHost(t)
	h.Run("iptables", "-w", "-t", "nat", "-A", "PREROUTING", "-d", "10.96.0.1", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to", "10.0.2.2:8080")
	h.Run("iptables", "-w", "-t", "nat", "-A", "POSTROUTING", "-d", "10.0.2.2", "-p", "udp", "-j", "MASQUERADE")
	h.serve("tcp", "10.0.2.2:8080")
	h.serve("udp", "10.0.2.2:53")
	h.serve("tcp", "[fd00:2::2]:8080")
	h.serve("udp", "[fd00:2::2]:53")
	h.dial("tcp", "10.0.1.2:40000", "10.96.0.1:80")
	h.dial("tcp", "10.0.1.2:40001", "10.0.2.2:8080")
	h.dial("udp", "10.0.1.2:40002", "10.0.2.2:53")
	h.dial("tcp", "[fd00:1::2]:40000", "[fd00:2::2]:8080")
	h.dial("udp", "[fd00:1::2]:40002", "[fd00:2::2]:53")
	h.ping("10.0.2.2")
	h.ping("fd00:2::2")
	h.ping("10.0.1.1") // the host itself
	h.Run("conntrack", "-I", "-s", "10.0.1.2", "-d", "10.0.9.9", "-p", "udp", "--sport", "9", "--dport", "9", "-t", "100", "-w", "7", "-m", "66")
	h.Run("conntrack", "-I", "-s", "10.0.9.8", "-d", "10.0.9.9", "-p", "udplite", "--sport", "9", "--dport", "9", "-t", "100")
	if h.listed("ipv6") == "" || strings.Count(h.listed("ipv4"), "\n") != 7 {
		t.Fatalf("the kernel lacks flows:\n%s", h.listed("ipv4"))
	}
	with := func(listed, text string) string {
		var lines []string
		for line := range strings.Lines(listed) {
			if strings.Contains(line, text) {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	four, six := h.listed("ipv4"), h.listed("ipv6")
	equal(t, "of pod1", with(four, "src=10.0.1.2 "), h.flows("10.0.1.2"))
	equal(t, "of pod2, translated or not", with(four, "src=10.0.2.2 "), h.flows("10.0.2.2"))
	equal(t, "of both", with(four, "src=10.0.1.2 "), h.flows("10.0.1.2", "10.0.2.2"))
	equal(t, "of the service's address", "", h.flows("10.96.0.1"))
	equal(t, "of pod1's IPv6", six, h.flows("fd00:1::2"))
	equal(t, "of pod2's IPv6", six, h.flows("fd00:2::2"))
	equal(t, "of another IPv6 address", "", h.flows("fd00:2::3"))
	equal(t, "of none", "", h.flows())
	many := []string{"10.0.1.2", "::ffff:10.0.9.8", "fd00:1::2"}
	for i := range 20 {
		many = append(many, fmt.Sprintf("10.9.0.%d", i))
	}
	equal(t, "of many", sorted(four+six), sorted(h.flows(many...)))

	// What is deleted is gone, and nothing else.
	gone := 0
	n, err := h.handle.Conntrack().DeleteWhere(t.Context(), addrs("10.0.2.2", "fd00:2::2"), func(f kernel.Flow) bool {
		gone++
		return f.Protocol != policy.UDP
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "judged", 7, gone)
	equal(t, "deleted", 5, n)
	equal(t, "IPv4 left", sorted(with(four, "17 ")+with(four, "dst=10.0.1.1 ")+with(four, "136 ")), h.listed("ipv4"))
	equal(t, "IPv6 left", with(six, "17 "), h.listed("ipv6"))
}

// Deleting the absent, or another flow with the same addresses and ports, is success and does nothing.
func TestDeleteFlowThatIsGone(t *testing.T) {
	h := newPodHost(t)
	h.serve("udp", "10.0.2.2:53")
	h.dial("udp", "10.0.1.2:40002", "10.0.2.2:53")
	conntrack := h.handle.Conntrack()
	var flows []kernel.Flow
	if err := conntrack.Read(t.Context(), addrs("10.0.1.2"), func(f kernel.Flow) { flows = append(flows, f) }); err != nil {
		t.Fatal(err)
	}
	listed := h.listed("ipv4")
	later := flows[0]
	later.ID++
	other := flows[0]
	other.Original.SourcePort++
	if err := conntrack.Delete(t.Context(), []kernel.Flow{later, other}); err != nil {
		t.Error(err)
	}
	equal(t, "listed", listed, h.listed("ipv4"))
	for range 2 {
		if err := conntrack.Delete(t.Context(), flows); err != nil {
			t.Error(err)
		}
		equal(t, "listed", "", h.listed("ipv4"))
	}
	err := conntrack.Delete(t.Context(), []kernel.Flow{{Protocol: policy.TCP}})
	if err == nil || !strings.Contains(err.Error(), "it has not got two addresses of one family") {
		t.Errorf("an empty flow: have %v", err)
	}
}

// A mark is that of the flow and of nothing else, and leaves the bits alone that are not meant.
func TestMarkFlows(t *testing.T) {
	h := newPodHost(t)
	h.serve("udp", "10.0.2.2:53")
	h.serve("udp", "[fd00:2::2]:53")
	h.dial("udp", "10.0.1.2:40001", "10.0.2.2:53")
	h.dial("udp", "10.0.1.2:40002", "10.0.2.2:53")
	h.dial("udp", "[fd00:1::2]:40001", "[fd00:2::2]:53")
	conntrack := h.handle.Conntrack()
	var flows []kernel.Flow
	read := func() {
		t.Helper()
		flows = nil
		err := conntrack.Read(t.Context(), addrs("10.0.1.2", "fd00:1::2"), func(f kernel.Flow) {
			if f.Original.SourcePort == 40001 {
				flows = append(flows, f)
			}
		})
		if err != nil || len(flows) != 2 {
			t.Fatal(flows, err)
		}
	}
	read()
	gone := flows[0]
	gone.Original.SourcePort++
	gone.Original.DestinationPort++
	for _, m := range [][2]uint32{{0x10007, 0xffffffff}, {0x6b6f0000, 0xffff0000}} {
		if err := conntrack.Mark(t.Context(), append(flows, gone), m[0], m[1]); err != nil {
			t.Fatal(err)
		}
	}
	read()
	for _, f := range flows {
		equal(t, f.String(), "0x6b6f0007", fmt.Sprintf("%#x", f.Mark))
	}
	if n := strings.Count(h.listed("ipv4")+h.listed("ipv6"), "mark=0\n"); n != 1 {
		t.Errorf("%d flows have no mark, want the one that nobody meant:\n%s", n, h.listed("ipv4"))
	}
	err := conntrack.Mark(t.Context(), []kernel.Flow{{Protocol: policy.TCP}}, 1, 1)
	if err == nil || !strings.Contains(err.Error(), "it has not got two addresses of one family") {
		t.Errorf("an empty flow: have %v", err)
	}
}

func TestReadFlowsIsBrokenOff(t *testing.T) {
	h := newPodHost(t)
	h.manyFlows(20_000)
	total, err := strconv.Atoi(strings.TrimSpace(h.Run("conntrack", "-C")))
	if err != nil || total < 10_000 {
		t.Fatal(total, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err = h.handle.Conntrack().Read(ctx, addrs("10.0.1.2"), func(kernel.Flow) {
		n++
		cancel()
	})
	if !errors.Is(err, context.Canceled) || n == 0 || n == total {
		t.Errorf("have %v after %d flows of %d", err, n, total)
	}
	n, err = h.handle.Conntrack().DeleteWhere(t.Context(), addrs("10.0.1.2"), func(kernel.Flow) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "deleted", total, n)
	equal(t, "left", "", h.listed("ipv4"))
}

// manyFlows has pod1 send n datagrams, which begin as many flows but for those that a queue drops.
func (h podHost) manyFlows(n int) {
	h.t.Helper()
	err := h.pods[0].Do(func() error {
		c, err := new(net.ListenConfig).ListenPacket(h.t.Context(), "udp", "10.0.1.2:1000")
		if err != nil {
			return err
		}
		for i := range n {
			if _, err := c.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(10, 0, 2, byte(3+i%200)), Port: 1 + i}); err != nil {
				return errors.Join(err, c.Close())
			}
		}
		return c.Close()
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// A flow is found again in whatever zone of the connection tracking it is, of one direction or of both.
func TestFlowsInZones(t *testing.T) {
	for _, zone := range []string{"--zone", "--zone-orig", "--zone-reply"} {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			h := newPodHost(t)
			h.Run("iptables", "-w", "-t", "raw", "-A", "PREROUTING", "-j", "CT", zone, "7")
			h.serve("udp", "10.0.2.2:53")
			h.dial("udp", "10.0.1.2:40002", "10.0.2.2:53")
			conntrack := h.handle.Conntrack()
			var flows []kernel.Flow
			read := func() {
				t.Helper()
				flows = nil
				err := conntrack.Read(t.Context(), addrs("10.0.1.2"), func(f kernel.Flow) { flows = append(flows, f) })
				if err != nil || len(flows) != 1 {
					t.Fatal(flows, err)
				}
			}
			read()
			if err := conntrack.Mark(t.Context(), flows, 0x10000, 0xffff0000); err != nil {
				t.Error(err)
			}
			if read(); flows[0].Mark != 0x10000 {
				t.Errorf("not marked: %v", flows[0])
			}
			if err := conntrack.Delete(t.Context(), flows); err != nil {
				t.Error(err)
			}
			equal(t, "left", "", h.listed("ipv4"))
		})
	}
}
