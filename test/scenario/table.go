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

// Diff is empty if the tables are equal. Otherwise it draws each protocol and port that differs, with rows for where
// flows come from: "." passes and "-" doesn't, as wanted; "PASS" passes and shouldn't, "drop" doesn't and should.
func (t Table) Diff(have Table) string {
	var b strings.Builder
	for _, s := range Services() {
		wrong := 0
		var grid strings.Builder
		fmt.Fprintf(&grid, "%-8s", "")
		for _, to := range Places() {
			fmt.Fprintf(&grid, "%7s", to)
		}
		grid.WriteString("\n")
		for _, from := range Places() {
			fmt.Fprintf(&grid, "%-8s", from)
			for _, to := range Places() {
				f := Flow{from, to, s}
				if t[f] != have[f] {
					wrong++
				}
				fmt.Fprintf(&grid, "%7s", cell(t[f], have[f]))
			}
			grid.WriteString("\n")
		}
		if wrong > 0 {
			fmt.Fprintf(&b, "%s: %d wrong (from ↓ to →)\n%s", s, wrong, grid.String())
		}
	}
	return b.String()
}

func cell(want, have bool) string {
	switch {
	case want && have:
		return "."
	case want:
		return "drop"
	case have:
		return "PASS"
	}
	return "-"
}
