// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"korat/test/lab"
)

const (
	// pace is between two packets of a stream.
	pace = 2 * time.Millisecond
	// under is how long a packet may be under way: later it counts as lost.
	under = 200 * time.Millisecond
	// some packets tell of a moment.
	some = 50
)

// receiver is a UDP socket in a pod that notes which packets of which flows have come, and may answer them.
type receiver struct {
	pod     *lab.Pod
	port    int
	answers bool
	conn    net.PacketConn

	mu    sync.Mutex
	flows []*flow
}

// flow is what one pod sends to a receiver, a numbered packet in each pace. To the connection tracking it is new until
// it is answered.
type flow struct {
	mu   sync.Mutex
	sent []time.Time
	got  map[int]time.Time
}

// receiver listens until the test ends.
func (w *world) receiver(pod *lab.Pod, port int, answers bool) *receiver {
	w.Helper()
	r := &receiver{pod: pod, port: port, answers: answers}
	err := pod.Inside(func() (err error) {
		var config net.ListenConfig
		r.conn, err = config.ListenPacket(w.ctx, "udp", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.run()
	}()
	w.Cleanup(func() {
		_ = r.conn.Close()
		<-ended
	})
	return r
}

// run notes what comes until the socket is closed.
func (r *receiver) run() {
	b := make([]byte, 16)
	for {
		n, from, err := r.conn.ReadFrom(b)
		if err != nil {
			return
		}
		if n != 16 {
			continue
		}
		r.mu.Lock()
		s := r.flows[binary.BigEndian.Uint64(b)]
		r.mu.Unlock()
		s.mu.Lock()
		s.got[int(binary.BigEndian.Uint64(b[8:]))] = time.Now()
		s.mu.Unlock()
		if r.answers {
			_, _ = r.conn.WriteTo(b, from) // nobody reads it
		}
	}
}

// send has a pod send to a receiver until the test ends.
func (w *world) send(to *receiver, from *lab.Pod) *flow {
	w.Helper()
	conn, err := from.Dial(w.ctx, "udp", fmt.Sprintf("%s:%d", to.pod.Address(), to.port))
	if err != nil {
		w.Fatal(err)
	}
	s := &flow{got: map[int]time.Time{}}
	to.mu.Lock()
	number := len(to.flows)
	to.flows = append(to.flows, s)
	to.mu.Unlock()
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.run(ctx, conn, number)
	}()
	w.Cleanup(func() {
		cancel()
		<-ended
		_ = conn.Close()
	})
	return s
}

func (s *flow) run(ctx context.Context, conn net.Conn, number int) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	b := make([]byte, 16)
	binary.BigEndian.PutUint64(b, uint64(number))
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		binary.BigEndian.PutUint64(b[8:], uint64(len(s.sent)))
		s.sent = append(s.sent, time.Now())
		s.mu.Unlock()
		_, _ = conn.Write(b) // what is lost is seen at the other end
	}
}

// next is the number of the packet that is sent next.
func (s *flow) next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent)
}

// passed gives when those from a number on have come.
func (s *flow) passed(from int) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []time.Time
	for n, at := range s.got {
		if n >= from {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}

// lost counts those between two numbers that have not come, without those that may be under way.
func (s *flow) lost(from, end int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := 0
	for n := from; n < end && time.Since(s.sent[n]) > under; n++ {
		if _, ok := s.got[n]; !ok {
			lost++
		}
	}
	return lost
}

// lately says how many of the last packets have come, of those from a number on that are no longer under way.
func (s *flow) lately(from int) (passed, of int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := len(s.sent)
	for end > 0 && time.Since(s.sent[end-1]) <= under {
		end--
	}
	for n := max(from, end-some); n < end; n++ {
		if of++; !s.got[n].IsZero() {
			passed++
		}
	}
	return passed, of
}
