// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
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

// hostTimes are one host's. What did not happen is zero.
type hostTimes struct {
	host  *lab.Host
	peers int

	mu sync.Mutex
	// ready is when /readyz said so; sessions when the last session came up; ping when a pod of this
	// host had its first answer from a pod of another.
	ready, sessions, ping time.Time
	// routes has the moment at which the kernel told of each learned route.
	routes map[string]time.Time
}

// newStopwatch begins to listen to the kernel of each host.
func newStopwatch(ctx context.Context, hosts []*lab.Host) (*stopwatch, error) {
	w := &stopwatch{}
	for _, h := range hosts {
		t := &hostTimes{host: h, peers: len(hosts) - 1, routes: map[string]time.Time{}}
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

// learned matches a notice of a route via another host, as in "172.17.1.0/24 via 192.168.100.101 dev eth0 …".
var learned = regexp.MustCompile(`^([0-9.]+/[0-9]+) via [0-9.]+ dev eth`)

func (t *hostTimes) routeNotice(line string) {
	now := time.Now()
	match := learned.FindStringSubmatch(line)
	if match == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.routes[match[1]].IsZero() {
		t.routes[match[1]] = now
	}
}

// ready notes that a host's agent is ready.
func (w *stopwatch) ready(h *lab.Host) {
	now := time.Now()
	for _, t := range w.hosts {
		if t.host == h {
			t.mu.Lock()
			t.ready = now
			t.mu.Unlock()
		}
	}
}

// measure waits for sessions, routes and first pings. What does not come in time stays unknown; the
// ping matrix will say so.
func (w *stopwatch) measure(ctx context.Context, c *lab.Cluster) {
	ctx, cancel := context.WithTimeout(ctx, limit/3)
	defer cancel()
	var all sync.WaitGroup
	for i, t := range w.hosts {
		all.Go(func() { t.awaitSessions(ctx) })
		next := w.hosts[(i+1)%len(w.hosts)].host
		if pods := t.host.Pods(); len(pods) > 0 && len(next.Pods()) > 0 && next != t.host {
			all.Go(func() { t.awaitPing(ctx, pods[0], next.Pods()[0]) })
		}
	}
	all.Wait()
}

func (t *hostTimes) awaitSessions(ctx context.Context) {
	_ = lab.Until(ctx, "sessions are up", func(ctx context.Context) error {
		status, err := nodeStatus(ctx, t.host)
		if err != nil {
			return err
		}
		last, up := time.Time{}, 0
		for _, s := range status.Sessions {
			if s.State == "Established" && s.Since != nil {
				up++
				if s.Since.After(last) {
					last = *s.Since
				}
			}
		}
		if up < t.peers {
			return fmt.Errorf("%d of %d are", up, t.peers)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.sessions = last
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

func (t *hostTimes) awaitPing(ctx context.Context, from, to *lab.Pod) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := from.Command(ctx, "ping", "-n", "-i", "0.02", to.Address().String())
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "bytes from") {
			t.mu.Lock()
			t.ping = time.Now()
			t.mu.Unlock()
			break
		}
	}
	cancel()
	_ = cmd.Wait() // It ends by being killed.
}
