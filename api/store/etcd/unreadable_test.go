// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"testing"

	"korat/api"
	"korat/api/store"
	"korat/api/store/etcd"
	"korat/api/store/storetest"
)

// What nobody can read any more of what rules pick goes on as it was read last: after an event, and after everything is
// listed again. Who reads it for the first time knows that it is there, and no more. A tier is never as it was.
func TestUnreadableValuesAreNotForgotten(t *testing.T) {
	server := startServer(t)
	raw, st := rawClient(t, server), open(t, etcd.Config{Endpoints: []string{server.Endpoint()}})
	const setPath, tierPath = "/korat/v1/GlobalNetworkSet/_/office", "/korat/v1/Tier/_/mine"
	set := api.Key{Kind: api.KindGlobalNetworkSet, Name: "office"}
	put := func(path, value string) {
		t.Helper()
		if _, err := raw.Put(t.Context(), path, value); err != nil {
			t.Fatal(err)
		}
	}
	put(setPath, `{"metadata":{"name":"office","labels":{"a":"b"}},"spec":{"nets":["10.0.0.0/8"]}}`)
	put(tierPath, `{"metadata":{"name":"mine"},"spec":{"order":1}}`)
	faults := storetest.NewFaults(st)
	follower := follow(t, faults)
	await(t, follower, func(s api.Snapshot, status store.Status) bool {
		return s.InSync && status.Connected && s.GlobalNetworkSets.Len() == 1 && s.Tiers.Len() == 1
	})
	put(setPath, "{")
	put(tierPath, "{")
	held := func(s api.Snapshot, _ store.Status) bool {
		obj, there := s.GlobalNetworkSets.Get("office")
		tier, known := s.Tiers.Get("mine")
		return there && api.Held(obj) && len(obj.Spec.Nets) == 1 && obj.Labels["a"] == "b" && known && api.Hollow(tier)
	}
	before := await(t, follower, held)
	faults.SetDown(true)
	await(t, follower, func(_ api.Snapshot, status store.Status) bool { return !status.Connected })
	faults.SetDown(false)
	after := await(t, follower, func(_ api.Snapshot, status store.Status) bool { return status.Connected })
	if !after.GlobalNetworkSets.Same(before.GlobalNetworkSets) || !after.Tiers.Same(before.Tiers) {
		t.Error("another list gives another table, though nothing changed")
	}
	faults.SetDown(true)
	await(t, follower, func(_ api.Snapshot, status store.Status) bool { return !status.Connected })
	put(setPath, "no JSON either")
	faults.SetDown(false)
	await(t, follower, func(s api.Snapshot, status store.Status) bool {
		obj, there := s.GlobalNetworkSets.Get("office")
		return status.Connected && there && api.Held(obj) && len(obj.Spec.Nets) == 1 && api.Unreadable(obj) != api.Unreadable(get(t, before, set))
	})

	again := follow(t, st)
	await(t, again, func(s api.Snapshot, _ store.Status) bool {
		obj, there := s.GlobalNetworkSets.Get("office")
		return s.InSync && there && api.Hollow(obj)
	})
	put(setPath, `{"metadata":{"name":"office"},"spec":{"nets":["10.0.0.0/8","10.1.0.0/16"],"later":1}}`)
	for _, f := range []*store.Follower{follower, again} {
		await(t, f, func(s api.Snapshot, _ store.Status) bool {
			obj, there := s.GlobalNetworkSets.Get("office")
			return there && api.Unreadable(obj) != "" && !api.Hollow(obj) && !api.Held(obj) && len(obj.Spec.Nets) == 2
		})
	}
	put(setPath, `{"metadata":{"name":"office"},"spec":{"nets":["10.0.0.0/8"]}}`)
	for _, f := range []*store.Follower{follower, again} {
		await(t, f, func(s api.Snapshot, _ store.Status) bool {
			obj, there := s.GlobalNetworkSets.Get("office")
			return there && api.Unreadable(obj) == ""
		})
	}
}

func get(t *testing.T, snap api.Snapshot, key api.Key) api.Object {
	t.Helper()
	obj, there := snap.Get(key)
	if !there {
		t.Fatalf("there is no %s", key)
	}
	return obj
}
