// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// Print prints the closing table and says whether all is as it must be: no address twice, nothing left, memory flat.
func (s *Soak) Print(out io.Writer) (good bool) {
	good = true
	verdict := func(ok bool) string {
		good = good && ok
		if ok {
			return "ok"
		}
		return "WRONG"
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "seed\t%d\t\n", s.Seed)
	fmt.Fprintf(t, "pods attached and detached\t%d\t%s\n", s.Attached, verdict(s.Attached > 0))
	fmt.Fprintf(t, "ADDs that failed, or were killed, and were made good\t%d\t\n", s.Failed)
	for _, what := range slices.Sorted(maps.Keys(s.Deaths)) {
		fmt.Fprintf(t, "%s killed\t%d\t\n", what, s.Deaths[what])
	}
	fmt.Fprintf(t, "addresses given\t%d\t\n", s.Ledger.Given())
	doubles := s.Ledger.Doubles()
	fmt.Fprintf(t, "addresses given twice\t%d\t%s\n", len(doubles), verdict(len(doubles) == 0))
	for _, kind := range LeakKinds() {
		fmt.Fprintf(t, "leaked: %s\t%d\t%s\n", kind, s.Leaks[kind], verdict(s.Leaks[kind] == 0))
	}
	for _, process := range slices.Sorted(maps.Keys(s.Memory)) {
		f := s.Memory[process]
		fmt.Fprintf(t, "MiB of %s at start, middle, end; growth\t%.1f  %.1f  %.1f;  %+.1f\t%s\n", process,
			mebi(f.Median(0, 1)), mebi(f.Median(1, 2)), mebi(f.Median(3, 4)), mebi(f.Growth()), verdict(f.Flat()))
	}
	_ = t.Flush() // It is for a person; what prints badly is seen.
	for _, double := range doubles {
		fmt.Fprintln(out, double)
	}
	return good
}

func mebi(kibi int) float64 { return float64(kibi) / 1024 }
