// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"korat/test/lab"
)

// TestSpoofedSources: a pod sends from no address but its own, whatever it gives itself: not to pods, not to its host, by
// neither family. In the end the agent is killed and what it has against it taken away, to see that such
// packets come through then.
func TestSpoofedSources(t *testing.T) {
	w := clusterOf(t, lab.Dual, 2)
	a, b := w.host("a"), w.host("b")
	a1, a2, b1 := w.pod(a, "a1"), w.pod(a, "a2"), w.pod(b, "b1")
	w.matrix(w.places())

	for i, outside := range []netip.Addr{netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("2001:db8::9")} {
		others := []netip.Addr{a2.Addresses()[i], a.Addresses()[i], b.Addresses()[i], outside}
		for _, box := range []*mailbox{w.mailbox(b1, b1.Addresses()[i]), w.mailbox(a, a.Addresses()[i])} {
			for _, source := range others {
				if source != box.address.Addr() { // it would stay in the pod
					w.mail(a1, source, box)
				}
			}
			w.mail(a1, a1.Addresses()[i], box)
			box.has(a1.Addresses()[i])
		}
	}

	if err := w.Agents[0].Kill(); err != nil {
		t.Fatal(err)
	}
	w.commands(a, `iptables -t raw -F cali-PREROUTING
		ip6tables -t raw -F cali-PREROUTING
		sysctl -w net.ipv4.conf.`+hostInterface(a1)+`.rp_filter=0`)
	for i := range a1.Addresses() {
		box := w.mailbox(b1, b1.Addresses()[i])
		w.mail(a1, a2.Addresses()[i], box)
		w.mail(a1, a1.Addresses()[i], box)
		box.has(a2.Addresses()[i], a1.Addresses()[i])
	}
}

// insider is where sockets are made: a host's or a pod's.
type insider interface {
	Inside(f func() error) error
}

// mailbox takes datagrams.
type mailbox struct {
	*world
	conn    net.PacketConn
	address netip.AddrPort
}

func (w *world) mailbox(where insider, addr netip.Addr) *mailbox {
	w.Helper()
	box := &mailbox{world: w}
	err := where.Inside(func() (err error) {
		box.conn, err = (&net.ListenConfig{}).ListenPacket(w.ctx, "udp", netip.AddrPortFrom(addr, 0).String())
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { box.conn.Close() })
	box.address = box.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return box
}

// mail sends a datagram from an address of the sender's choice, which gives it to itself for that.
func (w *world) mail(from *lab.Pod, source netip.Addr, box *mailbox) {
	w.Helper()
	if !slices.Contains(from.Addresses(), source) {
		nodad := ""
		if source.Is6() {
			nodad = " nodad"
		}
		w.run(from, "ip address add "+source.String()+" dev lo"+nodad)
		defer w.run(from, fmt.Sprintf("ip address del %s/%d dev lo", source, source.BitLen()))
	}
	err := from.Inside(func() error {
		d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}
		conn, err := d.DialContext(w.limit(), "udp", box.address.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte(source.String()))
		return err
	})
	if err != nil {
		w.Fatalf("send from %s to %s: %v", source, box.address, err)
	}
}

// has waits for a datagram of the last sender, and wants it and those before to be from just these.
func (box *mailbox) has(senders ...netip.Addr) {
	box.Helper()
	if err := box.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		box.Fatal(err)
	}
	var want, have []string
	for _, s := range senders {
		want = append(want, s.String())
	}
	for text := make([]byte, 64); len(have) == 0 || have[len(have)-1] != want[len(want)-1]; {
		n, _, err := box.conn.ReadFrom(text)
		if err != nil {
			box.Fatalf("%s has heard from %v, want %v: %v", box.address, have, want, err)
		}
		have = append(have, string(text[:n]))
	}
	if strings.Join(have, " ") != strings.Join(want, " ") {
		box.Errorf("%s has heard from %v, want %v", box.address, have, want)
	}
}
