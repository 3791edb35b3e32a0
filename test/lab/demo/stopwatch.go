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

// stopwatch notes when things happened on the way from each host to the next one, for each family.
type stopwatch struct {
	ways  []*way
	stops []func()
}

// way is from one host to the next; its times are the first one's. What did not happen is zero.
type way struct {
	host, next *lab.Host
	family     family

	mu sync.Mutex
	// ready is when /readyz said so; session when the one to the next host came up; route when the
	// kernel told of the first route to it; ping when it first answered, from pod to pod.
	ready, session, route, ping time.Time
}

// newStopwatch begins to listen to the kernel of each host.
func newStopwatch(ctx context.Context, c *lab.Cluster) (*stopwatch, error) {
	w := &stopwatch{}
	hosts := c.Hosts()
	for i, h := range hosts {
		var from []*way
		for _, f := range families(c) {
			from = append(from, &way{host: h, next: hosts[(i+1)%len(hosts)], family: f})
		}
		w.ways = append(w.ways, from...)
		stop, err := follow(ctx, h, func(line string) {
			for _, t := range from {
				t.routeNotice(line)
			}
		}, "ip", "-o", "monitor", "route")
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

func (t *way) routeNotice(line string) {
	now := time.Now()
	// As in "172.17.1.0/24 via 192.168.100.101 dev eth0 proto …".
	if _, after, _ := strings.Cut(line, " via "); strings.HasPrefix(after, t.family.of(t.next).String()+" ") {
		t.note(&t.route, now)
	}
}

// note sets one of the times, once.
func (t *way) note(which *time.Time, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if which.IsZero() {
		*which = at
	}
}

// ready notes that a host's agent is ready.
func (w *stopwatch) ready(h *lab.Host) {
	now := time.Now()
	for _, t := range w.ways {
		if t.host == h {
			t.note(&t.ready, now)
		}
	}
}

// measure waits for sessions and first pings.
func (w *stopwatch) measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit/3)
	defer cancel()
	errs := make([]error, 2*len(w.ways))
	var all sync.WaitGroup
	for i, t := range w.ways {
		all.Go(func() { errs[2*i] = t.awaitSessions(ctx, len(w.stops)-1) })
		if from, to := t.host.Pods(), t.next.Pods(); len(from) > 0 && len(to) > 0 && t.next != t.host {
			all.Go(func() { errs[2*i+1] = t.awaitPing(ctx, from[0], to[0]) })
		}
	}
	all.Wait()
	return errors.Join(errs...)
}

// awaitSessions waits until all of the family are up, and notes the one to the next host.
func (t *way) awaitSessions(ctx context.Context, want int) error {
	return lab.Until(ctx, fmt.Sprintf("the %s sessions of host %s are up", t.family, t.host.Name), func(ctx context.Context) error {
		status, err := nodeStatus(ctx, t.host)
		if err != nil {
			return err
		}
		up := 0
		for _, s := range status.Sessions {
			if s.State != "Established" || s.Since == nil || strings.Contains(s.Address, ":") != (t.family == ipv6) {
				continue
			}
			up++
			if s.Address == t.family.of(t.next).String() {
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
func (t *way) awaitPing(ctx context.Context, from, to *lab.Pod) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := from.Command(ctx, "ping", "-n", "-i", "0.02", t.family.of(to).String())
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
		return fmt.Errorf("ping %s (%s) from %s: no answer", to.Name, t.family.of(to), from.Name)
	}
	return nil
}
