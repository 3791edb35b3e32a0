// SPDX-License-Identifier: Apache-2.0

// koratctl is a person's tool: it reads and changes the datastore, and asks an agent how its node is.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"korat/cmd/koratctl/command"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := command.Run(ctx, os.Args[1:], command.World{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		LookupEnv: os.LookupEnv, Now: time.Now, Wait: wait, Open: open, Version: version,
	})
	stop()
	os.Exit(code)
}

// wait pauses.
func wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
