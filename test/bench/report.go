// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// Print prints the rows as a table and counts the targets.
func Print(out io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tours\tbaseline\tunit\tratio\ttarget\t\tmin: ours\tbaseline")
	met, targets := 0, 0
	for _, r := range rows {
		baseline, ratio, least := "", "", "\t"
		if r.Baseline != nil {
			baseline, ratio = number(*r.Baseline), fmt.Sprintf("%.2f", *r.Ratio)
		}
		if r.Least != nil {
			least = number(r.Least.Ours) + "\t" + number(r.Least.Baseline)
		}
		if r.Target != nil {
			targets++
			if r.Met {
				met++
			}
		}
		fmt.Fprintln(t, strings.Join([]string{r.Name, number(r.Ours), baseline, r.Unit, ratio, r.target(), r.verdict(), least}, "\t"))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print table: %w", err)
	}
	_, err := fmt.Fprintf(out, "%d of %d targets met\n", met, targets)
	return err
}

// number shows three digits or the integer part, whichever is more.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

// Save writes the rows to a file.
func Save(file string, rows []Row) error {
	data, err := json.MarshalIndent(map[string][]Row{"rows": rows}, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
