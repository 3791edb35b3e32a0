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
	objs, revision, err := f.list(ctx, kind)
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
		ev.Object = f.kept(ev.Object)
		if !f.send(ctx, change{kind: kind, event: &ev}) {
			return ctx.Err()
		}
	}
	return fmt.Errorf("watch %s: %w", kind, ErrUnavailable)
}

// list gives what is to be kept of a kind.
func (f *Follower) list(ctx context.Context, kind api.Kind) (objs []api.Object, revision string, err error) {
	keep := func(page []api.Object) {
		for _, obj := range page {
			if obj = f.kept(obj); obj != nil {
				objs = append(objs, obj)
			}
		}
	}
	if pager, ok := f.store.(Pager); ok {
		revision, err = pager.Pages(ctx, kind, keep)
		return objs, revision, err
	}
	all, revision, err := f.store.List(ctx, kind)
	keep(all)
	return objs, revision, err
}

// kept is what is to be kept of an object.
func (f *Follower) kept(obj api.Object) api.Object {
	if obj == nil || f.Keep == nil {
		return obj
	}
	return f.Keep(obj)
}

func (f *Follower) send(ctx context.Context, c change) bool {
	select {
	case f.changes <- c:
		return true
	case <-ctx.Done():
		return false
	}
}
