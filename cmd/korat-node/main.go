// SPDX-License-Identifier: Apache-2.0

// korat-node is the agent of one node, and the BGP speaker that it supervises.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "unknown"

// endPatience is how long this process may take to end after the signal. Service managers kill one that takes longer than
// they allow (TimeoutStopSec of our unit is 20 s, Kubernetes' default 30 s), and then nobody knows what it was at.
const endPatience = 15 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	overdue(ctx, endPatience, func() {
		giveUp(os.Stderr)
		os.Exit(1)
	})
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "korat-node:", err)
		os.Exit(1)
	}
}

// overdue calls f if the process is still there so long after ctx is done.
func overdue(ctx context.Context, patience time.Duration, f func()) {
	context.AfterFunc(ctx, func() { time.AfterFunc(patience, f) })
}

// giveUp says what does not end, unless nobody reads that: it may be what holds up everything.
func giveUp(w io.Writer) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		fmt.Fprintf(w, "korat-node: not ended within %s of the signal, so it gives up; its goroutines are at\n", endPatience)
		_ = pprof.Lookup("goroutine").WriteTo(w, 1) // if it can't be written, nothing is left to do
	}()
	select {
	case <-said:
	case <-time.After(time.Second):
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "korat-node",
		Short:         "the agent of one korat node",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(runCommand(), speakerCommand(), removeCommand(), &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version) },
	})
	return root
}
