// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"korat/bgp/speaker/status"
	"korat/felix"
	"korat/test/lab"
)

// TestRestartsLoseNoPacket kills and restarts agent and speaker in every way while 100 packets a second of
// each family run to and from their pods. Host a's agent is the datastore too.
func TestRestartsLoseNoPacket(t *testing.T) {
	w := clusterOf(t, lab.Dual, 3)
	a, b, c := w.host("a"), w.host("b"), w.host("c")
	a1, b1, c1 := w.pod(a, "a1"), w.pod(b, "b1"), w.pod(c, "c1")
	w.matrix(w.places())
	for i, h := range []*lab.Host{b, a} {
		agent := w.Agents[1-i]
		pings := slices.Concat(w.pings(a1, b1), w.pings(b1, a1), w.pings(a1, c1), w.pings(c1, a1), w.pings(b1, c1), w.pings(c1, b1))
		monitors := []*monitor{w.monitor(a), w.monitor(b), w.monitor(c)}
		w.flowing(pings)

		t.Logf("%s: agent killed", h.Name)
		before := w.sessionsOfPeers(h, w.Hosts()...)
		if err := agent.Kill(); err != nil {
			t.Fatal(err)
		}
		w.flowing(pings)
		agent = w.start(h)
		w.ready(agent)
		w.meshed(a, b, c)
		w.flowing(pings)
		if after := w.sessionsOfPeers(h, w.Hosts()...); after != before {
			t.Errorf("%s: its agent's death was seen by sessions: before\n%s\nafter\n%s", h.Name, before, after)
		}

		t.Logf("%s: speaker killed", h.Name)
		old := w.speaker(h)
		w.kill(old, syscall.SIGKILL)
		w.flapped(h, 1, a, b, c)
		w.meshed(a, b, c)
		w.flowing(pings)
		if now := w.speaker(h); now == old {
			t.Errorf("%s: the speaker was not restarted", h.Name)
		}

		t.Logf("%s: both stopped", h.Name)
		if err := agent.Stop(w.limit()); err != nil {
			t.Errorf("SIGTERM: %v", err)
		}
		w.kill(w.speaker(h), syscall.SIGTERM)
		w.until("the speaker has ended", func(context.Context) error {
			if pids := h.Pids("korat-node", "speaker"); len(pids) > 0 {
				return fmt.Errorf("process %v", pids)
			}
			return nil
		})
		w.flowing(pings)
		agent = w.start(h)
		w.ready(agent)
		w.flapped(h, 2, a, b, c)
		w.meshed(a, b, c)
		w.flowing(pings)

		for _, p := range pings {
			w.allAnswered(p)
		}
		for _, m := range monitors {
			if changes := w.changes(m); len(changes) > 0 {
				t.Errorf("%s: its kernel was changed on the way:\n%s", m.host.Name, strings.Join(changes, "\n"))
			}
		}
	}
}

// TestUnchangedRestartWritesNothing listens to the kernel while the agent restarts.
func TestUnchangedRestartWritesNothing(t *testing.T) {
	w := clusterOf(t, lab.Dual, 2)
	a, b := w.host("a"), w.host("b")
	w.pod(a, "a1")
	w.pod(b, "b1")
	w.pod(b, "b2")
	w.matrix(w.places())
	for i, h := range []*lab.Host{b, a} {
		m := w.monitor(h)
		before := w.sessionsOfPeers(h, w.Hosts()...)
		agent := w.Agents[1-i]
		if err := agent.Stop(w.limit()); err != nil {
			t.Errorf("%s: SIGTERM: %v", h.Name, err)
		}
		agent = w.start(h)
		w.ready(agent)
		w.meshed(a, b)
		if changes := w.changes(m); len(changes) > 0 {
			t.Errorf("%s: the kernel was changed:\n%s", h.Name, strings.Join(changes, "\n"))
		}
		if n := w.metric(h, "korat_step_changes_total"); n != 0 {
			t.Errorf("%s: the agent says that it made %v changes", h.Name, n)
		}
		if after := w.sessionsOfPeers(h, w.Hosts()...); after != before {
			t.Errorf("%s: the restart was seen by sessions: before\n%s\nafter\n%s", h.Name, before, after)
		}
	}
	w.matrix(w.places())
}

// sessionsOfPeers says what the hosts other than h know of their sessions with h that a loss would change. The
// times are the speakers' own: node status begins with the agent's, and takes these over later.
func (w *world) sessionsOfPeers(h *lab.Host, hosts ...*lab.Host) string {
	w.Helper()
	var all strings.Builder
	for _, other := range hosts {
		if other == h {
			continue
		}
		for _, have := range w.sessions(other, h.Name) {
			fmt.Fprintf(&all, "%s: %s %s, up since %s, lost %d times\n", other.Name, have.Address, have.State, w.up(other, have.Address), have.Flaps)
		}
	}
	return all.String()
}

// up says since when a host's speaker has had its session with an address.
func (w *world) up(h *lab.Host, address string) time.Time {
	w.Helper()
	var s status.Peer
	w.until(h.Name+"'s speaker has noted its session with "+address, func(ctx context.Context) error {
		text, err := h.Exec(ctx, "cat", "/run/korat/speaker.sock.status.json")
		if err != nil {
			return err
		}
		var file status.File
		if err := json.Unmarshal([]byte(text), &file); err != nil {
			return err
		}
		if s = file.Peers[netip.MustParseAddr(address)]; s.Up.IsZero() || s.Reason != "" {
			return fmt.Errorf("it says %+v of %s", s, address)
		}
		return nil
	})
	return s.Up
}

// flapped waits until the hosts other than h have seen each of their sessions with h lost this often.
func (w *world) flapped(h *lab.Host, times uint32, hosts ...*lab.Host) {
	w.Helper()
	for _, other := range hosts {
		if other == h {
			continue
		}
		w.until(other.Name+" has lost its session with "+h.Name, func(ctx context.Context) error {
			s, err := w.status(ctx, other)
			if err != nil {
				return err
			}
			return lost(s.Sessions, h.Name, times)
		})
	}
}

func lost(sessions []felix.SessionStatus, peer string, times uint32) error {
	with := slices.DeleteFunc(slices.Clone(sessions), func(s felix.SessionStatus) bool { return s.Name != peer })
	if len(with) == 0 || slices.ContainsFunc(with, func(s felix.SessionStatus) bool { return s.Flaps != times }) {
		return fmt.Errorf("want sessions with %s lost %d times: %+v", peer, times, sessions)
	}
	return nil
}

// speaker is the process of a host's only speaker.
func (w *world) speaker(h *lab.Host) int {
	w.Helper()
	pids := h.Pids("korat-node", "speaker")
	if len(pids) != 1 {
		w.Fatalf("speakers on %s: %v, want one", h.Name, pids)
	}
	return pids[0]
}

func (w *world) kill(pid int, signal syscall.Signal) {
	w.Helper()
	if err := syscall.Kill(pid, signal); err != nil {
		w.Fatalf("send %s to %d: %v", signal, pid, err)
	}
}

// pinging is a ping of 100 packets a second.
type pinging struct {
	*lab.Process
	from, to string
}

// pings has one to each address.
func (w *world) pings(from, to *lab.Pod) []*pinging {
	w.Helper()
	var all []*pinging
	for _, addr := range to.Addresses() {
		w.started++
		p, err := from.Start(fmt.Sprintf("ping-%d", w.started), "ping", "-n", "-i", "0.01", addr.String())
		if err != nil {
			w.Fatal(err)
		}
		all = append(all, &pinging{p, from.Name, to.Name + " (" + addr.String() + ")"})
	}
	return all
}

var sequence = regexp.MustCompile(`bytes from [0-9a-f.:]+: icmp_seq=(\d+) ttl`)

// answered gives the numbers of the packets that were answered. ping counts from 1.
func (w *world) answered(p *pinging) map[int]bool {
	w.Helper()
	log, err := p.Log()
	if err != nil {
		w.Fatal(err)
	}
	all := map[int]bool{}
	for _, match := range sequence.FindAllStringSubmatch(log, -1) {
		n, err := strconv.Atoi(match[1])
		if err != nil {
			w.Fatal(err)
		}
		all[n] = true
	}
	return all
}

// flowing waits until each ping has had some more answers.
func (w *world) flowing(pings []*pinging) {
	w.Helper()
	for _, p := range pings {
		before := len(w.answered(p))
		w.until(p.from+" hears from "+p.to, func(context.Context) error {
			if now := len(w.answered(p)); now < before+20 {
				return fmt.Errorf("%d answers, %d before", now, before)
			}
			return nil
		})
	}
}

var summary = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// allAnswered ends a ping and holds what it sent against what it got. The interrupt may come between
// the last packet and its answer; no other may be missing.
func (w *world) allAnswered(p *pinging) {
	w.Helper()
	if err := p.Signal(syscall.SIGINT); err != nil {
		w.Fatal(err)
	}
	if err := p.Wait(w.limit()); err != nil {
		w.Error(err)
	}
	log, err := p.Log()
	if err != nil {
		w.Fatal(err)
	}
	match := summary.FindStringSubmatch(log)
	if match == nil {
		w.Fatalf("ping %s to %s ends without a summary:\n%s", p.from, p.to, log)
	}
	sent, err := strconv.Atoi(match[1])
	if err != nil {
		w.Fatal(err)
	}
	answered := w.answered(p)
	for n := 1; n < sent; n++ {
		if !answered[n] {
			w.Errorf("ping %s to %s: packet %d of %d was lost", p.from, p.to, n, sent)
		}
	}
	w.Logf("ping %s to %s: %s", p.from, p.to, match[0])
}
