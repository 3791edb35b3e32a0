// SPDX-License-Identifier: Apache-2.0

// Package memory is a datastore that is a map: for tests, and the simplest reading of the contract.
package memory

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"korat/api"
	"korat/api/store"
)

// Store keeps every object and every change in memory until Compact. It is safe for concurrent use.
type Store struct {
	mu       sync.Mutex
	objects  map[api.Key]api.Object
	revision int64
	// history has the changes after the compacted revision, oldest first.
	history   []change
	compacted int64
	// changed is closed and replaced at each change of history.
	changed chan struct{}
}

type change struct {
	revision int64
	event    store.Event
}

var _ store.Store = (*Store)(nil)

// New gives an empty store.
func New() *Store {
	return &Store{objects: map[api.Key]api.Object{}, revision: 1, changed: make(chan struct{})}
}

// Get implements store.Reader.
func (s *Store) Get(ctx context.Context, key api.Key) (api.Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	obj, ok := s.objects[key]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", key, store.ErrNotFound)
	}
	return obj, nil
}

// List implements store.Reader.
func (s *Store) List(ctx context.Context, kind api.Kind) ([]api.Object, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", fmt.Errorf("list %s: %w", kind, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var objs []api.Object
	for key, obj := range s.objects {
		if key.Kind == kind {
			objs = append(objs, obj)
		}
	}
	slices.SortFunc(objs, func(a, b api.Object) int {
		return strings.Compare(a.Key().TableName(), b.Key().TableName())
	})
	return objs, format(s.revision), nil
}

// Create implements store.Writer.
func (s *Store) Create(ctx context.Context, obj api.Object) (api.Object, error) {
	key := obj.Key()
	if err := check(ctx, key); err != nil {
		return nil, fmt.Errorf("create %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.objects[key]; taken {
		return nil, fmt.Errorf("create %s: %w", key, store.ErrExists)
	}
	return s.put(store.Stamp(obj, time.Now())), nil
}

// Update implements store.Writer.
func (s *Store) Update(ctx context.Context, obj api.Object) (api.Object, error) {
	key := obj.Key()
	if err := check(ctx, key); err != nil {
		return nil, fmt.Errorf("update %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, ok := s.objects[key]
	if !ok {
		return nil, fmt.Errorf("update %s: %w", key, store.ErrNotFound)
	}
	if stored.GetResourceVersion() != obj.GetResourceVersion() {
		return nil, fmt.Errorf("update %s: %w", key, store.ErrConflict)
	}
	return s.put(store.Replace(stored, obj)), nil
}

// Delete implements store.Writer.
func (s *Store) Delete(ctx context.Context, key api.Key, revision string) error {
	if err := check(ctx, key); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stored, ok := s.objects[key]
	if !ok {
		return fmt.Errorf("delete %s: %w", key, store.ErrNotFound)
	}
	if revision != "" && revision != stored.GetResourceVersion() {
		return fmt.Errorf("delete %s: %w", key, store.ErrConflict)
	}
	delete(s.objects, key)
	s.record(store.Event{Key: key})
	return nil
}

// Compact forgets the history: a Watch from a revision before the present one ends with
// ErrCompacted.
func (s *Store) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history, s.compacted = nil, s.revision
	s.notify()
}

// put stores the object, which is the store's own, and returns it. The caller holds the lock.
func (s *Store) put(obj api.Object) api.Object {
	obj.SetResourceVersion(format(s.revision + 1))
	s.objects[obj.Key()] = obj
	s.record(store.Event{Key: obj.Key(), Object: obj})
	return obj
}

func (s *Store) record(ev store.Event) {
	s.revision++
	ev.Revision = format(s.revision)
	s.history = append(s.history, change{s.revision, ev})
	s.notify()
}

func (s *Store) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func check(ctx context.Context, key api.Key) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return store.CheckKey(key)
}

func format(revision int64) string { return strconv.FormatInt(revision, 10) }
