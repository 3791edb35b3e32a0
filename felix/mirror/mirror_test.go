// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/api/store/memory"
	"korat/api/store/storetest"
)

func wep(node, pod, address string) *api.WorkloadEndpoint {
	w := &api.WorkloadEndpoint{}
	w.Namespace, w.Name = "ns", node+"-"+pod
	w.Spec.Node, w.Spec.Pod, w.Spec.IPNetworks = node, pod, []string{address}
	return w
}

type fixture struct {
	t *testing.T
	*Mirror
	store *memory.Store
}

// start runs a mirror that writes through seen and is shown what st has.
func start(t *testing.T, st *memory.Store, seen Datastore) *fixture {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	f := &fixture{t: t, Mirror: New(seen, "a", log), store: st}
	follower := store.NewFollower(st, api.Kinds(), log)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	running.Go(func() { follower.Run(ctx) })
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-follower.Wake():
				f.See(follower.Snapshot())
			}
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return f
}

// until waits until the datastore's endpoints are pod=address pairs as wanted.
func (f *fixture) until(want map[string]string) {
	f.t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for {
		have := map[string]string{}
		objs, _, err := f.store.List(f.t.Context(), api.KindWorkloadEndpoint)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, o := range objs {
			w := o.(*api.WorkloadEndpoint)
			have[w.Spec.Node+"/"+w.Spec.Pod] = w.Spec.IPNetworks[0]
		}
		same := len(have) == len(want)
		for k, v := range want {
			same = same && have[k] == v
		}
		if same {
			return
		}
		select {
		case <-deadline:
			f.t.Fatalf("datastore has %v, want %v", have, want)
		case <-tick.C:
		}
	}
}

func TestMirrorsOnlyThisNode(t *testing.T) {
	st := memory.New()
	for _, o := range []api.Object{wep("a", "stale", "10.0.0.9/32"), wep("b", "other", "10.0.1.1/32")} {
		if _, err := st.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	f := start(t, st, st)
	f.Want(nil, []*api.WorkloadEndpoint{wep("a", "web", "10.0.0.1/32")})
	f.until(map[string]string{"a/web": "10.0.0.1/32", "b/other": "10.0.1.1/32"})
	f.Want(nil, []*api.WorkloadEndpoint{wep("a", "web", "10.0.0.2/32"), wep("a", "db", "10.0.0.3/32")})
	f.until(map[string]string{"a/web": "10.0.0.2/32", "a/db": "10.0.0.3/32", "b/other": "10.0.1.1/32"})
	f.Want(nil, nil)
	f.until(map[string]string{"b/other": "10.0.1.1/32"})
}

func TestCatchesUpAfterAnOutage(t *testing.T) {
	st := memory.New()
	faults := storetest.NewFaults(st)
	f := start(t, st, faults)
	faults.SetDown(true)
	f.Want(nil, []*api.WorkloadEndpoint{wep("a", "web", "10.0.0.1/32")})
	deadline, tick := time.After(20*time.Second), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !errors.Is(f.Err(), store.ErrUnavailable) {
		select {
		case <-deadline:
			t.Fatalf("error %v, want %v", f.Err(), store.ErrUnavailable)
		case <-tick.C:
		}
	}
	faults.SetDown(false)
	f.until(map[string]string{"a/web": "10.0.0.1/32"})
}

// The Node has other authors: a copy derived from an old one must not undo their change.
func TestStaleNodeIsNotWritten(t *testing.T) {
	st := memory.New()
	node := &api.Node{}
	node.Name = "a"
	node.Spec.BGP = &api.NodeBGPSpec{IPv4Address: "10.0.0.1/24"}
	first, err := st.Create(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	theirs := first.DeepCopyObject().(*api.Node)
	as := api.ASNumber(65001)
	theirs.Spec.BGP.ASNumber = &as
	if _, err := st.Update(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	ours := first.DeepCopyObject().(*api.Node)
	ours.Spec.BGP.IPv4Address = "10.0.0.2/24"
	f := start(t, st, st)
	f.Want(ours, []*api.WorkloadEndpoint{wep("a", "web", "10.0.0.1/32")})
	f.until(map[string]string{"a/web": "10.0.0.1/32"}) // the node's turn comes before
	stored, err := st.Get(t.Context(), node.Key())
	if err != nil {
		t.Fatal(err)
	}
	if got := stored.(*api.Node).Spec.BGP; got.ASNumber == nil || got.IPv4Address != "10.0.0.1/24" {
		t.Errorf("stored %+v: the other author's change was undone", got)
	}
}

// An endpoint that nobody can read any more is written again with the labels that were read last. If none were, somebody may
// have given it some that forbid something: it stays as it is, and that is told.
func TestUnreadableEndpoint(t *testing.T) {
	onFakeClock(t, func(s *still) {
		last := wep("a", "web", ours)
		last.Labels = map[string]string{"quarantine": "yes"}
		s.plant(last)
		stored, err := s.store.Store.Get(t.Context(), last.Key())
		if err != nil {
			t.Fatal(err)
		}
		broken, err := api.Restore(last.Key(), []byte("{"))
		if err != nil {
			t.Fatal(err)
		}
		broken.SetResourceVersion(stored.GetResourceVersion())
		s.See(api.Snapshot{InSync: true}.With(broken))
		s.Want(nil, []*api.WorkloadEndpoint{wep("a", "web", ours)})
		s.later(calm)
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), web+": object") {
			t.Errorf("error %v", err)
		}
		s.did()
		s.See(api.Snapshot{InSync: true}.With(api.Hold(stored, broken)))
		s.later(maxPause + calm)
		s.did("update " + web)
		have, err := s.store.Store.Get(t.Context(), last.Key())
		if err != nil || have.GetLabels()["quarantine"] != "yes" || api.Unreadable(have) != "" || s.Err() != nil {
			t.Errorf("have %v, %v, error %v", have, err, s.Err())
		}
	})
}
