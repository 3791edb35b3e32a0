// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"fmt"
	"sync"

	"korat/api"
	"korat/api/store"
)

// Faults is a Store that can be made to fail.
type Faults struct {
	inner store.Store

	mu   sync.Mutex
	down bool
	// broken is closed, with why, to end the watches of the moment.
	broken chan struct{}
	why    error
	// held is closed while events pass.
	held chan struct{}
}

var (
	_ store.Store = (*Faults)(nil)
	_ store.Pager = (*Faults)(nil)
)

// NewFaults gives a Store that does what inner does, until told otherwise.
func NewFaults(inner store.Store) *Faults {
	f := &Faults{inner: inner, broken: make(chan struct{}), held: make(chan struct{})}
	close(f.held)
	return f
}

// Hold keeps events back, as a reader does that is slow, or lets them pass.
func (f *Faults) Hold(hold bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.held:
		if hold {
			f.held = make(chan struct{})
		}
	default:
		if !hold {
			close(f.held)
		}
	}
}

func (f *Faults) passing() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

// SetDown makes every request fail with ErrUnavailable, and ends every watch with it, or ends that state.
func (f *Faults) SetDown(down bool) {
	f.mu.Lock()
	f.down = down
	f.mu.Unlock()
	if down {
		f.Break(store.ErrUnavailable)
	}
}

// Break ends every present watch with the error.
func (f *Faults) Break(why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.why = why
	close(f.broken)
	f.broken = make(chan struct{})
}

func (f *Faults) check(action string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return fmt.Errorf("%s: %w", action, store.ErrUnavailable)
	}
	return nil
}

// Get implements store.Reader.
func (f *Faults) Get(ctx context.Context, key api.Key) (api.Object, error) {
	if err := f.check("get " + key.String()); err != nil {
		return nil, err
	}
	return f.inner.Get(ctx, key)
}

// List implements store.Reader.
func (f *Faults) List(ctx context.Context, kind api.Kind) ([]api.Object, string, error) {
	if err := f.check("list " + string(kind)); err != nil {
		return nil, "", err
	}
	return f.inner.List(ctx, kind)
}

// Pages implements store.Pager, in the parts of inner or in one.
func (f *Faults) Pages(ctx context.Context, kind api.Kind, each func([]api.Object)) (string, error) {
	if err := f.check("list " + string(kind)); err != nil {
		return "", err
	}
	if pager, ok := f.inner.(store.Pager); ok {
		return pager.Pages(ctx, kind, each)
	}
	objs, revision, err := f.inner.List(ctx, kind)
	if err == nil {
		each(objs)
	}
	return revision, err
}

// Create implements store.Writer.
func (f *Faults) Create(ctx context.Context, obj api.Object) (api.Object, error) {
	if err := f.check("create " + obj.Key().String()); err != nil {
		return nil, err
	}
	return f.inner.Create(ctx, obj)
}

// Update implements store.Writer.
func (f *Faults) Update(ctx context.Context, obj api.Object) (api.Object, error) {
	if err := f.check("update " + obj.Key().String()); err != nil {
		return nil, err
	}
	return f.inner.Update(ctx, obj)
}

// Delete implements store.Writer.
func (f *Faults) Delete(ctx context.Context, key api.Key, revision string) error {
	if err := f.check("delete " + key.String()); err != nil {
		return err
	}
	return f.inner.Delete(ctx, key, revision)
}

// Watch implements store.Watcher.
func (f *Faults) Watch(ctx context.Context, kind api.Kind, revision string) (<-chan store.Event, error) {
	if err := f.check("watch " + string(kind)); err != nil {
		return nil, err
	}
	f.mu.Lock()
	broken := f.broken
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	events, err := f.inner.Watch(ctx, kind, revision)
	if err != nil {
		cancel()
		return nil, err
	}
	out := make(chan store.Event)
	go func() {
		defer close(out)
		defer cancel()
		f.forward(ctx, events, out, broken)
	}()
	return out, nil
}

func (f *Faults) forward(ctx context.Context, events <-chan store.Event, out chan<- store.Event, broken <-chan struct{}) {
	for {
		var ev store.Event
		var open bool
		select {
		case <-broken:
			f.mu.Lock()
			ev, open = store.Event{Err: f.why}, true
			f.mu.Unlock()
		case ev, open = <-events:
		}
		if !open {
			return
		}
		select {
		case <-f.passing():
		case <-ctx.Done():
			return
		}
		select {
		case out <- ev:
		case <-ctx.Done():
			return
		}
		if ev.Err != nil {
			return
		}
	}
}
