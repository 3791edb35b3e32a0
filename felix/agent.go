// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"time"

	"github.com/cenkalti/backoff/v5"

	"korat/api"
	"korat/api/store"
	"korat/bgp"
	"korat/cni-plugin/socket"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/kernel"
	"korat/felix/mirror"
	"korat/felix/packetlog"
	"korat/felix/revocation"
	"korat/ipam"
)

// Datastore is where Snapshots come from.
type Datastore interface {
	Snapshot() api.Snapshot
	// Take is Snapshot, with the keys of the objects that changed since the Snapshot that it gave before, of the
	// kinds that calc.Heeds names.
	Take() (api.Snapshot, map[api.Key]struct{})
	Wake() <-chan struct{}
	Status() store.Status
}

// Speaker speaks BGP as the Plan says and reports what it learns.
type Speaker interface {
	// Want replaces the Plan; restarting says that the kernel still forwards by routes of an earlier
	// run (RFC 4724). It never blocks.
	Want(plan bgp.Plan, restarting bool)
	RIB() bgp.RIB
	// Err says why the speaker is not doing all of the Plan.
	Err() error
	Wake() <-chan struct{}
}

// Supervisor knows who crashes the speaker's process, whoever keeps that alive.
type Supervisor interface {
	// Suspects are the neighbours whose sessions crash the speaker, with the reason.
	Suspects() map[netip.Addr]string
	Wake() <-chan struct{}
}

// Kernel is this host as felix/kernel has it.
type Kernel interface {
	Observe(ctx context.Context) (dataplane.Host, error)
	// ObserveAfter is Observe for what it costs to read what the notice is about.
	ObserveAfter(ctx context.Context, before dataplane.Host, n kernel.Notice) (dataplane.Host, error)
	Drain() kernel.Notice
	Wake() <-chan struct{}
}

// Config is what the agent is told.
type Config struct {
	Identity
	Version   string
	Bootstrap Bootstrap
	// Resync is the period of full reads of the kernel where FelixConfiguration says nothing.
	Resync time.Duration
	// Lifelines are the connections to the datastore, or to the one that this process serves.
	Lifelines []revocation.Lifeline
}

// Parts are what the agent works with; main makes them and runs those that have a Run.
type Parts struct {
	Datastore Datastore
	Store     store.Store
	Kernel    Kernel
	Tables    Tables
	Speaker   Speaker
	// Supervisor may be nil; its Wake may be the Speaker's.
	Supervisor Supervisor
	Keeper     *ipam.Keeper
	Mirror     *mirror.Mirror
	Journal    Journal
	// Revoker ends the flows that policies do not allow any more; if it is nil, they go on.
	Revoker *revocation.Revoker
	// Reports opens the kernel's packet log; if it is nil, there is none.
	Reports func() (packetlog.Source, error)
	Log     *slog.Logger
}

// Agent is the loop. One goroutine, the one in Run, owns all of its state.
type Agent struct {
	Config
	Parts
	calls chan call
	steps []step
	at    *attachments
	world world
	memos memos
	queue []call
	pause *backoff.ExponentialBackOff
	retry <-chan time.Time
	// heard is when the kernel's notices are to be looked at; nil while there are none.
	heard  <-chan time.Time
	report *report
}

// world is what a pass works on.
type world struct {
	snap api.Snapshot
	host dataplane.Host
	rib  bgp.RIB
	plan bgp.Plan
	// self is what the node is reached at, and selfErr why it may not be used.
	self    perFamily[self]
	selfErr error
	// registration is how the node is registered.
	registration registration
	// restarting: at our start the kernel held routes of an earlier run.
	restarting bool
	// learned and want are what the last pass computed; problems what it worked around.
	learned  map[dataplane.RouteKey]dataplane.Route
	want     dataplane.State
	problems []string
	start    start
}

// start is what the first in-sync Snapshot lets the agent do.
type start struct {
	done bool
	// poolless are the families of which a default pool was to be created, that no Snapshot has shown one of since.
	poolless []api.Family
}

// hearing is how long the loop goes on collecting the kernel's notices. Most come in bursts: one ADD is
// a dozen, the agent's own writes among them. Repairs wait for no longer than this.
const hearing = 10 * time.Millisecond

// maxCalls bounds the requests that wait for the loop; a caller beyond that waits in Handle.
const maxCalls = 256

// New allocates an agent.
func New(cfg Config, parts Parts) *Agent {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 50*time.Millisecond, 10*time.Second
	alloc := ipam.NewAllocator(cfg.Node, time.Now)
	alloc.SetFamilies(cfg.families()...)
	a := &Agent{
		Config: cfg, Parts: parts, calls: make(chan call, maxCalls), steps: newSteps(parts.Tables), pause: pause,
		at: &attachments{
			node: cfg.Node, endpoints: map[endpoint.ID]endpoint.Endpoint{}, journal: parts.Journal,
			alloc: alloc, now: time.Now, log: parts.Log,
			unfinished: unfinished{all: map[endpoint.ID]struct{}{}}, recovered: map[endpoint.ID]struct{}{}, guarded: map[endpoint.ID]bool{},
		},
		memos:  memos{enforcement: newEnforcement(cfg.Node)},
		world:  world{registration: newRegistration(time.Now)},
		report: newReport(cfg.Node, cfg.Version),
	}
	if table, ok := parts.Tables.Chains.(interface{ Awaited() string }); ok {
		a.report.work.awaited = table.Awaited
	}
	a.report.countCut(func() uint64 { return parts.Revoker.Status().Cut })
	a.memos.packets = packetlog.New(parts.Reports, lookout{a})
	return a
}

// Run is the loop: it returns when ctx is done or the kernel can't be listened to any more, and leaves
// everything in the kernel in place.
func (a *Agent) Run(ctx context.Context) error {
	a.at.restore()
	if err := a.look(ctx); err != nil {
		return err
	}
	a.memos.pods.update(a.Node, a.at.endpoints) // whoever of them is gone by the first pass leaves flows
	resync := newResync(a.Resync)
	defer resync.stop()
	var suspects <-chan struct{}
	if a.Supervisor != nil {
		suspects = a.Supervisor.Wake()
	}
	for {
		if err := a.pass(ctx); err != nil {
			return err
		}
		if !a.await(ctx, resync, suspects) {
			return nil
		}
		resync.adjust(a.world.snap)
	}
}

// await waits for what calls for a pass; false once ctx is done.
func (a *Agent) await(ctx context.Context, resync *resync, suspects <-chan struct{}) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-a.Kernel.Wake():
			if a.heard == nil {
				a.heard = time.After(hearing)
			}
			continue
		case <-a.heard:
		case c := <-a.calls:
			if !a.take(c) {
				continue
			}
		case <-a.Datastore.Wake():
		case <-a.Speaker.Wake():
		case <-suspects:
		case <-a.Keeper.Wake():
		case <-a.Mirror.Wake():
		case <-a.Revoker.Wake():
			if !a.revoked() {
				continue
			}
		case <-a.retry:
			a.retry = nil
		case <-a.thawed():
		case <-a.sets().ripe():
		case <-a.memos.thrift.over():
			a.memos.thrift.end()
			continue
		case <-resync.routes.C:
			invalidate(a.steps[routesStep:], kernel.Everything())
			a.observe(ctx, kernel.Everything())
		case <-resync.interfaces.C:
			invalidate(a.steps[:setsBefore], kernel.Everything())
			invalidate(a.steps[linksAt:routesStep], kernel.Everything())
			a.observe(ctx, kernel.Everything())
			a.releaseOrphans()
		case <-resync.sets.C:
			a.steps[setsBefore].invalidate(kernel.Everything())
		case <-resync.chains.C:
			a.steps[chainsStep].invalidate(kernel.Everything())
		}
		return true
	}
}

// pass is drain → calculate → apply → answer → report. What fails is reported and tried again; its error
// says that there is no use in that.
func (a *Agent) pass(ctx context.Context) error {
	began := time.Now()
	if err := a.drain(ctx); err != nil {
		return err
	}
	a.at.alloc.Update(a.world.snap)
	a.shun()
	if a.waiting() != "" {
		a.Keeper.Want(a.at.alloc.Wants()) // it sees the flag, and stops
		a.expireCalls()
		a.publish(began, nil)
		return nil
	}
	a.start(ctx)
	a.at.relearn(a.world.snap)
	a.at.alloc.SetExhausted(a.Keeper.Exhausted())
	a.at.alloc.SetLeaving(a.Keeper.Leaving())
	a.at.settle(a.world.host)
	a.identify(ctx)
	answers := a.serve()
	a.Keeper.Want(a.wants())
	a.speak()
	err := a.apply(ctx)
	a.answer(answers, err)
	a.reflect()
	a.publish(began, err)
	return nil
}

// start does what the first in-sync Snapshot allows for the first time.
func (a *Agent) start(ctx context.Context) {
	if a.world.start.done {
		return
	}
	a.world.start.done = true
	a.Log.Info("in sync", "nodes", a.world.snap.Nodes.Len(), "pools", a.world.snap.IPPools.Len(), "endpoints", len(a.at.endpoints))
	a.at.learn(a.world.snap)
	a.bootstrap(ctx)
	a.memos.thrift.listed()
}

// drain takes what has come since the last pass. An agent that hears no more of the kernel is of no use:
// the next one does.
func (a *Agent) drain(ctx context.Context) error {
	for more := true; more; {
		select {
		case c := <-a.calls:
			a.take(c)
		default:
			more = false
		}
	}
	// What is taken now needs no other pass: first the signals, so that none is lost.
	for _, signal := range []<-chan struct{}{a.Datastore.Wake(), a.Speaker.Wake(), a.Kernel.Wake()} {
		select {
		case <-signal:
		default:
		}
	}
	a.heard = nil
	var changed map[api.Key]struct{}
	a.world.snap, changed = a.Datastore.Take()
	a.memos.filter.Changed(a.world.snap, changed)
	a.memos.told = a.memos.told || len(changed) > 0
	a.Mirror.See(a.writable())
	a.world.rib = a.Speaker.RIB()
	notice := a.Kernel.Drain()
	invalidate(a.steps, notice)
	if a.report.hostErr != nil {
		notice.Lost = true
	}
	if made := a.made(); len(made) > 0 {
		notice.Links = maps.Clone(notice.Links)
		if notice.Links == nil {
			notice.Links = made
		}
		maps.Copy(notice.Links, made)
	}
	if notice.Host() {
		a.observe(ctx, notice)
	}
	return notice.Err
}

// observe looks at what changed of the host, or sees to it that the next pass looks at all of it.
func (a *Agent) observe(ctx context.Context, n kernel.Notice) {
	host, err := a.Kernel.ObserveAfter(ctx, a.world.host, n)
	if err != nil {
		a.report.hostErr = err
		a.again()
		return
	}
	a.report.hostErr = nil
	a.world.host = host
}

// made are the interfaces that plugins have just made: their notices may still be under way.
func (a *Agent) made() map[string]bool {
	names := map[string]bool{}
	for _, c := range a.queue {
		if c.req.Verb != socket.VerbReady {
			continue
		}
		if ep, known := a.at.find(c.req.ID); known {
			names[ep.Interface] = false
		}
	}
	return names
}

// again asks for another pass after a pause that grows with each failure.
func (a *Agent) again() {
	if a.retry == nil {
		a.retry = time.After(a.pause.NextBackOff())
	}
}

// apply computes and writes the kernel's state.
func (a *Agent) apply(ctx context.Context) error {
	state, fresh, err := a.state(ctx)
	if err != nil {
		a.again()
		return err
	}
	a.world.want = state
	err = a.applyAll(ctx, state, fresh)
	a.revoke()
	if err != nil {
		a.again()
		return err
	}
	if a.links().ahead() && a.heard == nil {
		a.heard = time.After(hearing)
	}
	if a.retry == nil {
		a.pause.Reset()
	}
	return nil
}

// reflect brings the datastore's copy of this node's objects up to date.
func (a *Agent) reflect() {
	var node *api.Node
	if a.world.selfErr == nil {
		node = a.register(a.world.snap, a.world.own())
	}
	// A Node that is as it should be withdraws what the mirror had no time to write.
	if !a.at.changed && node == nil && !a.Mirror.NodePending() {
		return
	}
	a.at.changed = false
	a.Mirror.Want(node, workloadEndpoints(a.Node, a.at.endpoints, a.memos.pods))
}
