// SPDX-License-Identifier: Apache-2.0

// Package mirror keeps the datastore's copy of what this node is the authority on: its Node object
// and the WorkloadEndpoints of its pods. It never decides anything: the agent says what is wanted,
// and while the datastore is away the mirror falls behind and catches up later. What others do to these
// objects is undone when a Snapshot shows it, but for the labels of endpoints: those that an attachment begins with
// are the runtime's, and from then on they are people's.
package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"korat/api"
	"korat/api/store"
	"korat/api/wake"
)

// calm is the least time between two attempts at the Node, and from a pass to the next one that only a
// Snapshot asks for: two authors who undo each other's changes are to be no load.
const calm = time.Second

// The pause after a failed pass grows from minPause to maxPause.
const (
	minPause = 100 * time.Millisecond
	maxPause = 2 * time.Second
)

// maxPass bounds a pass, so that a datastore that hangs shows in Err.
const maxPass = 10 * time.Second

// Datastore is the part of the store that the mirror uses.
type Datastore interface {
	store.Reader
	store.Writer
}

// Mirror writes the differences between what is wanted and what the datastore holds.
type Mirror struct {
	store Datastore
	log   *slog.Logger
	// kick is poked by Want, seen by See, wake when Err has changed.
	kick, seen, wake wake.Signal

	mu    sync.Mutex
	given given
	err   error

	endpoints endpoints
	// tried is when the Node was last tried to write, and nodeErr how that failed.
	tried   time.Time
	nodeErr error
}

// given is what the agent has told.
type given struct {
	snap api.Snapshot
	// wanted is true once endpoints and node are what the agent wants.
	wanted    bool
	endpoints []*api.WorkloadEndpoint // in order of their keys
	node      *api.Node               // nil when it is as it should be
}

// New allocates a mirror of the given node's objects.
func New(st Datastore, node string, log *slog.Logger) *Mirror {
	return &Mirror{
		store: st, log: log, kick: wake.New(), seen: wake.New(), wake: wake.New(),
		endpoints: endpoints{store: st, node: node, copies: map[api.Key]*copied{}},
	}
}

// See tells what the datastore holds. Nothing is written before it was in sync, nor while it says that
// nobody may. See never blocks.
func (m *Mirror) See(snap api.Snapshot) {
	m.mu.Lock()
	before := m.given.snap
	m.given.snap = snap
	m.mu.Unlock()
	if open(snap) != open(before) || !snap.WorkloadEndpoints.Same(before.WorkloadEndpoints) {
		m.seen.Poke()
	}
}

// open says whether the datastore may be written.
func open(snap api.Snapshot) bool { return snap.InSync && snap.DatastoreReady() }

// Want replaces the whole wanted set: the endpoints, and the Node if it is to be written. The Node has
// other authors too, so it comes as derived from the copy whose resourceVersion it carries, and a
// conflict waits for the agent to derive it anew. Want never blocks.
func (m *Mirror) Want(node *api.Node, endpoints []*api.WorkloadEndpoint) {
	sorted := slices.SortedFunc(slices.Values(endpoints), func(x, y *api.WorkloadEndpoint) int {
		return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Name, y.Name))
	})
	m.mu.Lock()
	m.given.wanted, m.given.endpoints, m.given.node = true, sorted, node
	m.mu.Unlock()
	m.kick.Poke()
}

// NodePending says whether a Node is still to be written.
func (m *Mirror) NodePending() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.given.node != nil
}

// Err is what the last attempt failed with, nil when the datastore has all.
func (m *Mirror) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Wake is poked when Err has changed.
func (m *Mirror) Wake() <-chan struct{} { return m.wake }

// Run writes until ctx is done.
func (m *Mirror) Run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = minPause, maxPause
	for {
		due, err := m.pass(ctx, time.Now())
		if ctx.Err() != nil {
			return
		}
		kick := m.kick
		if err == nil {
			pause.Reset()
		} else {
			due, kick = pause.NextBackOff(), nil // new wishes wait too, the datastore is unwell
		}
		if !m.wait(ctx, kick, due) {
			return
		}
	}
}

// wait returns at a kick, when due if that is not zero, or at a new Snapshot, but for that not at once; false
// once ctx is done.
func (m *Mirror) wait(ctx context.Context, kick <-chan struct{}, due time.Duration) bool {
	var seen <-chan struct{}
	var at <-chan time.Time
	if due > 0 {
		timer := time.NewTimer(due)
		defer timer.Stop()
		at = timer.C
	}
	quiet := time.NewTimer(calm)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-quiet.C:
			if kick != nil {
				seen = m.seen
			}
			continue
		case <-kick:
		case <-seen:
		case <-at:
		}
		return ctx.Err() == nil
	}
}

// pass does once what is to be done, and says when it has to be called again without being asked, if at all.
func (m *Mirror) pass(ctx context.Context, now time.Time) (due time.Duration, err error) {
	m.mu.Lock()
	g := m.given
	m.mu.Unlock()
	if !g.wanted || !open(g.snap) {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, maxPass)
	defer cancel()
	due, err = m.syncNode(ctx, g.node, now)
	if !errors.Is(err, store.ErrUnavailable) {
		later, endpointsErr := m.endpoints.sync(ctx, g.snap.WorkloadEndpoints, g.endpoints, now)
		due, err = earlier(due, later), errors.Join(err, endpointsErr)
	}
	m.report(err)
	return due, err
}

// earlier gives the shorter of two times, of which zero is none.
func earlier(x, y time.Duration) time.Duration {
	if x == 0 || y > 0 && y < x {
		return y
	}
	return x
}

func (m *Mirror) report(err error) {
	m.mu.Lock()
	before := m.err
	m.err = err
	m.mu.Unlock()
	if text(before) == text(err) {
		return
	}
	if err != nil {
		m.log.Warn("mirror to datastore", "error", err)
	}
	m.wake.Poke()
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// syncNode writes the Node, and says when it may be tried again.
func (m *Mirror) syncNode(ctx context.Context, node *api.Node, now time.Time) (due time.Duration, err error) {
	if node == nil {
		m.nodeErr = nil
		return 0, nil
	}
	if left := calm - now.Sub(m.tried); left > 0 && left <= calm {
		return left, m.nodeErr
	}
	m.tried = now
	m.nodeErr = m.writeNode(ctx, node)
	return 0, m.nodeErr
}

func (m *Mirror) writeNode(ctx context.Context, node *api.Node) (err error) {
	if node.ResourceVersion == "" {
		_, err = m.store.Create(ctx, node)
	} else {
		_, err = m.store.Update(ctx, node)
	}
	if err != nil && !stale(err) { // after a newer Snapshot the agent derives the object anew
		return fmt.Errorf("write %s: %w", node.Key(), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.given.node == node {
		m.given.node = nil
	}
	if err == nil {
		m.log.Info("node registered", "node", node.Name, "addresses", node.Spec.BGPAddresses().String())
	}
	return nil
}
