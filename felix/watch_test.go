// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"strings"
	"sync"
	"testing"

	"korat/api"
	"korat/api/store"
	"korat/api/store/storetest"
	"korat/felix/endpoint"
	"korat/test/etcdtest"
)

// TestPodsOutliveTheWatch loses the datastore in every way while pods run, and has their objects and
// their blocks changed or deleted meanwhile: no pod's route is ever removed or rewritten.
func TestPodsOutliveTheWatch(t *testing.T) {
	for _, tc := range []struct {
		name       string
		begin, end func(*storetest.Faults)
		// local has this node's own objects deleted too.
		local bool
	}{
		{"disconnect", func(f *storetest.Faults) { f.SetDown(true) }, func(f *storetest.Faults) { f.SetDown(false) }, false},
		{"disconnect, own objects deleted", func(f *storetest.Faults) { f.SetDown(true) }, func(f *storetest.Faults) { f.SetDown(false) }, true},
		{"slow reader, own objects deleted", func(f *storetest.Faults) { f.Hold(true) }, func(f *storetest.Faults) { f.Hold(false) }, true},
		{"compaction", func(f *storetest.Faults) { f.Hold(true) }, func(f *storetest.Faults) {
			f.Hold(false)
			f.Break(store.ErrCompacted)
		}, false},
		{"compaction, own objects deleted", func(f *storetest.Faults) { f.Hold(true) }, func(f *storetest.Faults) {
			f.Hold(false)
			f.Break(store.ErrCompacted)
		}, true},
	} {
		for _, name := range []string{"memory", "etcd"} {
			t.Run(tc.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				if name == "etcd" {
					w.store = etcdtest.Start(t)
				}
				faults := storetest.NewFaults(w.store)
				n := w.startWith(faults, &sync.WaitGroup{})
				var pods []endpoint.Endpoint
				for _, name := range []string{"web", "db", "cache"} {
					pods = append(pods, n.attach(name))
				}
				w.published(len(pods))
				w.until("the endpoints are in the datastore", func() bool { return w.count(api.KindWorkloadEndpoint) == len(pods) })
				n.untilReady()
				w.writes()

				tc.begin(faults)
				w.create(nodeObject("b", "192.168.100.101/24"))
				if tc.local {
					for _, kind := range []api.Kind{api.KindWorkloadEndpoint, api.KindIPAMBlock, api.KindBlockAffinity, api.KindNode} {
						w.deleteAll(kind)
					}
				}
				w.store.Compact()
				tc.end(faults)
				// A session of b's is wanted once the agent has read all that happened.
				w.create(nodeObject("c", "192.168.100.102/24"))
				w.until("the agent sees c", func() bool {
					plan, _ := w.speaker.wanted()
					return len(plan.Peers) > 0 && n.Datastore.Snapshot().Nodes.Len() >= 2 && n.Datastore.Status().Connected
				})
				w.until("the endpoints are in the datastore again", func() bool { return w.count(api.KindWorkloadEndpoint) == len(pods) })
				for _, line := range strings.Split(w.writes(), "\n") {
					for _, ep := range pods {
						if strings.Contains(line, ep.Addresses[0].String()+"/32") || strings.Contains(line, ep.Interface) {
							t.Errorf("written though the pod did not change: %s", line)
						}
					}
				}
				for _, ep := range pods {
					if !w.hasRoute(ep.Addresses[0].String() + "/32 dev " + ep.Interface) {
						t.Errorf("no route to %s:\n%s", ep.Addresses[0], w.routes.Dump())
					}
				}
			})
		}
	}
}

func (w *testWorld) count(kind api.Kind) int {
	w.t.Helper()
	objs, _, err := w.store.List(w.t.Context(), kind)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(objs)
}

func (w *testWorld) deleteAll(kind api.Kind) {
	w.t.Helper()
	objs, _, err := w.store.List(w.t.Context(), kind)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, obj := range objs {
		if err := w.store.Delete(w.t.Context(), obj.Key(), ""); err != nil {
			w.t.Fatal(err)
		}
	}
}
