// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"korat/test/lab"
)

// Config says what a Soak does.
type Config struct {
	Site *Site
	// Seed decides what is killed, where and when, and which ADDs are given up in the middle.
	Seed uint64
	// Pods is how many come and go in a round, shared out over the hosts.
	Pods int
	// Kills says how often "agent", "speaker" and "etcd" are killed in a round, on Victims; etcd has one home.
	Kills   map[string]int
	Victims []*lab.Host
	// Hurry is how many of 100 ADDs are killed in the middle.
	Hurry int
	// Patience bounds each half of a round, with the wait for what follows.
	Patience time.Duration
	Out      io.Writer
}

// Tally is what a Soak has seen.
type Tally struct {
	Ledger Ledger
	// Leaks counts what remained after a round, by kind.
	Leaks map[string]int
	// Deaths counts kills, Attached pods, Failed ADDs that did not succeed, the killed ones among them.
	Deaths           map[string]int
	Attached, Failed int
	// Memory is by "HOST agent" and "HOST speaker".
	Memory map[string]Footprint
}

// Soak is a run of rounds: in each, all pods come, 32 at a time, and then all go, while things are killed.
type Soak struct {
	Config
	Tally
	runtimes []*Runtime
	parallel chan struct{}
	began    time.Time
}

// parallelCalls is how many pods a runtime works on at once.
const parallelCalls = 32

// Prepare makes the pods' network namespaces.
func (s *Soak) Prepare(ctx context.Context) error {
	s.Leaks, s.Deaths, s.Memory = map[string]int{}, map[string]int{}, map[string]Footprint{}
	s.parallel, s.began = make(chan struct{}, parallelCalls), time.Now()
	hosts := s.Site.Hosts()
	for i, h := range hosts {
		n := s.Pods*(i+1)/len(hosts) - s.Pods*i/len(hosts)
		r, err := NewRuntime(ctx, h, n, &s.Ledger, s.Seed+uint64(i))
		if err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
		r.Hurry = s.Hurry
		s.runtimes = append(s.runtimes, r)
	}
	_, err := s.Site.AwaitNothing(ctx) // Its blocks are claimed and known to all.
	return err
}

// Round lets all pods come and go once. Its error says what went wrong beyond leaks and doubles.
func (s *Soak) Round(ctx context.Context, number int) error {
	k := newKiller(s.Site, rand.New(rand.NewPCG(s.Seed, uint64(number))), s.Victims, s.Kills, 2*s.Pods)
	for _, r := range s.runtimes {
		r.Step = k.step
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.Patience, fmt.Errorf("round %d took longer than %s", number, s.Patience))
	defer cancel()
	var killing sync.WaitGroup
	var killed error
	killing.Go(func() { killed = k.run(ctx) })
	err := s.comeAndGo(ctx, number)
	if err != nil {
		cancel()
	}
	killing.Wait()
	for what, n := range k.done {
		s.Deaths[what] += n
	}
	if err := errors.Join(err, killed); err != nil {
		return fmt.Errorf("round %d: %w", number, err)
	}
	left, err := s.Site.AwaitNothing(ctx)
	for kind, what := range left {
		s.Leaks[kind] += len(what)
	}
	if err != nil {
		return fmt.Errorf("round %d: %w", number, err)
	}
	if err := s.Site.WaitReady(ctx); err != nil {
		return fmt.Errorf("round %d: %w", number, err)
	}
	return s.remember()
}

// comeAndGo changes policies in the middle of pods' coming.
func (s *Soak) comeAndGo(ctx context.Context, round int) error {
	var policies sync.WaitGroup
	var planted error
	policies.Go(func() { planted = s.Site.setPolicies(ctx, round) })
	err := s.all(ctx, (*Runtime).attach)
	policies.Wait()
	if err := errors.Join(err, planted); err != nil {
		return err
	}
	for _, r := range s.runtimes {
		s.Attached += len(r.pods)
		if err := r.verify(ctx); err != nil {
			return err
		}
	}
	if err := s.all(ctx, (*Runtime).detach); err != nil {
		return err
	}
	s.Failed = 0
	for _, r := range s.runtimes {
		s.Failed += int(r.failed.Load())
	}
	return nil
}

// all does something for every pod of every host.
func (s *Soak) all(ctx context.Context, do func(*Runtime, context.Context, *pod) error) error {
	errs := make([]error, len(s.runtimes))
	var hosts sync.WaitGroup
	for i, r := range s.runtimes {
		hosts.Go(func() {
			errs[i] = r.each(ctx, s.parallel, func(ctx context.Context, p *pod) error { return do(r, ctx, p) })
		})
	}
	hosts.Wait()
	return errors.Join(errs...)
}

// remember measures the processes.
func (s *Soak) remember() error {
	for _, h := range s.Site.Hosts() {
		agent, speaker, err := s.Site.measure(h)
		if err != nil {
			return err
		}
		s.Memory[h.Name+" agent"] = append(s.Memory[h.Name+" agent"], agent)
		s.Memory[h.Name+" speaker"] = append(s.Memory[h.Name+" speaker"], speaker)
	}
	return nil
}

// Progress prints one line.
func (s *Soak) Progress(round, rounds int) {
	leaks := 0
	for _, n := range s.Leaks {
		leaks += n
	}
	var memory []string
	for _, h := range s.Site.Hosts() {
		for _, part := range []string{" agent", " speaker"} {
			if f := s.Memory[h.Name+part]; len(f) > 0 {
				memory = append(memory, fmt.Sprintf("%s%s %.1f", h.Name, part, float64(f[len(f)-1])/1024))
			}
		}
	}
	fmt.Fprintf(s.Out, "%6.0f s  round %d/%d: %d attached, %d ADDs failed, %d doubles, %d leaks; MiB: %s\n",
		time.Since(s.began).Seconds(), round, rounds, s.Attached, s.Failed, len(s.Ledger.Doubles()), leaks, strings.Join(memory, ", "))
}
