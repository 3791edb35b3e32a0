// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"korat/test/lab"
)

// stream is a flow with data going both ways all the time: what is sent comes back.
type stream struct {
	name string
	// echoed counts what came back, the last time at that of Unix, and lost the datagrams that did not.
	echoed, at, lost atomic.Int64
	// failed is why it ended by itself.
	failed atomic.Pointer[error]
}

const (
	echoPort   = "80"
	messageLen = 1000
	// beat is the pause between two messages, and tired how long a datagram is waited for before the next one is sent.
	beat, tired = 5 * time.Millisecond, 200 * time.Millisecond
	// still is how long nothing comes back from a flow that is cut.
	still = time.Second
)

// answerer is a host or a pod.
type answerer interface {
	lab.Addressed
	insider
}

// echoes makes a pod or a host send back what it is sent, on every address of its own.
func (w *world) echoes(p answerer) {
	w.Helper()
	for _, addr := range p.Addresses() {
		at := net.JoinHostPort(addr.String(), echoPort)
		var l net.Listener
		var datagrams net.PacketConn
		err := p.Inside(func() (err error) {
			if l, err = new(net.ListenConfig).Listen(w.ctx, "tcp", at); err != nil {
				return err
			}
			datagrams, err = new(net.ListenConfig).ListenPacket(w.ctx, "udp", at)
			return err
		})
		if err != nil {
			w.Fatal(err)
		}
		w.Cleanup(func() { _, _ = l.Close(), datagrams.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					_, _ = io.Copy(c, c)
				}()
			}
		}()
		go func() {
			b := make([]byte, messageLen)
			for {
				n, from, err := datagrams.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = datagrams.WriteTo(b[:n], from)
			}
		}()
	}
}

// dialler is a host or a pod.
type dialler interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// streams opens a stream of each protocol to each address of another pod.
func (w *world) streams(from, to *lab.Pod) []*stream {
	w.Helper()
	return w.streamsTo(from, from.Name+" to "+to.Name, to.Addresses())
}

// streamsTo opens one of each protocol to each of the addresses.
func (w *world) streamsTo(from dialler, name string, to []netip.Addr) []*stream {
	w.Helper()
	var all []*stream
	for _, network := range []string{"tcp", "udp"} {
		for _, addr := range to {
			c, err := from.Dial(w.limit(), network, net.JoinHostPort(addr.String(), echoPort))
			if err != nil {
				w.Fatal(err)
			}
			all = append(all, w.stream(fmt.Sprintf("%s, %s %s", name, network, addr), c, network))
		}
	}
	return all
}

// echoFlows opens a stream of echo requests to each address of another pod.
func (w *world) echoFlows(from, to *lab.Pod) []*stream {
	w.Helper()
	var all []*stream
	for _, addr := range to.Addresses() {
		c, err := openEcho(w.limit(), from, addr)
		if err != nil {
			w.Fatal(err)
		}
		all = append(all, w.stream(fmt.Sprintf("%s to %s, ping %s", from.Name, to.Name, addr), c, "icmp"))
	}
	return all
}

// stream sends and hears until the test ends.
func (w *world) stream(name string, c net.Conn, network string) *stream {
	s := &stream{name: name}
	done := make(chan struct{})
	w.Cleanup(func() { _ = c.Close(); <-done })
	go func() {
		defer close(done)
		err := s.run(c, network)
		s.failed.Store(&err)
	}()
	return s
}

// run sends and hears until the connection is closed.
func (s *stream) run(c net.Conn, network string) error {
	for n := uint64(1); ; n++ {
		sent := binary.BigEndian.AppendUint64(nil, n)
		sent = append(sent, bytes.Repeat([]byte{byte(n)}, messageLen-len(sent))...)
		// A host's own packet that is dropped on its way out is an error of its sender.
		if _, err := c.Write(sent); err != nil && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.EPERM) {
			return err
		}
		var err error
		if network == "tcp" {
			err = s.hear(c, sent)
		} else {
			err = s.hearDatagram(c, sent)
		}
		if err != nil {
			return err
		}
		time.Sleep(beat) // the sender's pace, and no waiting for anything
	}
}

func (s *stream) hear(c net.Conn, want []byte) error {
	have := make([]byte, len(want))
	if _, err := io.ReadFull(c, have); err != nil {
		return err
	}
	if !bytes.Equal(have, want) {
		return errors.New("something else came back than was sent")
	}
	s.came()
	return nil
}

func (s *stream) came() {
	s.at.Store(time.Now().UnixNano())
	s.echoed.Add(1)
}

// hearDatagram waits for the one that was sent last.
func (s *stream) hearDatagram(c net.Conn, want []byte) error {
	if err := c.SetReadDeadline(time.Now().Add(tired)); err != nil {
		return err
	}
	have := make([]byte, len(want))
	for {
		n, err := c.Read(have)
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			s.lost.Add(1)
			return nil
		case errors.Is(err, syscall.ECONNREFUSED):
			continue
		case err != nil:
			return err
		case bytes.Equal(have[:n], want):
			s.came()
			return nil
		default: // it was given up, and is only late
			s.lost.Add(-1)
		}
	}
}

// going waits until all streams go on.
func (w *world) going(streams ...*stream) {
	w.Helper()
	for _, s := range streams {
		before := s.echoed.Load()
		w.until(s.name+" goes on", func(context.Context) error {
			if failed := s.failed.Load(); failed != nil {
				return fmt.Errorf("it ended: %w", *failed)
			}
			if now := s.echoed.Load(); now < before+20 {
				return fmt.Errorf("%d came back", now-before)
			}
			return nil
		})
	}
}

// cut waits until nothing comes back from the streams any more.
func (w *world) cut(streams ...*stream) {
	w.Helper()
	began, last := time.Now(), time.Time{}
	w.until("all are cut", func(context.Context) error {
		for _, s := range streams {
			at := time.Unix(0, s.at.Load())
			if at.After(last) {
				last = at
			}
			if time.Since(at) < still {
				return fmt.Errorf("%s: something comes back", s.name)
			}
		}
		return nil
	})
	w.Logf("the last of %d flows was cut after %s", len(streams), max(0, last.Sub(began)).Round(time.Millisecond))
}

// whole fails the test if something was lost.
func (w *world) whole(streams ...*stream) {
	w.Helper()
	w.going(streams...)
	for _, s := range streams {
		if n := s.lost.Load(); n > 0 {
			w.Errorf("%s: %d datagrams were lost", s.name, n)
		}
	}
}

// tracked gives what the host's connection tracking has of an address.
func (w *world) tracked(h *lab.Host, addr netip.Addr) string {
	w.Helper()
	family := "ipv4"
	if addr.Is6() {
		family = "ipv6"
	}
	var found strings.Builder
	for line := range strings.Lines(w.run(h, "conntrack -L -f "+family)) {
		if strings.Contains(line, "="+addr.String()+" ") {
			found.WriteString(line)
		}
	}
	return found.String()
}

func (w *world) labelled(h *lab.Host, name, role string) *lab.Pod {
	w.Helper()
	p, err := h.AddPod(w.limit(), lab.PodConfig{Name: name, Labels: map[string]string{"role": role}})
	if err != nil {
		w.Fatal(err)
	}
	return p
}

const onlyFriends = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: only-friends, namespace: default}
spec:
  selector: role == 'server'
  types: [Ingress]
  ingress:
  - {action: Allow, source: {selector: role == 'friend'}}
`

// TestRevocation has flows between pods of one host and of two, and changes policies under them: those that a policy
// forbids are cut, and nothing is lost of the others.
func TestRevocation(t *testing.T) {
	w := clusterOf(t, lab.Dual, 2)
	a, b := w.host("a"), w.host("b")
	server := w.labelled(a, "server", "server")
	w.echoes(server)
	friend, far := w.labelled(a, "friend", "friend"), w.labelled(b, "far", "friend")
	foe, distant := w.labelled(a, "foe", "foe"), w.labelled(b, "distant", "foe")
	var friends, foes []*stream
	for _, p := range []*lab.Pod{friend, far} {
		friends = append(append(friends, w.streams(p, server)...), w.echoFlows(p, server)...)
	}
	for _, p := range []*lab.Pod{foe, distant} {
		foes = append(append(foes, w.streams(p, server)...), w.echoFlows(p, server)...)
	}
	w.going(append(friends, foes...)...)

	w.koratctl(a, "apply", onlyFriends)
	w.cut(foes...)
	w.whole(friends...)

	// What is allowed again goes on where it was.
	w.koratctl(a, "delete", onlyFriends)
	w.going(foes...)
	w.whole(friends...)

	// A peer that loses its label is no friend any more.
	w.koratctl(a, "apply", onlyFriends)
	w.cut(foes...)
	w.run(a, "koratctl label pod far role=stranger --overwrite -n default")
	near, strangers := friends[:len(friends)/2], friends[len(friends)/2:]
	w.cut(strangers...)
	w.whole(near...)

	// While no agent runs nothing is cut; the next one cuts what has been forbidden meanwhile, and nothing else.
	quiet := w.listening(b, "quiet")
	more := append(w.streams(distant, quiet), w.echoFlows(distant, quiet)...)
	if err := w.Agents[1].Stop(w.limit()); err != nil {
		t.Fatal(err)
	}
	w.koratctl(a, "apply", noEgress)
	w.going(more...)
	agent := w.start(b)
	w.ready(agent)
	w.cut(more...)
	w.whole(near...)
	if err := w.Agents[0].Stop(w.limit()); err != nil {
		t.Fatal(err)
	}
	w.ready(w.start(a))
	w.whole(near...)
	w.koratctl(a, "delete", noEgress)
	w.going(more...)

	// A pod that is gone leaves no flow behind for who gets its address.
	addresses := friend.Addresses()
	if err := friend.Delete(w.limit()); err != nil {
		t.Fatal(err)
	}
	for _, addr := range addresses {
		w.until("flows of "+addr.String()+" are gone", func(context.Context) error {
			if text := w.tracked(a, addr); text != "" {
				return errors.New(text)
			}
			return nil
		})
	}
	for _, s := range near {
		s.echoed.Store(0)
	}
}

const noEgress = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: no-egress}
spec:
  selector: role == 'foe'
  types: [Egress]
`

// listening gives a pod that sends back what it is sent.
func (w *world) listening(h *lab.Host, name string) *lab.Pod {
	w.Helper()
	p := w.labelled(h, name, name)
	w.echoes(p)
	return p
}
