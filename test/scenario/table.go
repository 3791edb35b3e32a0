// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"strings"
)

// Flow is a new connection.
type Flow struct {
	From, To Place
	Service
}

// Service is what a flow goes to at its end.
type Service struct {
	Protocol string
	Port     uint16
}

// String gives "80/TCP".
func (s Service) String() string { return fmt.Sprintf("%d/%s", s.Port, s.Protocol) }

// Services are the protocols' ports.
func Services() []Service {
	var all []Service
	for _, protocol := range Protocols() {
		for _, port := range Ports() {
			all = append(all, Service{protocol, port})
		}
	}
	return all
}

// Table says of each flow whether it passes.
type Table map[Flow]bool

// Flows are those of a whole Table.
func Flows() []Flow {
	var all []Flow
	for _, from := range Places() {
		for _, to := range Places() {
			for _, s := range Services() {
				all = append(all, Flow{from, to, s})
			}
		}
	}
	return all
}

// fixed says whether a flow passes whatever policies say: what doesn't leave a pod, and what a host itself sends to hosts
// and to its own pods. (The kubelet must reach them.)
func (f Flow) fixed() bool {
	_, host := f.From.Host()
	_, toHost := f.To.Host()
	return f.From == f.To || host && (toHost || f.From.node() == f.To.node())
}

// Diff is empty if the tables are equal. Otherwise it draws the protocols and ports that differ, those that do so alike
// together, with rows for where flows come from: "." passes and "-" doesn't, as wanted; "PASS" passes and shouldn't,
// "drop" doesn't and should.
func (t Table) Diff(have Table) string {
	var grids []string
	alike := map[string][]string{}
	for _, s := range Services() {
		grid := t.grid(have, s)
		if !strings.Contains(grid, string(leak)) && !strings.Contains(grid, string(loss)) {
			continue
		}
		if alike[grid] == nil {
			grids = append(grids, grid)
		}
		alike[grid] = append(alike[grid], s.String())
	}
	var b strings.Builder
	for _, grid := range grids {
		wrong := strings.Count(grid, string(leak)) + strings.Count(grid, string(loss))
		fmt.Fprintf(&b, "%s: %d wrong (from ↓ to →)\n%s", strings.Join(alike[grid], ", "), wrong, grid)
	}
	return b.String()
}

func (t Table) grid(have Table, s Service) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s", "")
	for _, to := range Places() {
		fmt.Fprintf(&b, "%7s", to)
	}
	b.WriteString("\n")
	for _, from := range Places() {
		fmt.Fprintf(&b, "%-8s", from)
		for _, to := range Places() {
			f := Flow{from, to, s}
			fmt.Fprintf(&b, "%7s", look(t[f], have[f]))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// cell is how a flow is drawn.
type cell string

const (
	passes  cell = "."
	blocked cell = "-"
	leak    cell = "PASS"
	loss    cell = "drop"
)

func look(want, have bool) cell {
	switch {
	case want && have:
		return passes
	case want:
		return loss
	case have:
		return leak
	}
	return blocked
}

// Wrong gives the first flow that differs.
func (t Table) Wrong(have Table) (Flow, bool) {
	for _, f := range Flows() {
		if t[f] != have[f] {
			return f, true
		}
	}
	return Flow{}, false
}
