// SPDX-License-Identifier: Apache-2.0

// soak has thousands of pods come and go while agents, speakers and the datastore are killed. hack/soak runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"korat/test/faults"
	"korat/test/lab"
	"korat/test/lab/sandbox"
)

// perRound is how many pods come and go in a round, of those that the whole run is to have.
const perRound = 200

// patience bounds each round, and the wait for hosts to be ready.
const patience = 3 * time.Minute

func main() {
	if len(os.Args) > 1 && os.Args[1] == faults.EtcdWord {
		os.Exit(sandbox.Status("soak", faults.ServeEtcd(os.Stderr)))
	}
	os.Exit(sandbox.Main(func() int { return sandbox.Status("soak", run()) }))
}

func run() error {
	pods := flag.Int("pods", 20000, "how many pods come and go")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "decides what is killed, where and when")
	away := flag.Duration("outage", time.Minute, "how long the datastore is away in the outage before the last round; 0 for none")
	flag.Parse()
	if *pods < perRound {
		return fmt.Errorf("-pods: %d: want at least %d", *pods, perRound)
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the programs: %w", err)
	}
	bin := filepath.Dir(program)
	dir := filepath.Join(bin, "labs", "soak")
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove old logs: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	fmt.Printf("soak: %d pods, seed %d; logs in %s\n", *pods, *seed, dir)
	return soak(ctx, lab.ClusterConfig{Config: lab.Config{Dir: dir, BinDir: bin, Families: lab.Dual}, Hosts: 2}, *seed, *pods, *away)
}

// soak makes two hosts. The first one's agent and speaker are killed, and the datastore; the second one's live all
// the time, so that a leak would show.
func soak(ctx context.Context, config lab.ClusterConfig, seed uint64, pods int, away time.Duration) (err error) {
	ready, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	site, err := faults.NewSite(ready, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.Close()) }()
	s := &faults.Soak{Config: faults.Config{
		Site: site, Seed: seed, Pods: perRound, Victims: site.Hosts()[:1], Hurry: 3, Patience: patience, Out: os.Stdout,
		Kills: map[string]int{"agent": 1, "speaker": 1, "etcd": 1},
	}}
	if err := s.Prepare(ready); err != nil {
		return err
	}
	rounds := pods / perRound
	for round := range rounds {
		if round == rounds-1 && away > 0 {
			outage, cancel := context.WithTimeout(ctx, patience+away)
			err = site.Outage(outage, away, &s.Ledger)
			cancel()
			fmt.Printf("the datastore was away for %s: error %v\n", away, err)
		}
		if err == nil {
			err = s.Round(ctx, round)
		}
		s.Progress(round+1, rounds)
		if err != nil {
			break
		}
	}
	if good := s.Print(os.Stdout); !good {
		err = errors.Join(err, errors.New("not all is as it must be"))
	}
	return err
}
