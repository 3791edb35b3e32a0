// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"korat/api/store"
	"korat/cmd/koratctl/show"
	"korat/ipam/audit"
)

// checkPause is between the two reads of a check. Agents publish allocations and endpoints within a second.
const checkPause = 5 * time.Second

// checkFlags are those of ipam check.
type checkFlags struct {
	allIPs, problemIPs bool
	report             string
}

func (c *ctl) ipamCheck() *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check [--show-all-ips] [--show-problem-ips] [-o FILE]",
		Short: "Compare blocks, affinities, endpoints, nodes and pools, and print what contradicts itself",
		Long: fmt.Sprintf(`Compare blocks, affinities, endpoints, nodes and pools, and print what contradicts itself, with what to do about it.

The datastore is read twice, %s apart: a problem is what both reads have, so that a pod that is just starting is none.
The exit code is 1 if there are problems. -o writes a report as JSON, which "koratctl ipam release --from-report" takes.`, checkPause),
		Example: `  koratctl ipam check
  koratctl ipam check --show-problem-ips -o report-1.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := c.check(cmd.Context(), f)
			if err != nil {
				return err
			}
			if err := show.Report(c.Stdout, r, checkPause, f.problemIPs); err != nil {
				return err
			}
			if f.allIPs {
				fmt.Fprintln(c.Stdout)
				if err := show.Allocations(c.Stdout, r.Allocations); err != nil {
					return err
				}
			}
			if n := len(r.Findings); n > 0 {
				return fmt.Errorf("problems found: %d", n)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&f.allIPs, "show-all-ips", false, "print every address that is not free, too")
	cmd.Flags().BoolVar(&f.problemIPs, "show-problem-ips", false, "print all problems, not only the first of each kind")
	cmd.Flags().StringVarP(&f.report, "output", "o", "", "file to write the report to")
	return cmd
}

// check reads twice, and writes the report if there is to be one.
func (c *ctl) check(ctx context.Context, f checkFlags) (audit.Report, error) {
	var guid string
	var first []audit.Finding
	err := c.withStore(ctx, func(ctx context.Context, st store.Store) error {
		book, err := readBook(ctx, st)
		if err != nil {
			return err
		}
		first = book.Findings(c.Now())
		if f.report != "" {
			guid, err = clusterGUID(ctx, st)
		}
		return err
	})
	if err != nil {
		return audit.Report{}, err
	}
	if err := c.Wait(ctx, checkPause); err != nil {
		return audit.Report{}, err
	}
	var r audit.Report
	err = c.withStore(ctx, func(ctx context.Context, st store.Store) error {
		now := c.Now()
		book, err := readBook(ctx, st)
		if err != nil {
			return err
		}
		r = book.Report(first, guid, now)
		if f.allIPs {
			r.Allocations = book.Allocations()
		}
		return nil
	})
	if err != nil || f.report == "" {
		return r, err
	}
	return r, writeReport(f.report, r)
}

// writeReport replaces the file as a whole, so that nobody takes half a report for a whole one.
func writeReport(path string, r audit.Report) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-")
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	_, err = tmp.Write(append(data, '\n'))
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name()) // what matters is err
		return fmt.Errorf("--output: %w", err)
	}
	return nil
}
