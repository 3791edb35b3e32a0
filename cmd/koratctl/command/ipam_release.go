// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"korat/api/store"
	"korat/cmd/koratctl/release"
	"korat/ipam/audit"
)

// releaseFlags are those of ipam release.
type releaseFlags struct {
	ip      string
	reports []string
	force   bool
}

func (c *ctl) ipamRelease() *cobra.Command {
	var f releaseFlags
	cmd := &cobra.Command{
		Use:   "release (--ip=ADDRESS | --from-report=FILE...) [--force]",
		Short: "Release addresses that nothing uses, and what nodes that are gone have left behind",
		Long: fmt.Sprintf(`Release addresses that nothing uses, and what nodes that are gone have left behind.

--ip releases an address and whatever else its handle holds. --from-report releases what every report of "koratctl ipam
check -o" has found and the datastore still has: allocations without endpoint (of a handle all or none), leases, empty
blocks and affinities of nodes that do not exist. Two reports, written some time apart, are two observations.

An address that an endpoint has is kept, unless --force; with reports, --force releases the endpoints of nodes that do
not exist. What loses its address is printed. An agent that knows a pod with a released address puts it back: that shows
%s later, and is printed as well. What a node borrows from another's block is never released while the node exists.`, checkPause),
		Example: `  koratctl ipam check -o 1.json            # twice, some minutes apart
  koratctl ipam check -o 2.json
  koratctl ipam release --from-report=1.json --from-report=2.json
  koratctl ipam release --ip=172.17.8.2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := atMostOne(cmd, "ip", "from-report"); err != nil {
				return err
			}
			plan, err := c.planner(f)
			if err != nil {
				return err
			}
			return c.release(cmd.Context(), plan)
		},
	}
	cmd.Flags().StringVar(&f.ip, "ip", "", "release this address")
	cmd.Flags().StringArrayVar(&f.reports, "from-report", nil, "release what this report has found; may be repeated")
	cmd.Flags().BoolVar(&f.force, "force", false, "release what endpoints have, too")
	return cmd
}

// planning makes a plan of what the datastore holds.
type planning func(ctx context.Context, st store.Reader, book *audit.Book) (audit.Plan, error)

// planner gives the plan that the flags ask for.
func (c *ctl) planner(f releaseFlags) (planning, error) {
	addr, err := parseAddress("--ip", f.ip)
	switch {
	case err != nil:
		return nil, err
	case addr.IsValid():
		return func(_ context.Context, _ store.Reader, book *audit.Book) (audit.Plan, error) {
			return book.ReleaseAddress(addr, f.force, c.Now())
		}, nil
	case len(f.reports) == 0:
		return nil, usagef("say what to release: --ip=ADDRESS or --from-report=FILE")
	}
	found, guid, err := readReports(f.reports)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, st store.Reader, book *audit.Book) (audit.Plan, error) {
		have, err := clusterGUID(ctx, st)
		if err == nil && have != guid {
			err = fmt.Errorf("--from-report: %s is of cluster %q, but this is cluster %q: --etcd-endpoints says which", f.reports[0], guid, have)
		}
		if err != nil {
			return audit.Plan{}, err
		}
		return book.Release(found, f.force, c.Now()), nil
	}, nil
}

// maxReport is more than a report of a million addresses has.
const maxReport = 512 << 20

// readReport reads a file that anybody may have given us: it need not be one, nor have an end.
func readReport(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxReport {
		return nil, fmt.Errorf("%s (mode %s, %d bytes): want a regular file of at most %d bytes", path, info.Mode(), info.Size(), maxReport)
	}
	return io.ReadAll(io.LimitReader(file, maxReport))
}

// readReports gives what all the reports have found.
func readReports(paths []string) (found []audit.Finding, guid string, err error) {
	times := map[int64]string{}
	for i, path := range paths {
		data, err := readReport(path)
		if err != nil {
			return nil, "", fmt.Errorf("--from-report: %w", err)
		}
		r, err := audit.ParseReport(data)
		if err != nil {
			return nil, "", fmt.Errorf("--from-report: %s: %w", path, err)
		}
		if same := times[r.Time.UnixNano()]; same != "" {
			return nil, "", fmt.Errorf("--from-report: %s and %s are of one check: write two, some time apart", same, path)
		}
		times[r.Time.UnixNano()] = path
		if i == 0 {
			found, guid = r.Findings, r.ClusterGUID
			continue
		}
		if r.ClusterGUID != guid {
			return nil, "", fmt.Errorf("--from-report: %s is of cluster %q, and %s of cluster %q", paths[0], guid, path, r.ClusterGUID)
		}
		found = audit.Confirmed(r.Findings, found)
	}
	return found, guid, nil
}

// release makes a plan, carries it out, and looks whether it lasts.
func (c *ctl) release(ctx context.Context, planned planning) error {
	var p audit.Plan
	err := c.withStore(ctx, func(ctx context.Context, st store.Store) error {
		book, err := readBook(ctx, st)
		if err != nil {
			return err
		}
		if p, err = planned(ctx, st, book); err != nil {
			return err
		}
		for _, text := range p.Kept {
			fmt.Fprintln(c.Stdout, "kept:", text)
		}
		for _, text := range p.Cuts {
			fmt.Fprintln(c.Stdout, "this cuts off", text)
		}
		done, err := release.Carry(ctx, st, p, c.Now())
		for _, text := range done {
			fmt.Fprintln(c.Stdout, text)
		}
		return err
	})
	if p.Empty() && err == nil {
		fmt.Fprintln(c.Stdout, "nothing was released")
	}
	if err != nil || len(p.Releases) == 0 {
		return err
	}
	return c.confirm(ctx, p)
}

// confirm waits as long as agents need to notice, and names what they have put back.
func (c *ctl) confirm(ctx context.Context, p audit.Plan) error {
	if err := c.Wait(ctx, checkPause); err != nil {
		return err
	}
	return c.withStore(ctx, func(ctx context.Context, st store.Store) error {
		book, err := readBook(ctx, st)
		if err != nil {
			return fmt.Errorf("look whether the release lasts: %w", err)
		}
		holders := map[netip.Addr]string{}
		for _, a := range book.Allocations() {
			if a.Use == audit.InUse {
				holders[a.Address] = a.Handle
			}
		}
		var errs []error
		for _, a := range p.Releases {
			if holders[a.Address] == a.Handle {
				errs = append(errs, fmt.Errorf("%s: the agent of node %s has put it back: it knows a pod that has it: delete that pod", a.Address, a.Owner))
			}
		}
		return errors.Join(errs...)
	})
}
