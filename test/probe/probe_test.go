// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"korat/test/netns"
)

// site is two places with a router between them.
type site struct {
	*testing.T
	router *netns.Namespace
	places map[string]*Place
}

func newSite(t *testing.T) *site {
	s := &site{t, netns.New(t), map[string]*Place{}}
	s.router.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for i, name := range []string{"a", "b"} {
		n := netns.New(t)
		n.Batch(
			"link add eth0 type veth peer name "+name+" netns "+s.router.Path(),
			"link set dev eth0 up",
			fmt.Sprintf("addr add 192.0.2.%d/32 dev eth0", i+1),
			fmt.Sprintf("addr add fd00::%d/128 dev eth0 nodad", i+1),
		)
		s.router.Batch(
			"link set dev "+name+" up", fmt.Sprintf("addr add 169.254.%d.1/30 dev %s", i, name), "addr add fe80::1/64 dev "+name+" nodad",
			fmt.Sprintf("route add 192.0.2.%d dev %s", i+1, name), fmt.Sprintf("route add fd00::%d dev %s", i+1, name),
		)
		n.Batch(fmt.Sprintf("route add default via 169.254.%d.1 dev eth0 onlink", i), "route add default via fe80::1 dev eth0")
		p, err := Open(Config{
			Name: name, Addresses: addresses(i), Ports: []uint16{80, 81}, Inside: n.Do,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		s.places[name] = p
	}
	return s
}

func addresses(i int) []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), netip.MustParseAddr(fmt.Sprintf("fd00::%d", i+1))}
}

// answers asks for everything, of itself too, and gives what is reached. What is expected is waited for: on a busy machine
// an answer may take its time.
func (s *site) answers(expected func(line string) bool) string {
	s.Helper()
	var all []*Question
	for i, to := range []string{"a", "b"} {
		for _, from := range []string{"a", "b"} {
			for _, addr := range addresses(i) {
				for _, protocol := range []Protocol{TCP, UDP, SCTP} {
					for _, port := range s.places[to].config.Ports {
						q := &Question{From: s.places[from], To: netip.AddrPortFrom(addr, port), Protocol: protocol}
						q.Expected = expected(q.line())
						all = append(all, q)
					}
				}
			}
		}
	}
	if err := Ask(all, Patience{Expected: 20 * time.Second, Others: 300 * time.Millisecond}); err != nil {
		s.Fatal(err)
	}
	var b strings.Builder
	for _, q := range all {
		if q.Reached {
			b.WriteString(q.line())
		}
	}
	return b.String()
}

func (q *Question) line() string {
	return fmt.Sprintf("%s %s %s\n", q.From.config.Name, q.To, q.Protocol)
}

// itself is what a place reaches without the router.
func itself() string {
	var b strings.Builder
	for i, name := range []string{"a", "b"} {
		for _, addr := range addresses(i) {
			for _, protocol := range []Protocol{TCP, UDP, SCTP} {
				for _, port := range []uint16{80, 81} {
					fmt.Fprintf(&b, "%s %s %s\n", name, netip.AddrPortFrom(addr, port), protocol)
				}
			}
		}
	}
	return b.String()
}

func oneOf(lines string) func(line string) bool {
	return func(line string) bool { return strings.Contains(lines, line) }
}

// only gives the answers between the two.
func only(answers string) string {
	var b strings.Builder
	own := itself()
	for line := range strings.Lines(answers) {
		if !strings.Contains(own, line) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// What a packet filter that tracks connections lets through is reached, and nothing else is, however much of it was
// reached before.
func TestAsk(t *testing.T) {
	s := newSite(t)
	if have := s.answers(func(string) bool { return true }); strings.Count(have, "\n") != 48 {
		t.Fatalf("without filter not everything is reached:\n%s", have)
	}
	for _, command := range []string{"iptables", "ip6tables"} {
		for _, rule := range []string{
			"-P FORWARD DROP",
			"-A FORWARD -m conntrack --ctstate INVALID -j DROP",
			"-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
			"-A FORWARD -i a -p tcp --dport 80 -j ACCEPT",
			"-A FORWARD -i a -p tcp --dport 81 -j REJECT",
			"-A FORWARD -i b -p udp --dport 81 -j ACCEPT",
			"-A FORWARD -i a -p sctp --dport 81 -j ACCEPT",
		} {
			s.router.Run(append([]string{command, "-w"}, strings.Fields(rule)...)...)
		}
	}
	const want = `b 192.0.2.1:81 UDP
b [fd00::1]:81 UDP
a 192.0.2.2:80 TCP
a 192.0.2.2:81 SCTP
a [fd00::2]:80 TCP
a [fd00::2]:81 SCTP
`
	if have := only(s.answers(oneOf(itself() + want))); have != want {
		t.Errorf("have\n%swant\n%s", have, want)
	}
	// The connections are known to the router, and still nothing passes as one of them.
	for _, command := range []string{"iptables", "ip6tables"} {
		for range 4 {
			s.router.Run(command, "-w", "-D", "FORWARD", "3")
		}
	}
	if have := only(s.answers(oneOf(itself()))); have != "" {
		t.Errorf("without rules for new connections:\n%s", have)
	}
}

func TestFaults(t *testing.T) {
	n := netns.New(t)
	config := Config{Name: "x", Addresses: addresses(0), Ports: []uint16{80}, Inside: n.Do}
	if _, err := Open(config); err == nil || !strings.Contains(err.Error(), "open x: ") || !strings.Contains(err.Error(), "cannot assign requested address") {
		t.Errorf("opened at an address that there is not: %v", err)
	}
	config.Addresses = nil
	p, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	err = Ask([]*Question{{From: p, To: netip.MustParseAddrPort("192.0.2.1:80"), Protocol: UDP}}, Patience{})
	if err == nil || err.Error() != "ask from x: ask for UDP 192.0.2.1:80: there is no address of that family" {
		t.Errorf("error %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
