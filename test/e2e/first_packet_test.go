// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"korat/api"
	"korat/test/lab"
)

// The ports that a new pod is sent to, and is not to be reached at, that its own packets go to, and the one that is open.
const (
	floodPort = 7000
	shotPort  = 7200
	openPort  = 7100
)

// newPolicy lets a new pod be reached at one port, and reach nothing.
const newPolicy = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: new}
spec:
  selector: role == 'new'
  types: [Ingress, Egress]
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [7100]}}
`

// TestFirstPackets sends to addresses before pods have them, while they get them and after it, and has each pod send from the
// moment that it has an interface. What its policy forbids does not get there, neither the first packet nor one later, and
// the first connection that is allowed comes about at the first attempt. Pods without a policy show that packets do get there.
func TestFirstPackets(t *testing.T) {
	eachUnstarted(t, func(p *policed) {
		p.agent = p.start(p.h)
		p.choose()
		p.koratctl(p.h, "apply", newPolicy)
		s := &siege{policed: p, peer: p.labelled("peer"), shots: map[string]int{}}
		for _, addr := range s.peer.Addresses() {
			// One of the same block, that nobody gets who asks for none.
			last := addr.AsSlice()
			last[len(last)-1] ^= 0x20
			target, _ := netip.AddrFromSlice(last)
			s.targets = append(s.targets, target)
			s.floods = append(s.floods, s.flood(target))
		}
		s.counts("peer", s.peer)
		s.counts("host", p.h)
		s.free("free0")
		for i := range 10 {
			s.guarded(fmt.Sprint("new", i))
		}
		s.free("free1") // of which the packets come after all others
		for shot, n := range s.arrived() {
			if strings.HasPrefix(shot, "new") {
				s.Errorf("of packets forbidden %d have come of %s", n, shot)
			}
		}
	})
}

// siege is what is sent to and from the addresses of pods to be.
type siege struct {
	*policed
	peer    *lab.Pod
	targets []netip.Addr
	// floods count what is sent to each target.
	floods []*atomic.Int64
	mu     sync.Mutex
	// shots count what has come from pods to peer and host: "new0 to peer by IPv4".
	shots map[string]int
}

// besieged is a pod with the addresses. Its counts are of each family.
type besieged struct {
	*lab.Pod
	name string
	// flooded counts what has come to it of the floods, knocked the first packets of connections that are allowed, and
	// shot what it has sent itself.
	flooded, knocked, shot [2]atomic.Int64
	ends                   []func()
}

func shotName(pod, to string, family int) string {
	return fmt.Sprintf("%s to %s by %s", pod, to, api.Families()[family])
}

// free has a pod that no policy is for: it gets what is sent to it, and its own packets come through.
func (s *siege) free(name string) {
	s.Helper()
	b := s.add(name, "free")
	s.until("packets get to a pod that no policy is for, and out of it", func(context.Context) error {
		arrived := s.arrived()
		for i, target := range s.targets {
			in, peer, host := b.flooded[i].Load(), arrived[shotName(name, "peer", i)], arrived[shotName(name, "host", i)]
			if min(int(in), peer, host) < some {
				return fmt.Errorf("%s: %d packets have come to it, %d from it to the peer, %d to the host", target, in, peer, host)
			}
		}
		return nil
	})
	s.remove(b)
}

// guarded has a pod with the policy.
func (s *siege) guarded(name string) {
	s.Helper()
	b := s.add(name, "new")
	for _, target := range s.targets {
		s.connects(target)
	}
	var flood, shot [2]int64
	for i := range s.targets {
		flood[i], shot[i] = s.floods[i].Load(), b.shot[i].Load()
	}
	s.until("packets are sent to "+name+", and by it", func(context.Context) error {
		for i, target := range s.targets {
			if in, out := s.floods[i].Load()-flood[i], b.shot[i].Load()-shot[i]; in < some || out < some {
				return fmt.Errorf("%s: %d to it, %d by it", target, in, out)
			}
		}
		return nil
	})
	for i, target := range s.targets {
		s.connects(target)
		s.until("all that has come to "+name+" is counted", func(context.Context) error {
			if n := b.knocked[i].Load(); n < 2 {
				return fmt.Errorf("of two connections to %s %d are", target, n)
			}
			return nil
		})
		if n := b.flooded[i].Load(); n > 0 {
			s.Errorf("%s: %d packets forbidden have come to %s", name, n, target)
		}
	}
	s.remove(b)
}

// add makes a pod with the addresses, which counts what comes, listens and sends from the beginning.
func (s *siege) add(name, role string) *besieged {
	s.Helper()
	b := &besieged{name: name}
	pod, err := s.h.AddPod(s.limit(), lab.PodConfig{
		Name: name, Labels: map[string]string{"role": role}, Args: fmt.Sprintf("IP=%s,%s", s.targets[0], s.targets[1]),
		Before: func(pod *lab.Pod) error { return errors.Join(s.catch(pod, b), s.open(pod, b), s.shoot(pod, b)) },
	})
	if err != nil {
		s.Fatal(err)
	}
	b.Pod = pod
	return b
}

// remove removes the pod, while it is sent to and sends.
func (s *siege) remove(b *besieged) {
	s.Helper()
	if err := b.Delete(s.limit()); err != nil {
		s.Fatal(err)
	}
	for _, end := range b.ends {
		end()
	}
}

// ending has something end with the pod, or with the test.
func (s *siege) ending(b *besieged, end func()) {
	end = sync.OnceFunc(end)
	b.ends = append(b.ends, end)
	s.Cleanup(end)
}

// flood has the peer send to an address, whoever has it, until the test ends, and counts that.
func (s *siege) flood(to netip.Addr) *atomic.Int64 {
	s.Helper()
	conn, err := datagrams(s.peer, 0)
	if err != nil {
		s.Fatal(err)
	}
	sent := new(atomic.Int64)
	stop := always(func() {
		if _, err := conn.WriteTo([]byte("flood"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, floodPort))); err == nil {
			sent.Add(1)
		}
	})
	s.Cleanup(func() { stop(); _ = conn.Close() })
	return sent
}

func datagrams(where insider, port int) (conn net.PacketConn, err error) {
	err = where.Inside(func() (err error) {
		conn, err = net.ListenUDP("udp", &net.UDPAddr{Port: port})
		return err
	})
	return conn, err
}

// always does something again and again, until it is stopped.
func always(do func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(pace / 10)
		defer tick.Stop()
		for ; ctx.Err() == nil; <-tick.C {
			do()
		}
	}()
	return func() { cancel(); <-ended }
}

// counts counts what pods send to somebody.
func (s *siege) counts(name string, where insider) {
	s.Helper()
	conn, err := datagrams(where, shotPort)
	if err != nil {
		s.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for b := make([]byte, 64); ; {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			family := slices.Index(s.targets, from.(*net.UDPAddr).AddrPort().Addr().Unmap())
			s.mu.Lock()
			s.shots[shotName(strings.TrimSpace(string(b[:n])), name, max(family, 0))]++
			s.mu.Unlock()
		}
	}()
	s.Cleanup(func() { _ = conn.Close(); <-ended })
}

func (s *siege) arrived() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.shots)
}

// connects dials the port that is open, and wants the first SYN to be answered.
func (s *siege) connects(to netip.Addr) {
	s.Helper()
	conn, err := s.peer.Dial(s.limit(), "tcp", netip.AddrPortFrom(to, openPort).String())
	if err != nil {
		s.Errorf("a connection that is allowed: %v", err)
		return
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		s.Fatal(err)
	}
	var info *unix.TCPInfo
	var infoErr error
	err = raw.Control(func(fd uintptr) { info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err = errors.Join(err, infoErr); err != nil {
		s.Fatal(err)
	}
	if info.Total_retrans > 0 {
		s.Errorf("%s: a connection that is allowed was asked for %d times more", to, info.Total_retrans)
	}
}

// open has a pod listen on the port that is open.
func (s *siege) open(pod *lab.Pod, b *besieged) error {
	l, err := pod.Listen(s.ctx, "tcp", fmt.Sprintf(":%d", openPort))
	if err == nil {
		s.ending(b, func() { _ = l.Close() })
	}
	return err
}

// catch counts what comes to a pod, before the pod's own kernel has a say.
func (s *siege) catch(pod *lab.Pod, b *besieged) error {
	f, raw, err := packetSocket(pod, unix.ETH_P_ALL)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for packet := make([]byte, 2048); ; {
			n, err := receive(raw, packet)
			if err != nil {
				return
			}
			for i, target := range s.targets {
				switch payload := packetTo(packet[:n], target); {
				case payload.of(unix.IPPROTO_UDP, floodPort):
					b.flooded[i].Add(1)
				case payload.of(unix.IPPROTO_TCP, openPort) && payload.isSYN():
					b.knocked[i].Add(1)
				}
			}
		}
	}()
	s.ending(b, func() { _ = f.Close(); <-ended })
	return nil
}

// shoot has a pod send to the peer and its host from the moment that it has an interface, whether or not that has an
// address yet.
func (s *siege) shoot(pod *lab.Pod, b *besieged) error {
	f, raw, err := packetSocket(pod, 0) // which gets nothing
	if err != nil {
		return err
	}
	device := 0
	stop := always(func() {
		if device == 0 {
			device = deviceOf(pod)
		}
		for i, from := range s.targets {
			for _, to := range []netip.Addr{s.peer.Addresses()[i], s.h.Addresses()[i]} {
				if device > 0 && transmit(raw, device, datagram(from, to, shotPort, b.name)) == nil { // which fails until it is up
					b.shot[i].Add(1)
				}
			}
		}
	})
	s.ending(b, func() { stop(); _ = f.Close() })
	return nil
}

// deviceOf gives the index of a pod's interface, 0 while there is none.
func deviceOf(pod *lab.Pod) (index int) {
	_ = pod.Inside(func() error { // and later there is no pod
		if i, err := net.InterfaceByName("eth0"); err == nil {
			index = i.Index
		}
		return nil
	})
	return index
}
