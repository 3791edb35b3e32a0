// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"korat/api"
	"korat/api/store"
)

const (
	root = "/korat/v1/"
	// noNamespace stands for the namespace of a cluster-wide object; no namespace can have that name.
	noNamespace = "_"
)

func kindPath(kind api.Kind) string { return root + string(kind) + "/" }

func keyPath(key api.Key) string {
	namespace := key.Namespace
	if namespace == "" {
		namespace = noNamespace
	}
	return kindPath(key.Kind) + namespace + "/" + key.Name
}

// parsePath is the inverse of keyPath.
func parsePath(kind api.Kind, path string) (api.Key, error) {
	rest, _ := strings.CutPrefix(path, kindPath(kind))
	namespace, name, ok := strings.Cut(rest, "/")
	if len(rest) == len(path) || !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return api.Key{}, fmt.Errorf("key %q is not %s<namespace>/<name>", path, kindPath(kind))
	}
	if namespace == noNamespace {
		namespace = ""
	}
	key := api.Key{Kind: kind, Namespace: namespace, Name: name}
	return key, store.CheckKey(key)
}

// encode gives the object's value; the resourceVersion is left to etcd.
func encode(obj api.Object) ([]byte, error) {
	stored, err := api.Stored(obj)
	if err != nil {
		return nil, err
	}
	return json.Marshal(stored)
}

// A restore makes an object of its value, as far as that is understood: api.Restore makes it whole.
type restore func(key api.Key, value []byte) (api.Object, error)

// decode is the inverse of encode.
func (r restore) decode(key api.Key, value []byte, revision int64) (api.Object, error) {
	obj, err := r(key, value)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", keyPath(key), err)
	}
	obj.SetResourceVersion(formatRevision(revision))
	return obj, nil
}

func (r restore) decodeKV(kind api.Kind, kv *mvccpb.KeyValue) (api.Object, error) {
	key, err := parsePath(kind, string(kv.Key))
	if err != nil {
		return nil, err
	}
	return r.decode(key, kv.Value, kv.ModRevision)
}

func formatRevision(revision int64) string { return strconv.FormatInt(revision, 10) }

// parseRevision gives -1, which no key has, for what is no revision. (etcd takes 0 for the
// revision of an absent key.)
func parseRevision(revision string) int64 {
	n, err := strconv.ParseInt(revision, 10, 64)
	if err != nil || n < 1 {
		return -1
	}
	return n
}
