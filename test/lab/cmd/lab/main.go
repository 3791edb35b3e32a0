// SPDX-License-Identifier: Apache-2.0

// lab brings up networks of hosts in namespaces, enters them and takes them down. hack/lab runs it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"korat/test/lab/sandbox"
)

// exitError ends the program with a status and without another word.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	if sandbox.IsInit() {
		os.Exit(sandbox.Init())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	var exit exitError
	switch {
	case errors.As(err, &exit):
		os.Exit(int(exit))
	case err != nil:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "hack/lab",
		Short:         "Networks of korat hosts in namespaces of this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(upCommand(), demoCommand(), downCommand(), execCommand(), statusCommand(), insideCommand())
	return root
}
