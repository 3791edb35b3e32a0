// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"korat/ipam/audit"
)

// mostOfAKind is how many findings of one kind are printed when not all are asked for.
const mostOfAKind = 20

// Report prints what a check found; all of it, or the first of each kind.
func Report(w io.Writer, r audit.Report, pause time.Duration, all bool) error {
	c := r.Counts
	fmt.Fprintf(w, "Read at %s, and %s before: a problem is what both reads have.\n\n",
		r.Time.Format(time.RFC3339), pause)
	if err := grid(w, [][]string{
		{"POOLS", "BLOCKS", "AFFINITIES", "NODES", "ENDPOINTS", "IPS IN USE", "BORROWED", "COOLING", "LEASED"},
		counts(c.Pools, c.Blocks, c.Affinities, c.Nodes, c.Endpoints, c.InUse, c.Borrowed, c.Cooling, c.Leased),
	}); err != nil {
		return err
	}
	for _, kind := range audit.Kinds() {
		found := slices.DeleteFunc(slices.Clone(r.Findings), func(f audit.Finding) bool { return f.Kind != kind })
		if len(found) > 0 {
			findings(w, kind, found, all)
		}
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(w, "\nNo problems.")
	}
	return nil
}

func counts(all ...int) []string {
	var cells []string
	for _, n := range all {
		cells = append(cells, strconv.Itoa(n))
	}
	return cells
}

// findings prints those of one kind, each remedy once for the findings that have it in a row.
func findings(w io.Writer, kind audit.Kind, found []audit.Finding, all bool) {
	fmt.Fprintf(w, "\n%s: %d\n", kind, len(found))
	if !all && len(found) > mostOfAKind {
		defer fmt.Fprintf(w, "  and %d more: --show-problem-ips prints them\n", len(found)-mostOfAKind)
		found = found[:mostOfAKind]
	}
	for i, f := range found {
		what := f.Object
		if f.Address.IsValid() {
			what = f.Address.String() + ", " + what
		}
		fmt.Fprintf(w, "  %s: %s\n", what, f.Detail)
		if i+1 == len(found) || found[i+1].Remedy != f.Remedy {
			fmt.Fprintf(w, "    -> %s\n", f.Remedy)
		}
	}
}

// Allocations prints addresses that are not free.
func Allocations(w io.Writer, all []audit.Allocation) error {
	rows := [][]string{{"IP", "USE", "BLOCK", "BLOCK NODE", "NODE", "HANDLE", "ALLOCATED TO", "SINCE"}}
	for _, a := range all {
		rows = append(rows, []string{a.Address.String(), string(a.Use), a.Block, a.Owner, a.Node, a.Handle, pod(a), a.Since})
	}
	return gridOr(w, rows, "no address is in use")
}

func pod(a audit.Allocation) string {
	if a.Pod == "" {
		return ""
	}
	return a.Namespace + "/" + a.Pod
}
