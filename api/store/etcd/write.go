// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"korat/api"
	"korat/api/store"
)

// Create implements store.Writer.
func (s *Store) Create(ctx context.Context, obj api.Object) (api.Object, error) {
	key := obj.Key()
	if err := store.CheckKey(key); err != nil {
		return nil, fmt.Errorf("create %w", err)
	}
	stored, found, err := s.swap(ctx, store.Stamp(obj, time.Now()), 0)
	switch {
	case err != nil:
		return nil, fmt.Errorf("create %s: %w", key, err)
	case found:
		return nil, fmt.Errorf("create %s: %w", key, store.ErrExists)
	}
	return stored, nil
}

// Update implements store.Writer. An object without UID and creation time gets the stored ones, at the
// cost of one more request.
func (s *Store) Update(ctx context.Context, obj api.Object) (api.Object, error) {
	key := obj.Key()
	if err := store.CheckKey(key); err != nil {
		return nil, fmt.Errorf("update %w", err)
	}
	revision := parseRevision(obj.GetResourceVersion())
	created := obj.GetCreationTimestamp()
	if obj.GetUID() == "" || created.IsZero() {
		stored, err := s.Get(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("update %s: %w", key, err)
		}
		obj = store.Replace(stored, obj)
	}
	stored, found, err := s.swap(ctx, obj, revision)
	switch {
	case err != nil:
		return nil, fmt.Errorf("update %s: %w", key, err)
	case stored == nil && !found:
		return nil, fmt.Errorf("update %s: %w", key, store.ErrNotFound)
	case stored == nil:
		return nil, fmt.Errorf("update %s: %w", key, store.ErrConflict)
	}
	return stored, nil
}

// swap writes the object if its key's revision is still the given one (0: if it does not exist).
// Otherwise stored is nil, and found says whether there is one.
func (s *Store) swap(ctx context.Context, obj api.Object, revision int64) (stored api.Object, found bool, err error) {
	value, err := encode(obj)
	if err != nil {
		return nil, false, err
	}
	path := keyPath(obj.Key())
	resp, err := s.commit(ctx, path, revision, clientv3.OpPut(path, string(value)))
	if err != nil {
		return nil, false, err
	}
	if !resp.Succeeded {
		return nil, exists(resp), nil
	}
	stored, err = restore(api.Restore).decode(obj.Key(), value, resp.Header.Revision)
	return stored, false, err
}

// Delete implements store.Writer.
func (s *Store) Delete(ctx context.Context, key api.Key, revision string) error {
	if err := store.CheckKey(key); err != nil {
		return fmt.Errorf("delete %w", err)
	}
	var found bool
	var err error
	if revision == "" {
		found, err = s.deleteAny(ctx, key)
	} else {
		var resp *clientv3.TxnResponse
		path := keyPath(key)
		resp, err = s.commit(ctx, path, parseRevision(revision), clientv3.OpDelete(path))
		if err == nil && !resp.Succeeded && exists(resp) {
			return fmt.Errorf("delete %s: %w", key, store.ErrConflict)
		}
		found = err == nil && resp.Succeeded
	}
	switch {
	case err != nil:
		return fmt.Errorf("delete %s: %w", key, err)
	case !found:
		return fmt.Errorf("delete %s: %w", key, store.ErrNotFound)
	}
	return nil
}

func (s *Store) deleteAny(ctx context.Context, key api.Key) (found bool, err error) {
	reqCtx, cancel := s.request(ctx)
	defer cancel()
	resp, err := s.client.Delete(reqCtx, keyPath(key))
	if err != nil {
		return false, s.explain(ctx, err)
	}
	return resp.Deleted > 0, nil
}

// commit does op if the key's revision is the given one, else reads whether the key exists.
func (s *Store) commit(ctx context.Context, path string, revision int64, op clientv3.Op) (*clientv3.TxnResponse, error) {
	reqCtx, cancel := s.request(ctx)
	defer cancel()
	resp, err := s.client.Txn(reqCtx).
		If(clientv3.Compare(clientv3.ModRevision(path), "=", revision)).
		Then(op).
		Else(clientv3.OpGet(path, clientv3.WithKeysOnly())).
		Commit()
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	return resp, nil
}

// exists reads the answer of commit's Else.
func exists(resp *clientv3.TxnResponse) bool {
	return len(resp.Responses) == 1 && len(resp.Responses[0].GetResponseRange().GetKvs()) > 0
}
