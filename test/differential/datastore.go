// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"context"
	"maps"
	"sync"

	"korat/api"
	"korat/api/store"
)

// watched is a Follower of which is known what the agent has seen of it last, and that can be held.
type watched struct {
	*store.Follower
	mu   sync.Mutex
	seen api.Snapshot
	// held says that the agent gets no news.
	held bool
	// broken are objects as the agent gets them instead of those that there are, and mended the keys of those that it has got so.
	broken []api.Object
	mended []api.Key
	// news is closed when the agent asks for a Snapshot, as it does after each change.
	news chan struct{}
}

// Take implements felix.Datastore.
func (w *watched) Take() (api.Snapshot, map[api.Key]struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.news)
	w.news = make(chan struct{})
	if w.held {
		return w.seen, nil
	}
	seen, news := w.Follower.Take()
	changed := map[api.Key]struct{}{}
	maps.Copy(changed, news)
	for _, key := range w.mended {
		changed[key] = struct{}{}
	}
	w.mended = nil
	for _, obj := range w.broken {
		seen = seen.With(obj)
		changed[obj.Key()] = struct{}{}
		w.mended = append(w.mended, obj.Key())
	}
	w.seen = seen
	return seen, changed
}

// spoil gives the agent other objects than there are; none of them ends that.
func (w *watched) spoil(objs ...api.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = objs
}

// hold keeps what changes from the agent until release, so that it gets all of it at once.
func (w *watched) hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = true
}

func (w *watched) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = false
}

// taken gives the Snapshot of the agent's last pass.
func (w *watched) taken() api.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// look gives what the agent would get, and what is closed when there may be more.
func (w *watched) look() (api.Snapshot, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held {
		return w.Snapshot(), w.news
	}
	return w.seen, w.news
}

// await waits until the agent has taken a Snapshot of which the condition holds, or while it is held could take one; its
// error says why it does not.
func (w *watched) await(ctx context.Context, holds func(api.Snapshot) error) error {
	for {
		snap, news := w.look()
		err := holds(snap)
		if err == nil {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return err
		}
	}
}
