// SPDX-License-Identifier: Apache-2.0

// bench measures korat against its baselines. hack/bench runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"korat/test/bench"
	"korat/test/bench/guest"
	"korat/test/lab/sandbox"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == guest.Word {
		// A benchmark that ends kills its guests and all that runs on their hosts.
		os.Exit(sandbox.Status("bench", guest.Serve(context.Background())))
	}
	os.Exit(sandbox.Main(func() int { return sandbox.Status("bench", run()) }))
}

func run() error {
	pattern := flag.String("run", "", "run only the benchmarks whose name this regular expression matches")
	file := flag.String("json", "", "write the result to this file [bench.json beside this program]")
	flag.Parse()
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the programs: %w", err)
	}
	bin := filepath.Dir(program)
	if *file == "" {
		*file = filepath.Join(bin, "bench.json")
	}
	s := &bench.Suite{BinDir: bin, Dir: filepath.Join(bin, "labs", "bench"), Out: os.Stderr}
	if *pattern != "" {
		if s.Run, err = regexp.Compile(*pattern); err != nil {
			return fmt.Errorf("-run: %w", err)
		}
	}
	if err := os.RemoveAll(s.Dir); err != nil {
		return fmt.Errorf("remove old logs: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	rows, err := s.Rows(ctx)
	return errors.Join(err, bench.Print(os.Stdout, rows), bench.Save(*file, rows))
}
