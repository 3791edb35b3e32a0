// SPDX-License-Identifier: Apache-2.0

// Package mirror keeps the datastore's copy of what this node is the authority on: its Node object
// and the WorkloadEndpoints of its pods. It never decides anything: the agent says what is wanted,
// and while the datastore is away the mirror falls behind and catches up later.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"korat/api"
	"korat/api/store"
	"korat/api/wake"
)

// Datastore is the part of the store that the mirror uses.
type Datastore interface {
	store.Reader
	store.Writer
}

// Mirror writes the differences between what is wanted and what the datastore holds.
type Mirror struct {
	store Datastore
	node  string
	log   *slog.Logger
	wake  wake.Signal

	mu       sync.Mutex
	want     map[api.Key]api.Object // nil until the first Want
	wantNode *api.Node              // nil when it is as it should be
	err      error

	// have are the endpoints that the datastore held when we last read or wrote it; nil before the
	// first listing.
	have map[api.Key]api.Object
}

// New allocates a mirror of the given node's objects.
func New(st Datastore, node string, log *slog.Logger) *Mirror {
	return &Mirror{store: st, node: node, log: log, wake: wake.New()}
}

// Want replaces the whole wanted set: the endpoints, and the Node if it is to be written. The Node has
// other authors too, so it comes as derived from the copy whose resourceVersion it carries, and a
// conflict waits for the agent to derive it anew. Want never blocks.
func (m *Mirror) Want(node *api.Node, endpoints []*api.WorkloadEndpoint) {
	want := make(map[api.Key]api.Object, len(endpoints))
	for _, o := range endpoints {
		want[o.Key()] = o
	}
	m.mu.Lock()
	m.want, m.wantNode = want, node
	m.mu.Unlock()
	m.wake.Poke()
}

// NodePending says whether a Node is still to be written.
func (m *Mirror) NodePending() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wantNode != nil
}

// Err is what the last attempt failed with, nil when the datastore has all.
func (m *Mirror) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Run writes until ctx is done.
func (m *Mirror) Run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, 15*time.Second
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-retry:
		}
		err := m.sync(ctx)
		if ctx.Err() != nil {
			return
		}
		m.report(err)
		if err == nil {
			pause.Reset()
			retry = nil
			continue
		}
		m.have = nil // unsure what was written: list again
		retry = time.After(pause.NextBackOff())
	}
}

func (m *Mirror) report(err error) {
	m.mu.Lock()
	before := m.err
	m.err = err
	m.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		m.log.Warn("mirror to datastore", "error", err)
	}
}

func (m *Mirror) sync(ctx context.Context) error {
	m.mu.Lock()
	want, node := m.want, m.wantNode
	m.mu.Unlock()
	if want == nil {
		return nil
	}
	errs := []error{m.syncNode(ctx, node)}
	if m.have == nil {
		if err := m.list(ctx); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	for key, obj := range want {
		errs = append(errs, m.put(ctx, key, obj))
	}
	for key := range m.have {
		if _, wanted := want[key]; !wanted {
			errs = append(errs, m.remove(ctx, key))
		}
	}
	return errors.Join(errs...)
}

func (m *Mirror) syncNode(ctx context.Context, node *api.Node) error {
	if node == nil {
		return nil
	}
	var err error
	if node.ResourceVersion == "" {
		_, err = m.store.Create(ctx, node)
	} else {
		_, err = m.store.Update(ctx, node)
	}
	stale := errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound)
	if err != nil && !stale { // after a newer Snapshot the agent derives the object anew
		return fmt.Errorf("write %s: %w", node.Key(), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wantNode == node {
		m.wantNode = nil
	}
	if !stale {
		m.log.Info("node registered", "node", node.Name, "address", node.Spec.BGP.IPv4Address)
	}
	return nil
}

// list reads which endpoints the datastore holds of this node's.
func (m *Mirror) list(ctx context.Context) error {
	eps, _, err := m.store.List(ctx, api.KindWorkloadEndpoint)
	if err != nil {
		return fmt.Errorf("list workload endpoints: %w", err)
	}
	have := map[api.Key]api.Object{}
	for _, o := range eps {
		if ep, ok := o.(*api.WorkloadEndpoint); ok && ep.Spec.Node == m.node {
			have[o.Key()] = o
		}
	}
	m.have = have
	return nil
}

func (m *Mirror) remove(ctx context.Context, key api.Key) error {
	if err := m.store.Delete(ctx, key, ""); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	delete(m.have, key)
	return nil
}

func (m *Mirror) put(ctx context.Context, key api.Key, obj api.Object) error {
	have, exists := m.have[key]
	if exists && equal(have, obj) {
		return nil
	}
	obj = obj.DeepCopyObject()
	var stored api.Object
	var err error
	if exists {
		obj.SetResourceVersion(have.GetResourceVersion())
		obj.SetUID(have.GetUID())
		obj.SetCreationTimestamp(have.GetCreationTimestamp())
		stored, err = m.store.Update(ctx, obj)
	} else {
		stored, err = m.store.Create(ctx, obj)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	m.have[key] = stored
	return nil
}

// equal compares what the agent decides: labels, annotations and spec.
func equal(a, b api.Object) bool {
	return reflect.DeepEqual(content(a), content(b))
}

func content(o api.Object) api.Object {
	c := o.DeepCopyObject()
	c.SetResourceVersion("")
	c.SetUID("")
	c.SetGeneration(0)
	c.SetCreationTimestamp(api.Time{})
	return c
}
