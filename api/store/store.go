// SPDX-License-Identifier: Apache-2.0

// Package store is the datastore's contract: small enough that etcd, the Kubernetes API and a map
// in memory all fulfil it. It knows single objects, compare-and-swap on a revision, and list plus
// watch for one kind; there are no transactions over several objects.
//
// Follow turns lists and watches into api.Snapshots. Open store.go for the contract and
// storetest for the suite that every implementation passes.
package store

import (
	"context"
	"errors"

	"korat/api"
)

// The errors that callers branch on. Implementations wrap them with the key.
var (
	ErrNotFound    = errors.New("not found")
	ErrExists      = errors.New("already exists")
	ErrConflict    = errors.New("changed meanwhile: read it again and retry")
	ErrCompacted   = errors.New("revision compacted: list again")
	ErrUnavailable = errors.New("datastore unavailable")
)

// Reader reads objects. What it returns is shared and must not be changed.
type Reader interface {
	// Get returns the object, or ErrNotFound.
	Get(ctx context.Context, key api.Key) (api.Object, error)
	// List returns every object of a kind, ordered by namespace and name, and the revision that
	// a Watch can go on from.
	List(ctx context.Context, kind api.Kind) (objs []api.Object, revision string, err error)
}

// Pager is a Reader that can list in parts: who needs little of the objects then never holds all; see Each.
type Pager interface {
	// Pages calls each for parts of what List returns, in its order, and returns List's revision. After an
	// error some parts may have been seen.
	Pages(ctx context.Context, kind api.Kind, each func([]api.Object)) (revision string, err error)
}

// Writer changes objects. It neither defaults nor validates: that is api's, before.
type Writer interface {
	// Create stores a new object, gives it a UID, a creation time and a resourceVersion, and
	// returns it as stored. ErrExists if the key is taken.
	Create(ctx context.Context, obj api.Object) (api.Object, error)
	// Update replaces the object if its stored resourceVersion still equals obj's, and returns it
	// as stored. ErrConflict if it differs or obj's is empty; ErrNotFound if there is none.
	Update(ctx context.Context, obj api.Object) (api.Object, error)
	// Delete removes the object; with a revision only if the stored one equals it, else ErrConflict.
	// ErrNotFound if there is none.
	Delete(ctx context.Context, key api.Key, revision string) error
}

// Watcher reports changes.
type Watcher interface {
	// Watch sends every change of a kind after the given revision, in order. The channel ends with
	// an Event that carries Err (ErrCompacted, ErrUnavailable), or closes once ctx is done. The caller
	// reads until it is closed.
	Watch(ctx context.Context, kind api.Kind, revision string) (<-chan Event, error)
}

// Source is the part of the contract that is for reading.
type Source interface {
	Reader
	Watcher
}

// Store is the whole contract.
type Store interface {
	Reader
	Writer
	Watcher
}

// Event is one change of one object.
type Event struct {
	Key api.Key
	// Object is the new state, or nil when the object was deleted.
	Object api.Object
	// Revision is the datastore's revision after the change.
	Revision string
	// Err ends the watch; the other fields are then empty.
	Err error
}
