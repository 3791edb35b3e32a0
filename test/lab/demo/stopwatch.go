// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"korat/cni-plugin/socket"
	"korat/felix"
	"korat/test/lab"
)

// stopwatch notes when things happened on each host.
type stopwatch struct {
	hosts []*hostTimes
	stops []func()
}

// hostTimes are one host's, all but ready on the way to the next host. What did not happen is zero.
type hostTimes struct {
	host, next *lab.Host

	mu sync.Mutex
	// ready is when /readyz said so; session when the one to the next host came up; route when the
	// kernel told of the first route to it; ping when it first answered, from pod to pod.
	ready, session, route, ping time.Time
}

// newStopwatch begins to listen to the kernel of each host.
func newStopwatch(ctx context.Context, hosts []*lab.Host) (*stopwatch, error) {
	w := &stopwatch{}
	for i, h := range hosts {
		t := &hostTimes{host: h, next: hosts[(i+1)%len(hosts)]}
		w.hosts = append(w.hosts, t)
		stop, err := follow(ctx, h, t.routeNotice, "ip", "-o", "monitor", "route")
		if err != nil {
			w.stop()
			return nil, err
		}
		w.stops = append(w.stops, stop)
	}
	return w, nil
}

func (w *stopwatch) stop() {
	for _, stop := range w.stops {
		stop()
	}
}

// follow hands every line that a program on a host prints to a function, until stop.
func follow(ctx context.Context, h *lab.Host, line func(string), argv ...string) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := h.Command(ctx, argv...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start %s on %s: %w", strings.Join(argv, " "), h.Name, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			line(lines.Text())
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // It ends by being killed.
	}()
	return func() { cancel(); <-done }, nil
}

func (t *hostTimes) routeNotice(line string) {
	now := time.Now()
	// As in "172.17.1.0/24 via 192.168.100.101 dev eth0 proto …".
	if _, after, _ := strings.Cut(line, " via "); strings.HasPrefix(after, t.next.Address().String()+" ") {
		t.note(&t.route, now)
	}
}

// note sets one of the times, once.
func (t *hostTimes) note(which *time.Time, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if which.IsZero() {
		*which = at
	}
}

// ready notes that a host's agent is ready.
func (w *stopwatch) ready(h *lab.Host) {
	now := time.Now()
	for _, t := range w.hosts {
		if t.host == h {
			t.note(&t.ready, now)
		}
	}
}

// measure waits for sessions and first pings.
func (w *stopwatch) measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit/3)
	defer cancel()
	errs := make([]error, 2*len(w.hosts))
	var all sync.WaitGroup
	for i, t := range w.hosts {
		all.Go(func() { errs[2*i] = t.awaitSessions(ctx, len(w.hosts)-1) })
		if from, to := t.host.Pods(), t.next.Pods(); len(from) > 0 && len(to) > 0 && t.next != t.host {
			all.Go(func() { errs[2*i+1] = t.awaitPing(ctx, from[0], to[0]) })
		}
	}
	all.Wait()
	return errors.Join(errs...)
}

// awaitSessions waits until all are up, and notes the one to the next host.
func (t *hostTimes) awaitSessions(ctx context.Context, want int) error {
	return lab.Until(ctx, "the sessions of host "+t.host.Name+" are up", func(ctx context.Context) error {
		status, err := nodeStatus(ctx, t.host)
		if err != nil {
			return err
		}
		up := 0
		for _, s := range status.Sessions {
			if s.State != "Established" || s.Since == nil {
				continue
			}
			up++
			if s.Address == t.next.Address().String() {
				t.note(&t.session, *s.Since)
			}
		}
		if up < want {
			return fmt.Errorf("%d of %d are", up, want)
		}
		return nil
	})
}

// nodeStatus asks a host's agent.
func nodeStatus(ctx context.Context, h *lab.Host) (felix.NodeStatus, error) {
	var status felix.NodeStatus
	conn, err := h.Dial(ctx, "unix", socket.DefaultPath)
	if err != nil {
		return status, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // Fails only on a closed connection.
	}
	if err := json.NewEncoder(conn).Encode(socket.Request{Verb: socket.VerbNodeStatus}); err != nil {
		return status, err
	}
	var reply socket.Reply
	if err := json.NewDecoder(conn).Decode(&reply); err != nil {
		return status, err
	}
	if reply.Error != nil {
		return status, reply.Error
	}
	return status, json.Unmarshal(reply.Status, &status)
}

// awaitPing pings until the first answer.
func (t *hostTimes) awaitPing(ctx context.Context, from, to *lab.Pod) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := from.Command(ctx, "ping", "-n", "-i", "0.02", to.Address().String())
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("ping %s from %s: %w", to.Name, from.Name, err)
	}
	answered := false
	for lines := bufio.NewScanner(out); !answered && lines.Scan(); {
		answered = strings.Contains(lines.Text(), "bytes from")
	}
	if answered {
		t.note(&t.ping, time.Now())
	}
	cancel()
	_ = cmd.Wait() // It ends by being killed.
	if !answered {
		return fmt.Errorf("ping %s (%s) from %s: no answer", to.Name, to.Address(), from.Name)
	}
	return nil
}
