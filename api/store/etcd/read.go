// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"korat/api"
	"korat/api/store"
)

// Brief gives a view of the datastore whose objects are what restore makes of their values, in place of api.Restore: who needs
// little of them never holds more.
func (s *Store) Brief(restore func(key api.Key, value []byte) (api.Object, error)) store.Source {
	view := *s
	view.restore = restore
	return &view
}

// Get implements store.Reader.
func (s *Store) Get(ctx context.Context, key api.Key) (api.Object, error) {
	if err := store.CheckKey(key); err != nil {
		return nil, fmt.Errorf("get %w", err)
	}
	reqCtx, cancel := s.request(ctx)
	defer cancel()
	resp, err := s.client.Get(reqCtx, keyPath(key))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, s.explain(ctx, err))
	}
	if len(resp.Kvs) == 0 {
		return nil, fmt.Errorf("get %s: %w", key, store.ErrNotFound)
	}
	obj, err := s.restore.decode(key, resp.Kvs[0].Value, resp.Kvs[0].ModRevision)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w: delete or repair the key with etcdctl", key, err)
	}
	return obj, nil
}

// listTries bounds the repeating of a List whose revision is compacted while it runs.
const listTries = 5

// List implements store.Reader.
func (s *Store) List(ctx context.Context, kind api.Kind) ([]api.Object, string, error) {
	for try := 1; ; try++ {
		var objs []api.Object
		revision, err := s.Pages(ctx, kind, func(page []api.Object) { objs = append(objs, page...) })
		if err == nil {
			return objs, revision, nil
		}
		if try == listTries || !errors.Is(err, store.ErrCompacted) {
			return nil, "", err
		}
	}
}

// Pages implements store.Pager. All pages are read at the revision of the first; ErrCompacted if that is
// compacted meanwhile. A value that does not decode is logged and left out.
func (s *Store) Pages(ctx context.Context, kind api.Kind, each func([]api.Object)) (string, error) {
	if api.New(kind) == nil {
		return "", fmt.Errorf("list %s: kind is not supported by korat", kind)
	}
	start := kindPath(kind)
	end := clientv3.GetPrefixRangeEnd(start)
	page, err := s.page(ctx, start, end, 0)
	if err != nil {
		return "", fmt.Errorf("list %s: %w", kind, err)
	}
	revision := page.Header.Revision
	for page.More {
		start = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
		next := make(chan error, 1)
		var following *clientv3.GetResponse
		go func() { // while this one is decoded
			var err error
			following, err = s.page(ctx, start, end, revision)
			next <- err
		}()
		each(s.objects(kind, page))
		if err := <-next; err != nil {
			return "", fmt.Errorf("list %s: %w", kind, err)
		}
		page = following
	}
	each(s.objects(kind, page))
	return formatRevision(revision), nil
}

// objects gives those of a page that can be read.
func (s *Store) objects(kind api.Kind, page *clientv3.GetResponse) []api.Object {
	objs := make([]api.Object, 0, len(page.Kvs))
	for _, kv := range page.Kvs {
		if obj, ok := s.readable(kind, kv); ok {
			objs = append(objs, obj)
		}
	}
	return objs
}

// present gives the datastore's revision.
func (s *Store) present(ctx context.Context) (int64, error) {
	reqCtx, cancel := s.request(ctx)
	defer cancel()
	resp, err := s.client.Get(reqCtx, root)
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// page reads the next keys from start at a revision, or at the present one if it is 0.
func (s *Store) page(ctx context.Context, start, end string, revision int64) (*clientv3.GetResponse, error) {
	reqCtx, cancel := s.request(ctx)
	defer cancel()
	resp, err := s.client.Get(reqCtx, start, clientv3.WithRange(end), clientv3.WithLimit(pageSize), clientv3.WithRev(revision))
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	return resp, nil
}

// readable decodes a value, or logs that it cannot.
func (s *Store) readable(kind api.Kind, kv *mvccpb.KeyValue) (api.Object, bool) {
	obj, err := s.restore.decodeKV(kind, kv)
	if err != nil {
		s.log.Warn("unreadable object ignored: delete or repair its key with etcdctl", "key", string(kv.Key), "error", err)
		return nil, false
	}
	return obj, true
}
