// SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"korat/api"
	"korat/api/wake"
	"korat/felix/calc"
	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/policy/compile"
)

const (
	// rest is how many times as long as it worked a Revoker rests, so that one whose host has a million flows, and
	// pods that come and go in the cluster, takes a tenth of a core; and minRest and maxRest are the shortest and the longest. A
	// walk through the connection tracking takes 1 to 4 ms with no flow in it: what changes within the shortest
	// rest has one in common.
	rest    = 9
	minRest = 500 * time.Millisecond
	maxRest = 10 * time.Second
	// failedRest is the shortest after a failure.
	failedRest = time.Second
	// patience is how often in a row a job is given back because policies have changed meanwhile.
	patience = 3
)

// Conntrack is the kernel's connection tracking, or what a test has for it.
type Conntrack interface {
	// Read calls each for the flows that one of the addresses begins or answers.
	Read(ctx context.Context, addresses []netip.Addr, each func(kernel.Flow)) error
	Delete(ctx context.Context, flows []kernel.Flow) error
	// Mark gives the bits of mask of the flows' marks as value has them.
	Mark(ctx context.Context, flows []kernel.Flow, value, mask uint32) error
}

// Owed is which flows are to be looked at.
type Owed struct {
	compile.Affected
	// Gone are addresses whose pods are gone, and which no other pod has: their flows end.
	Gone map[netip.Addr]struct{}
}

// Empty says whether there are none.
func (o *Owed) Empty() bool { return o.Affected.Empty() && len(o.Gone) == 0 }

// Merge adds those of another.
func (o *Owed) Merge(other Owed) {
	o.Affected.Merge(other.Affected)
	for a := range other.Gone {
		o.Leave(a)
	}
}

// Leave adds an address whose pod is gone.
func (o *Owed) Leave(a netip.Addr) {
	if o.Gone == nil {
		o.Gone = map[netip.Addr]struct{}{}
	}
	o.Gone[a] = struct{}{}
}

// Adopt makes of addresses that another pod has by now flows of that pod: those which its policies allow stay.
func (o *Owed) Adopt(pods map[string]calc.Pod) {
	if len(o.Gone) == 0 {
		return
	}
	for id, p := range pods {
		for _, prefix := range p.Prefixes {
			if _, was := o.Gone[prefix.Addr()]; was {
				delete(o.Gone, prefix.Addr())
				o.Affected.Merge(compile.Affected{Locals: map[string]struct{}{id: {}}})
			}
		}
	}
}

// Job is what there is to do, and what it takes to judge: policies, pods and the rest as they are in the kernel by now.
// Nothing of it is changed any more.
type Job struct {
	Owed
	Node string
	// Pods are those of this node by their IDs, and Hosts its host endpoints.
	Pods     map[string]calc.Pod
	Hosts    []calc.Host
	Rules    calc.Rules
	Host     dataplane.Host
	Snapshot api.Snapshot
	// Lifelines are the agent's own connections.
	Lifelines []Lifeline
	// edition is that of the packet filter.
	edition uint64
}

// Status is what a Revoker has done.
type Status struct {
	// Cut counts the flows that were ended since the agent's start.
	Cut uint64
	// Err is why the last job was not done.
	Err error
}

// Revoker does the Jobs that it is given, one at a time. A nil Revoker is never Ready.
type Revoker struct {
	tracking Conntrack
	log      *slog.Logger
	jobs     chan Job
	wake     wake.Signal
	// edition numbers the states of the packet filter.
	edition atomic.Uint64

	mu     sync.Mutex
	busy   bool
	undone Owed
	status Status
	// standing says that there may be flows with the mark.
	standing bool

	// Of Run alone.
	memory memory
	given  int
}

// New allocates a Revoker.
func New(tracking Conntrack, log *slog.Logger) *Revoker {
	return &Revoker{tracking: tracking, log: log, jobs: make(chan Job, 1), wake: wake.New(), standing: true}
}

// Supersede says that the packet filter is about to change: what a Job in progress finds to end may be allowed by now.
func (r *Revoker) Supersede() {
	if r != nil {
		r.edition.Add(1)
	}
}

// Ready says whether Give will be of use: the last job is done.
func (r *Revoker) Ready() bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.busy
}

// Give hands a job over. It never blocks. The Revoker must be Ready, and nobody else may give it one.
func (r *Revoker) Give(job Job) {
	job.edition = r.edition.Load()
	r.mu.Lock()
	r.busy = true
	r.mu.Unlock()
	r.jobs <- job
}

// TakeUndone gives what is still to be done of earlier jobs.
func (r *Revoker) TakeUndone() Owed {
	r.mu.Lock()
	defer r.mu.Unlock()
	undone := r.undone
	r.undone = Owed{}
	return undone
}

// Standing says whether flows may have the mark, so that what is allowed again matters, too.
func (r *Revoker) Standing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.standing
}

// Status tells what was done.
func (r *Revoker) Status() Status {
	if r == nil {
		return Status{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// Wake is poked when the Revoker is Ready again.
func (r *Revoker) Wake() <-chan struct{} {
	if r == nil {
		return nil
	}
	return r.wake
}

// Run works until ctx is done.
func (r *Revoker) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-r.jobs:
			if !r.do(ctx, job) {
				return
			}
		}
	}
}

// do does a job, and rests; false once ctx is done.
func (r *Revoker) do(ctx context.Context, job Job) bool {
	began := time.Now()
	done, err := r.run(ctx, &job)
	if ctx.Err() != nil {
		return false
	}
	r.tell(done, err)
	pause := min(max(time.Since(began)*rest, minRest), maxRest)
	if err != nil {
		pause = max(pause, failedRest)
	}
	if done.superseded {
		pause = 0
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	}
	r.finish(&job, done, err)
	return true
}

// tell logs what was done: a line for each job that has ended flows.
func (r *Revoker) tell(done outcome, err error) {
	if done.cut > 0 {
		r.log.Info("flows cut that policies do not allow", "flows", done.cut, "first", done.first)
	}
	if done.left > 0 {
		r.log.Info("flows deleted of pods that are gone", "flows", done.left)
	}
	r.mu.Lock()
	before := r.status.Err
	r.status.Cut += uint64(done.cut)
	r.status.Err = err
	r.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		r.log.Warn("revocation", "error", err)
	}
}

// finish makes the Revoker ready.
func (r *Revoker) finish(job *Job, done outcome, err error) {
	r.mu.Lock()
	if err != nil || done.superseded {
		r.undone.Merge(job.Owed)
	}
	switch {
	case done.standing:
		r.standing = true
	case job.All && err == nil && !done.superseded:
		r.standing = false
	}
	r.busy = false
	r.mu.Unlock()
	r.wake.Poke()
}
