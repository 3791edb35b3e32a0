// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"korat/api"
)

// errNotYet is the state of a kind before its first list.
var errNotYet = errors.New("not read yet")

// Status is a Follower's connection to its datastore.
type Status struct {
	// Connected is true while every kind has been listed and is being watched.
	Connected bool
	// Err says why it is not connected.
	Err error
	// Since is when Connected last changed.
	Since time.Time
}

// tracker makes one Status of the kinds' and logs its changes, each once.
type tracker struct {
	log *slog.Logger

	mu sync.Mutex
	// broken has the kinds that are not being watched.
	broken map[api.Kind]struct{}
	status Status
}

func newTracker(kinds []api.Kind, log *slog.Logger) *tracker {
	t := &tracker{log: log, broken: map[api.Kind]struct{}{}, status: Status{Err: errNotYet, Since: time.Now()}}
	for _, kind := range kinds {
		t.broken[kind] = struct{}{}
	}
	return t
}

func (t *tracker) get() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

func (t *tracker) connected(kind api.Kind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.broken, kind)
	if len(t.broken) == 0 && !t.status.Connected {
		t.status = Status{Connected: true, Since: time.Now()}
		t.log.Info("datastore connected")
	}
}

func (t *tracker) lost(kind api.Kind, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// A compacted revision is the datastore's housekeeping, not an outage: it answers.
	if errors.Is(err, ErrCompacted) {
		t.log.Debug("watch compacted, listing again", "kind", kind)
		return
	}
	t.broken[kind] = struct{}{}
	if t.status.Connected || errors.Is(t.status.Err, errNotYet) {
		t.log.Warn("datastore lost, trying again", "kind", kind, "error", err)
	}
	if t.status.Connected {
		t.status = Status{Since: time.Now()}
	}
	t.status.Err = err
}
