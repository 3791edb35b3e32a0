// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"korat/api"
)

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// follow lists and watches one kind, again and again, until ctx is done.
func (f *Follower) follow(ctx context.Context, kind api.Kind) {
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval, delay.MaxInterval = firstRetry, lastRetry
	for {
		started := time.Now()
		err := f.listAndWatch(ctx, kind)
		if ctx.Err() != nil {
			return
		}
		f.status.lost(kind, err)
		if time.Since(started) > lastRetry {
			delay.Reset()
		}
		retry := time.NewTimer(delay.NextBackOff())
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return
		}
	}
}

// listAndWatch sends a list and then every change, until the watch is lost.
func (f *Follower) listAndWatch(ctx context.Context, kind api.Kind) error {
	// Each watch has its own context, so that leaving early frees it.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var objs []api.Object
	revision, err := Each(ctx, f.store, kind, func(page []api.Object) { objs = append(objs, page...) })
	if err != nil {
		return err
	}
	if !f.send(ctx, change{kind: kind, list: objs}) {
		return ctx.Err()
	}
	events, err := f.store.Watch(ctx, kind, revision)
	if err != nil {
		return err
	}
	f.status.connected(kind)
	for ev := range events {
		if ev.Err != nil {
			return ev.Err
		}
		if !f.send(ctx, change{kind: kind, event: &ev}) {
			return ctx.Err()
		}
	}
	return fmt.Errorf("watch %s: %w", kind, ErrUnavailable)
}

// Each calls each for every object of a kind, in List's order and in parts where the Reader is a Pager, and returns List's
// revision. After an error some objects may have been seen.
func Each(ctx context.Context, r Reader, kind api.Kind, each func([]api.Object)) (revision string, err error) {
	if pager, ok := r.(Pager); ok {
		return pager.Pages(ctx, kind, each)
	}
	all, revision, err := r.List(ctx, kind)
	if err == nil {
		each(all)
	}
	return revision, err
}

func (f *Follower) send(ctx context.Context, c change) bool {
	select {
	case f.changes <- c:
		return true
	case <-ctx.Done():
		return false
	}
}
