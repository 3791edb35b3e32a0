// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"korat/api"
	"korat/api/store"
)

// Watch implements store.Watcher.
func (s *Store) Watch(ctx context.Context, kind api.Kind, revision string) (<-chan store.Event, error) {
	after, err := strconv.ParseInt(revision, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("watch %s: revision %q is none of this datastore's: list first", kind, revision)
	}
	out := make(chan store.Event)
	go s.send(ctx, kind, after, out)
	return out, nil
}

// send writes the changes after a revision to out until ctx is done or the history is lost.
func (s *Store) send(ctx context.Context, kind api.Kind, after int64, out chan<- store.Event) {
	defer close(out)
	for {
		changes, changed, err := s.since(after)
		if err != nil {
			give(ctx, out, store.Event{Err: fmt.Errorf("watch %s: %w", kind, err)})
			return
		}
		for _, c := range changes {
			after = c.revision
			if c.event.Key.Kind == kind && !give(ctx, out, c.event) {
				return
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// give is false if ctx is done before the event is taken.
func give(ctx context.Context, out chan<- store.Event, e store.Event) bool {
	select {
	case out <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

// since gives the changes after a revision and a channel that closes at the next one.
func (s *Store) since(after int64) ([]change, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if after < s.compacted {
		return nil, nil, store.ErrCompacted
	}
	i, _ := slices.BinarySearchFunc(s.history, after+1, func(c change, rev int64) int { return int(c.revision - rev) })
	return slices.Clone(s.history[i:]), s.changed, nil
}
