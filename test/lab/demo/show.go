// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"korat/test/lab"
)

// show prints everything, and fails when a ping or a command does.
func show(ctx context.Context, out io.Writer, c *lab.Cluster, watch *stopwatch) error {
	var all []*matrix
	for _, f := range families(c) {
		all = append(all, pingAll(ctx, places(c, f)))
	}
	// After the pings, the pods have neighbours to show.
	err := kernels(ctx, out, c)
	for _, h := range c.Hosts() {
		err = errors.Join(err, sessions(ctx, out, h))
	}
	for i, f := range families(c) {
		title(out, fmt.Sprintf("%s round trips in ms, of all pods and hosts", f))
		grid(out, all[i].table(), 2)
	}
	title(out, "Seconds since the agent on the left was started")
	grid(out, watch.table(c), 3)
	return errors.Join(err, verdict(out, all...))
}

// kernels prints what the first host and its first pod have, of each family.
func kernels(ctx context.Context, out io.Writer, c *lab.Cluster) error {
	var err error
	first := c.Hosts()[0]
	for _, f := range families(c) {
		version := "-4"
		if f == ipv6 {
			version = "-6"
		}
		err = errors.Join(err, output(ctx, out, "host "+first.Name, first, "ip", version, "route"))
		if pods := first.Pods(); len(pods) > 0 {
			err = errors.Join(err,
				output(ctx, out, "pod "+pods[0].Name, pods[0], "ip", version, "route"),
				output(ctx, out, "pod "+pods[0].Name, pods[0], "ip", version, "neigh"))
		}
	}
	return err
}

// verdict says whether every ping was answered.
func verdict(out io.Writer, all ...*matrix) error {
	fmt.Fprintln(out)
	var failed []string
	count := 0
	for _, m := range all {
		failed, count = append(failed, m.failures()...), count+m.count()
	}
	if len(failed) == 0 {
		fmt.Fprintf(out, "All %d pings were answered.\n", count)
		return nil
	}
	for _, f := range failed[:min(len(failed), 10)] {
		fmt.Fprintln(out, "no answer:", f)
	}
	return fmt.Errorf("%d of %d pings were not answered", len(failed), count)
}

func title(out io.Writer, text string) { fmt.Fprintf(out, "\n%s\n", text) }

// output prints what a command says.
func output(ctx context.Context, out io.Writer, where string, runner lab.Runner, argv ...string) error {
	title(out, where+"# "+strings.Join(argv, " "))
	text, err := runner.Exec(ctx, argv...)
	for line := range strings.Lines(text) {
		fmt.Fprintln(out, strings.TrimRight("  "+line, " \n"))
	}
	return err
}

// sessions prints the part of koratctl's node status that is about them.
func sessions(ctx context.Context, out io.Writer, h *lab.Host) error {
	text, err := h.Exec(ctx, "koratctl", "node", "status")
	if err != nil {
		return err
	}
	title(out, "host "+h.Name+"# koratctl node status")
	for _, part := range strings.Split(text, "\n\n") {
		if table, found := strings.CutPrefix(part, "BGP sessions\n"); found {
			for line := range strings.Lines(table) {
				fmt.Fprintln(out, "  "+strings.TrimRight(line, " \n"))
			}
			return nil
		}
	}
	return fmt.Errorf("koratctl node status on %s shows no sessions: %s", h.Name, text)
}

// table has one row for each host and family.
func (w *stopwatch) table(c *lab.Cluster) [][]string {
	rows := [][]string{{"from", "to", "", "agent ready", "session up", "route in kernel", "first ping"}}
	for _, t := range w.ways {
		agent := slices.IndexFunc(c.Agents, func(a *lab.Agent) bool { return a.Host == t.host })
		began := c.Agents[agent].Started
		t.mu.Lock()
		rows = append(rows, []string{
			"host " + t.host.Name, "host " + t.next.Name, string(t.family),
			since(began, t.ready), since(began, t.session), since(began, t.route), since(began, t.ping),
		})
		t.mu.Unlock()
	}
	return rows
}

func since(began, at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return fmt.Sprintf("%.2f", at.Sub(began).Seconds())
}

// grid prints rows in columns: the first ones to the left, the others to the right.
func grid(out io.Writer, rows [][]string, left int) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < left {
				line.WriteString("  " + cell + pad)
			} else {
				line.WriteString("  " + pad + cell)
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
	}
}
