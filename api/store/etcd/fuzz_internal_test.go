// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"encoding/json"
	"reflect"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"korat/api"
	"korat/api/store"
)

// FuzzDecodeKV reads arbitrary keys and values: what decodes has the key that it was stored under, can be
// stored, and is the same when it is read again.
func FuzzDecodeKV(f *testing.F) {
	kinds := api.Kinds()
	for i, kind := range kinds {
		obj := api.New(kind)
		obj.SetName("x")
		namespace := noNamespace
		if info, _ := kind.Info(); info.Namespaced {
			namespace = "ns"
			obj.SetNamespace(namespace)
		}
		api.Default(obj)
		value, err := encode(obj)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), kindPath(kind)+namespace+"/x", value, int64(i+1))
	}
	f.Add(byte(0), "/korat/v1/IPPool/_/x", []byte(`{"metadata":{"name":"x","creationTimestamp":"0000-00-00T00:00:00Z"}}`), int64(1))
	f.Add(byte(0), "/korat/v1/IPPool/_/x", []byte(`null`), int64(1))
	f.Add(byte(0), "/korat/v1/IPPool//x", []byte(`{"metadata":{"name":"x"}}`), int64(1))
	for i := range kinds {
		f.Add(byte(i), kindPath(kinds[i])+"_/x", []byte(`{"metadata":{"name":"x"}}`), int64(1))
		f.Add(byte(i), "_/x", []byte(`{"metadata":{"name":"x"}}`), int64(1))
	}
	f.Fuzz(func(t *testing.T, kind byte, key string, value []byte, revision int64) {
		k := kinds[int(kind)%len(kinds)]
		obj, err := restore(api.Restore).decodeKV(k, &mvccpb.KeyValue{Key: []byte(key), Value: value, ModRevision: revision})
		if err != nil {
			return
		}
		if obj.Key().Kind != k || keyPath(obj.Key()) != key {
			t.Fatalf("decoded %s from %q", obj.Key(), key)
		}
		if err := store.CheckKey(obj.Key()); err != nil {
			t.Errorf("read, but cannot be written: %v", err)
		}
		_ = api.Validate(obj)
		again, err := encode(obj)
		if api.Unreadable(obj) != "" {
			if err == nil {
				t.Errorf("written, though something of it would be lost: %s", again)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		twice, err := restore(api.Restore).decode(obj.Key(), again, revision)
		if err != nil {
			t.Fatalf("decode again: %v", err)
		}
		a, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := json.Marshal(twice); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("have %s, %v\nwant %s", b, err, a)
		}
	})
}
