// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"korat/test/lab"
)

// monitor notes everything that a host's kernel tells of changes.
type monitor struct {
	*lab.Process
	host *lab.Host
}

// canary is a route of nobody's that shows how far the monitor has read: the kernel's notices come in
// the order of the changes.
const canary = "blackhole 203.0.113.113"

// monitor returns when it listens.
func (w *world) monitor(h *lab.Host) *monitor {
	w.Helper()
	w.started++
	p, err := h.Start(fmt.Sprintf("monitor-%d", w.started), "ip", "-o", "monitor", "all")
	if err != nil {
		w.Fatal(err)
	}
	m := &monitor{p, h}
	w.until("the monitor listens", func(ctx context.Context) error {
		w.sing(m)
		return m.heard(0)
	})
	return m
}

// sing makes the canary's two notices.
func (w *world) sing(m *monitor) {
	w.Helper()
	w.run(m.host, "ip route add "+canary+" proto static")
	w.run(m.host, "ip route del "+canary)
}

// heard says whether more than n canaries have been.
func (m *monitor) heard(n int) error {
	log, err := m.Log()
	if err == nil && strings.Count(log, "Deleted "+canary) <= n {
		err = fmt.Errorf("no canary in %q", log)
	}
	return err
}

// anyones matches notices that the kernel gives by itself: the life of learned neighbours.
var anyones = regexp.MustCompile(`^\[NEIGH\].* (REACHABLE|STALE|DELAY|PROBE|INCOMPLETE|FAILED|NOARP)`)

// changes ends the monitor and gives what was changed while it listened.
func (w *world) changes(m *monitor) []string {
	w.Helper()
	log, err := m.Log()
	if err != nil {
		w.Fatal(err)
	}
	n := strings.Count(log, "Deleted "+canary)
	w.sing(m)
	w.until("the monitor has heard everything", func(context.Context) error { return m.heard(n) })
	if log, err = m.Log(); err != nil {
		w.Fatal(err)
	}
	if err := m.Kill(); err != nil {
		w.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, canary) && !anyones.MatchString(line) {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

// metric adds up the values of one of the agent's metrics.
func (w *world) metric(h *lab.Host, name string) float64 {
	w.Helper()
	status, body, err := h.Get(w.limit(), "http://127.0.0.1:9099/metrics")
	if err != nil || status != 200 {
		w.Fatalf("metrics: %d %s %v", status, body, err)
	}
	sum, found := 0.0, false
	for line := range strings.Lines(body) {
		words := strings.Fields(line)
		if len(words) != 2 || words[0] != name && !strings.HasPrefix(words[0], name+"{") {
			continue
		}
		value, err := strconv.ParseFloat(words[1], 64)
		if err != nil {
			w.Fatal(err)
		}
		sum, found = sum+value, true
	}
	if !found {
		w.Fatalf("no metric %s in\n%s", name, body)
	}
	return sum
}
