// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"korat/felix"
)

// Status prints a node's status for people. now is what ages are counted from.
func Status(w io.Writer, s felix.NodeStatus, now time.Time) error {
	rows := [][]string{
		{"Node", s.Node},
		{"Version", s.Version},
		{"Address", strings.Join(slices.DeleteFunc([]string{s.Address, s.AddressIPv6}, func(a string) bool { return a == "" }), ", ")},
		{"AS number", optional(s.AS)},
		{"Router ID", s.RouterID},
	}
	if len(s.Problems) == 0 {
		rows = append(rows, []string{"Problems", "none"})
	}
	for _, p := range s.Problems {
		rows = append(rows, []string{"Problem", p})
	}
	if err := grid(w, rows); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nBGP sessions")
	rows = [][]string{{"PEER", "ADDRESS", "KIND", "AS", "STATE", "FOR", "RECEIVED", "ADVERTISED", "FLAPS", "REASON"}}
	for _, p := range s.Sessions {
		rows = append(rows, []string{
			p.Name, p.Address, p.Kind, optional(p.AS), p.State, age(p.Since, now), strconv.FormatUint(p.Received, 10),
			strconv.FormatUint(p.Advertised, 10), strconv.FormatUint(uint64(p.Flaps), 10), p.Reason,
		})
	}
	if err := gridOr(w, rows, "none: this node has no peer"); err != nil {
		return err
	}
	if err := policies(w, s.Policies); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nRoutes")
	rows = [][]string{{"PREFIX", "TO", "FROM"}}
	for _, r := range s.Routes {
		to := strings.Join(r.NextHops, ", ")
		if to == "" {
			to = "blackhole"
		}
		rows = append(rows, []string{r.Prefix, to, r.From})
	}
	return gridOr(w, rows, "none")
}

// policies prints what there is of policies; nothing if the agent does not tell.
func policies(w io.Writer, p *felix.PolicyStatus) error {
	if p == nil {
		return nil
	}
	fmt.Fprintln(w, "\nPolicies")
	backend := p.Backend
	if p.Reason != "" {
		backend += " (" + p.Reason + ")"
	}
	rows := [][]string{
		{"Active here", strconv.Itoa(p.Active)},
		{"Chains", fmt.Sprintf("%d with %d rules", p.Chains, p.Rules)},
		{"Sets", fmt.Sprintf("%d with %d members", p.Sets, p.Members)},
		{"Backend", backend},
		{"Flows cut", strconv.FormatUint(p.Cut, 10)},
	}
	for _, c := range p.Refused {
		rows = append(rows, []string{"Closed", c.Chain + ": " + c.Reason})
	}
	return grid(w, rows)
}

// gridOr prints the rows, or what to say when there is only the header.
func gridOr(w io.Writer, rows [][]string, empty string) error {
	if len(rows) > 1 {
		return grid(w, rows)
	}
	_, err := fmt.Fprintln(w, empty)
	return err
}

// optional leaves out what was not known yet.
func optional(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// age gives "2h3m4s" since the time.
func age(since *time.Time, now time.Time) string {
	if since == nil {
		return ""
	}
	return max(now.Sub(*since), 0).Truncate(time.Second).String()
}
