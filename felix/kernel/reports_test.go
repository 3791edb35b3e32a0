// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"korat/felix/kernel"
)

const reportGroup = 2

func (h podHost) reports() *kernel.Reports {
	h.t.Helper()
	r, err := h.handle.Reports(reportGroup)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = r.Close() })
	return r
}

// report makes a rule that reports.
func (h podHost) report(iptables, chain, prefix string, match ...string) {
	h.t.Helper()
	rule := append([]string{iptables, "-w", "-A", chain}, match...)
	h.Run(append(rule, "-j", "NFLOG", "--nflog-group", fmt.Sprint(reportGroup), "--nflog-prefix", prefix)...)
}

// next waits for a report.
func next(t testing.TB, r *kernel.Reports) kernel.Report {
	t.Helper()
	select {
	case report, ok := <-r.C():
		if !ok {
			t.Fatalf("the reports ended: %v", r.Err())
		}
		return report
	case <-time.After(10 * time.Second):
		t.Fatal("no report came")
	}
	return kernel.Report{}
}

// text is a report in one line, without its time.
func text(r kernel.Report) string {
	s := fmt.Sprintf("%s %v %s>%s proto %d %v>%v", r.Prefix, r.Hook, r.In, r.Out, r.Protocol, r.Packet.Source, r.Packet.Destination)
	if r.Packet.SourcePort != 0 || r.Packet.DestinationPort != 0 {
		s += fmt.Sprintf(" ports %d>%d", r.Packet.SourcePort, r.Packet.DestinationPort)
	}
	if i := r.Packet.ICMP; i != (kernel.ICMP{}) {
		s += fmt.Sprintf(" type %d code %d id %d", i.Type, i.Code, i.ID)
	}
	return s + fmt.Sprintf(" length %d mark %#x", r.Length, r.Mark)
}

func TestReports(t *testing.T) {
	h := newPodHost(t)
	const longest = "D|abcdefghijklmnop|0123456789012345678901234567890123456789abcd" // 63 bytes
	h.Run("iptables", "-w", "-t", "mangle", "-A", "FORWARD", "-j", "MARK", "--set-mark", "0x10000")
	h.report("iptables", "FORWARD", "D|abcdefghijklmnop", "-p", "tcp")
	h.report("iptables", "FORWARD", longest, "-p", "udp")
	h.report("iptables", "FORWARD", "L", "-p", "icmp", "--icmp-type", "8")
	h.report("ip6tables", "FORWARD", "six", "-p", "udp")
	h.report("ip6tables", "FORWARD", "six", "-p", "icmpv6", "--icmpv6-type", "128")
	h.report("iptables", "INPUT", "in", "-p", "udp", "--dport", "7")
	h.report("iptables", "OUTPUT", "out", "-p", "sctp")
	for _, iptables := range []string{"iptables", "ip6tables"} {
		h.Run(iptables, "-w", "-P", "FORWARD", "DROP")
	}
	before := time.Now().Add(-time.Second)
	h.pods[0].send("10.0.1.2:999", "10.0.2.2:53", 10) // nobody hears it
	r := h.reports()
	want := func(want string) {
		t.Helper()
		have := next(t, r)
		equal(t, "report", want, text(have))
		if have.Time.Before(before) || have.Time.After(time.Now().Add(time.Second)) {
			t.Errorf("time: have %v", have.Time)
		}
	}
	h.pods[0].send("10.0.1.2:1000", "10.0.2.2:53", 10)
	want(longest + " FORWARD cali1>cali2 proto 17 10.0.1.2>10.0.2.2 ports 1000>53 length 38 mark 0x10000")
	h.pods[0].syn("10.0.1.2:40000", "10.0.2.2:8080")
	want("D|abcdefghijklmnop FORWARD cali1>cali2 proto 6 10.0.1.2>10.0.2.2 ports 40000>8080 length 60 mark 0x10000")
	_, _ = h.pods[0].Try("ping", "-c1", "-W0.1", "-e77", "10.0.2.2")
	want("L FORWARD cali1>cali2 proto 1 10.0.1.2>10.0.2.2 type 8 code 0 id 77 length 84 mark 0x10000")
	h.pods[0].send("[fd00:1::2]:1000", "[fd00:2::2]:53", 10)
	want("six FORWARD cali1>cali2 proto 17 fd00:1::2>fd00:2::2 ports 1000>53 length 58 mark 0x0")
	_, _ = h.pods[0].Try("ping", "-c1", "-W0.1", "-e77", "fd00:2::2")
	want("six FORWARD cali1>cali2 proto 58 fd00:1::2>fd00:2::2 type 128 code 0 id 77 length 104 mark 0x0")
	h.pods[0].send("10.0.1.2:1000", "10.0.1.1:7", 10)
	want("in INPUT cali1> proto 17 10.0.1.2>10.0.1.1 ports 1000>7 length 38 mark 0x0")
	// Conntrack puts fragments together; the whole is longer than what is copied.
	h.pods[0].send("10.0.1.2:1000", "10.0.2.2:53", 4000)
	want(longest + " FORWARD cali1>cali2 proto 17 10.0.1.2>10.0.2.2 ports 1000>53 length 4028 mark 0x10000")
	equal(t, "lost", uint64(0), r.Lost())

	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, open := <-r.C(); open || r.Err() != nil {
		t.Errorf("after Close: open %v, error %v", open, r.Err())
	}
}

// send sends one datagram of UDP with so many bytes.
func (p pod) send(from, to string, size int) {
	p.t.Helper()
	err := p.Do(func() error {
		source, err := net.ResolveUDPAddr("udp", from)
		if err != nil {
			return err
		}
		d := net.Dialer{LocalAddr: source}
		c, err := d.DialContext(p.t.Context(), "udp", to)
		if err != nil {
			return err
		}
		_, err = c.Write(make([]byte, size))
		return errors.Join(err, c.Close())
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// syn begins to connect, and doesn't wait.
func (p pod) syn(from, to string) {
	p.t.Helper()
	err := p.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		for i, address := range []string{from, to} {
			a, err := net.ResolveTCPAddr("tcp", address)
			if err != nil {
				return err
			}
			sa := &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}
			if i == 0 {
				err = unix.Bind(fd, sa)
			} else if err = unix.Connect(fd, sa); errors.Is(err, unix.EINPROGRESS) {
				err = nil
			}
			if err != nil {
				return errors.Join(err, unix.Close(fd))
			}
		}
		return unix.Close(fd)
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestReportGroupIsHeardOnce(t *testing.T) {
	h := newPodHost(t)
	r := h.reports()
	if _, err := h.open().Reports(reportGroup); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "hear packet log group 2: another program hears it") {
		t.Errorf("have %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	again := h.reports()
	h.report("iptables", "FORWARD", "x")
	h.pods[0].send("10.0.1.2:1000", "10.0.2.2:53", 10)
	equal(t, "prefix", "x", next(t, again).Prefix)
}

// What is not taken is dropped and counted, to the last packet.
func TestReportStorm(t *testing.T) {
	h := newPodHost(t)
	h.report("iptables", "FORWARD", "storm", "-p", "udp", "-s", "10.0.1.2")
	r := h.reports()
	h.manyFlows(20_000)
	counted := func() (n uint64) {
		for line := range strings.Lines(h.Run("iptables", "-w", "-nvxL", "FORWARD")) {
			if strings.Contains(line, "NFLOG") {
				_, _ = fmt.Sscan(line, &n)
			}
		}
		return n
	}
	if counted() < 10_000 {
		t.Fatalf("only %d packets came", counted())
	}
	taken := uint64(0)
	for r.Lost() == 0 || len(r.C()) > 0 { // the kernel sends the last ones a little later
		next(t, r)
		taken++
	}
	// The last report tells of all before it.
	h.pods[0].send("10.0.1.2:999", "10.0.2.2:999", 10)
	for last := (kernel.Report{}); last.Packet.DestinationPort != 999 || last.Packet.SourcePort != 999; taken++ {
		last = next(t, r)
	}
	equal(t, "taken and lost", counted(), taken+r.Lost())
	if r.Lost() == 0 {
		t.Error("none was lost")
	}
}
