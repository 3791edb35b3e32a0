// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"fmt"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"

	"korat/api"
	"korat/api/store"
)

// Watch implements store.Watcher. It ends with ErrUnavailable as soon as no server can be reached
// or the server lost its leader, and with ErrCompacted also when the datastore is younger than the
// revision (it was restored from a backup). A value that does not decode is logged and left out:
// the state before it stays.
func (s *Store) Watch(ctx context.Context, kind api.Kind, revision string) (<-chan store.Event, error) {
	after := parseRevision(revision)
	if after < 0 {
		return nil, fmt.Errorf("watch %s: revision %q is none of this datastore's: list first", kind, revision)
	}
	if api.New(kind) == nil {
		return nil, fmt.Errorf("watch %s: kind is not supported by korat", kind)
	}
	w := &watch{Store: s, kind: kind, after: after, out: make(chan store.Event)}
	go w.run(ctx)
	return w.out, nil
}

type watch struct {
	*Store
	kind  api.Kind
	after int64
	out   chan store.Event
}

// run passes changes on until ctx is done or the watch is lost.
func (w *watch) run(ctx context.Context) {
	defer close(w.out)
	watchCtx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	defer cancel(nil)
	// The client's watch reconnects for ever and says nothing of it.
	go func() { cancel(w.awaitLoss(watchCtx)) }()
	_, present := w.course.now()
	defer context.AfterFunc(present, func() { cancel(store.ErrCompacted) })()
	for renewedAt := int64(-1); ; {
		tokenNumber := w.user.number()
		err := w.pass(watchCtx, tokenNumber)
		if ctx.Err() != nil {
			return
		}
		err = lossOr(watchCtx, err)
		// A token that did not help is left to the caller's back-off.
		if w.user != nil && stale(err) && renewedAt != w.after {
			renewedAt = w.after
			if _, err = w.user.renew(ctx, w.client.ActiveConnection(), tokenNumber); err == nil {
				continue
			}
		}
		w.end(ctx, w.explain(ctx, err))
		return
	}
}

// pass sends changes on until the client's watch ends, and gives the reason.
func (w *watch) pass(ctx context.Context, tokenNumber int) error {
	// The client puts watches whose metadata is equal into one stream, which keeps the token that it
	// was opened with: once that has expired, every further watch in it would be refused.
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "korat-token", strconv.Itoa(tokenNumber)))
	defer cancel()
	changes := w.client.Watch(ctx, kindPath(w.kind),
		clientv3.WithPrefix(), clientv3.WithRev(w.after+1), clientv3.WithCreatedNotify())
	for resp := range changes {
		err := resp.Err()
		if err == nil && resp.Created && resp.Header.Revision < w.after {
			err = w.ahead(ctx)
		}
		if err != nil {
			return err
		}
		if err := w.send(ctx, resp.Events); err != nil {
			return err
		}
	}
	return store.ErrUnavailable
}

// ahead says whether the watch's revision is beyond the datastore's, or only beyond that of the member
// that watches, which may lag behind.
func (w *watch) ahead(ctx context.Context) error {
	revision, err := w.present(ctx)
	if err == nil && revision < w.after {
		return store.ErrCompacted
	}
	return err
}

// lossOr gives why the watch was given up, or else err.
func lossOr(watchCtx context.Context, err error) error {
	if cause := context.Cause(watchCtx); cause != nil {
		return cause
	}
	return err
}

// awaitLoss waits until no endpoint can be reached.
func (w *watch) awaitLoss(ctx context.Context) error {
	conn := w.client.ActiveConnection()
	for {
		state := conn.GetState()
		if state == connectivity.TransientFailure || state == connectivity.Shutdown {
			return fmt.Errorf("%w: connection to %s lost", store.ErrUnavailable, w.endpoints)
		}
		if !conn.WaitForStateChange(ctx, state) {
			return nil
		}
	}
}

// send sends events, until ctx is done.
func (w *watch) send(ctx context.Context, events []*clientv3.Event) error {
	for _, e := range events {
		if ev, ok := w.event(e); ok {
			select {
			case w.out <- ev:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		w.after = e.Kv.ModRevision
	}
	return nil
}

func (w *watch) event(e *clientv3.Event) (store.Event, bool) {
	ev := store.Event{Revision: formatRevision(e.Kv.ModRevision)}
	if e.Type == clientv3.EventTypeDelete {
		key, err := parsePath(w.kind, string(e.Kv.Key))
		ev.Key = key
		return ev, err == nil
	}
	obj, ok := w.readable(w.kind, e.Kv)
	if !ok {
		return ev, false
	}
	ev.Key, ev.Object = obj.Key(), obj
	return ev, true
}

// end sends the watch's last event, unless the caller is gone.
func (w *watch) end(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	select {
	case w.out <- store.Event{Err: fmt.Errorf("watch %s: %w", w.kind, err)}:
	case <-ctx.Done():
	}
}
