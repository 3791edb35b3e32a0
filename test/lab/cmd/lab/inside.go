// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"korat/test/lab"
	"korat/test/lab/demo"
)

// pictureFile holds the lab's state, in the sandbox's own /run.
const pictureFile = "/run/lab.json"

// insideCommand is what runs in the sandbox.
func insideCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:    "inside",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return inside(cmd.Context(), s, cmd.OutOrStdout()) },
	}
	s.register(cmd.Flags())
	cmd.Flags().BoolVar(&s.demo, "demo", false, "show everything")
	cmd.Flags().BoolVar(&s.keep, "keep", false, "stay")
	return cmd
}

// inside brings the lab up and, if it is to be kept, stays with it until it is killed.
func inside(ctx context.Context, s settings, out io.Writer) error {
	if err := emptyLogs(s.dir); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(s.dir, "lab.log"))
	if err != nil {
		return err
	}
	defer file.Close()
	config := demo.Config{Pods: s.pods, Out: out}
	config.Hosts = s.hosts
	config.Config = lab.Config{
		Dir: s.dir, BinDir: s.binDir, Families: lab.Families(s.families), Log: slog.New(slog.NewTextHandler(file, nil)),
	}
	run := demo.Up
	if s.demo {
		run = demo.Run
	}
	cluster, err := run(ctx, config)
	if cluster == nil {
		return err
	}
	status := 0
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		status = 1
	}
	if !s.keep {
		return errors.Join(cluster.Close(), exitWith(status))
	}
	return stay(ctx, cluster, status, out)
}

// emptyLogs makes the directory, and removes the logs of an earlier lab.
func emptyLogs(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return err
	}
	for _, file := range logs {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// stay says that the lab is up and lets go of the owner's terminal.
func stay(ctx context.Context, cluster *lab.Cluster, status int, out io.Writer) error {
	picture, err := json.MarshalIndent(cluster.State(), "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(pictureFile, picture, 0o600); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%s%d\n", upWord, status); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for fd := range 3 {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}
