// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"context"
	"sync"

	"korat/api"
	"korat/api/store"
)

// watched is a Follower of which is known what the agent has seen of it last.
type watched struct {
	*store.Follower
	mu   sync.Mutex
	seen api.Snapshot
	// news is closed when the agent takes the next Snapshot.
	news chan struct{}
}

// Take implements felix.Datastore.
func (w *watched) Take() (api.Snapshot, map[api.Key]struct{}) {
	snap, changed := w.Follower.Take()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = snap
	close(w.news)
	w.news = make(chan struct{})
	return snap, changed
}

// taken gives the Snapshot of the agent's last pass.
func (w *watched) taken() api.Snapshot {
	snap, _ := w.look()
	return snap
}

func (w *watched) look() (api.Snapshot, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen, w.news
}

// await waits until the agent has taken a Snapshot of which the condition holds; its error says why it does not.
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
