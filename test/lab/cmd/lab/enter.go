// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"korat/test/lab"
)

func execCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "exec HOST[/POD] [COMMAND [ARG...]]",
		Short: "Run a command on a host or in a pod; without a command, a shell",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return enter(name, args[0], args[1:]) },
	}
	cmd.Flags().StringVar(&name, "name", "", "the lab [the only one that is up]")
	cmd.Flags().SetInterspersed(false) // What follows HOST is the command's.
	return cmd
}

// enter becomes the command.
func enter(name, where string, argv []string) error {
	r, err := choose(name)
	if err != nil {
		return err
	}
	state, err := r.picture()
	if err != nil {
		return err
	}
	if len(argv) == 0 {
		argv = []string{"bash"}
	}
	host, pod, _ := strings.Cut(where, "/")
	inner, err := state.Enter(host, pod, argv)
	if err != nil {
		return err
	}
	outer := append([]string{"nsenter", "--target=" + strconv.Itoa(r.PID), "--mount", "--pid", "--"}, inner...)
	program, err := exec.LookPath(outer[0])
	if err != nil {
		return err
	}
	if err := os.Setenv("PATH", state.BinDir+":"+os.Getenv("PATH")); err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", program, unix.Exec(program, outer, os.Environ()))
}

func downCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "down",
		Short: "End a lab, and wait until nothing of it is left",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), downTimeout)
			defer cancel()
			return takeDown(ctx, name, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the lab [the only one that is up]")
	return cmd
}

const downTimeout = 20 * time.Second

// takeDown kills process 1 of the sandbox; the kernel does the rest.
func takeDown(ctx context.Context, name string, out io.Writer) error {
	r, err := choose(name)
	if errors.Is(err, errNotUp) {
		fmt.Fprintln(out, err)
		return nil
	}
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(r.PID, 0)
	if err != nil {
		return fmt.Errorf("take lab %s down: %w", r.Name, err)
	}
	defer unix.Close(fd)
	// Between the look and the open, the number may have become another process's.
	if started, err := startTime(r.PID); err != nil || started != r.Started {
		return forget(r.Name)
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		return fmt.Errorf("take lab %s down: %w", r.Name, err)
	}
	err = lab.Until(ctx, "lab "+r.Name+" is down", func(context.Context) error {
		// A pidfd becomes readable when its process has ended, which process 1 does last.
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 0); err != nil || n == 0 {
			return errors.Join(errors.New("its processes are still ending"), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "lab %s is down\n", r.Name)
	return forget(r.Name)
}

func statusCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "List hosts, pods, addresses and processes of the labs that are up",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return status(name, cmd.OutOrStdout()) },
	}
	cmd.Flags().StringVar(&name, "name", "", "only this lab")
	return cmd
}

func status(name string, out io.Writer) error {
	labs, err := all()
	if name != "" {
		labs = make([]running, 1)
		labs[0], err = find(name)
	}
	if err != nil {
		return err
	}
	if len(labs) == 0 {
		fmt.Fprintln(out, "no lab is up")
	}
	for _, r := range labs {
		state, err := r.picture()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "lab %s, logs in %s\n", r.Name, state.Dir)
		table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		for _, h := range state.Hosts {
			fmt.Fprintf(table, "  %s\t%s\t%s\n", h.Name, list(h.Addresses), strings.Join(r.processes(h), ", "))
			for _, p := range h.Pods {
				fmt.Fprintf(table, "  %s/%s\t%s\t\n", h.Name, p.Name, list(p.Addresses))
			}
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// list joins addresses with blanks.
func list(addresses []netip.Addr) string {
	var all []string
	for _, a := range addresses {
		all = append(all, a.String())
	}
	return strings.Join(all, " ")
}

// processes says of each process whether it runs.
func (r running) processes(h lab.HostState) []string {
	var said []string
	for _, p := range h.Processes {
		word := "runs"
		if _, err := os.Stat(filepath.Join(r.root(), "proc", strconv.Itoa(p.PID))); err != nil {
			word = "has ended"
		}
		said = append(said, p.Name+" "+word)
	}
	return said
}
