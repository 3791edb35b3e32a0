// SPDX-License-Identifier: Apache-2.0

package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/api/store"
	"korat/api/store/memory"
)

// counting is a datastore that notes the calls, and refuses what refuse names.
type counting struct {
	*memory.Store
	mu     sync.Mutex
	calls  []string
	refuse error
}

func (c *counting) note(call string, key api.Key) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call+" "+key.String())
	return c.refuse
}

// take gives the calls since the last time; from now on they are refused with the error, if it is one.
func (c *counting) take(refuse error) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls, c.refuse = nil, refuse
	return calls
}

func (c *counting) Get(ctx context.Context, key api.Key) (api.Object, error) {
	if err := c.note("get", key); err != nil {
		return nil, err
	}
	return c.Store.Get(ctx, key)
}

func (c *counting) List(ctx context.Context, kind api.Kind) ([]api.Object, string, error) {
	if err := c.note("list", api.Key{Kind: kind}); err != nil {
		return nil, "", err
	}
	return c.Store.List(ctx, kind)
}

func (c *counting) Create(ctx context.Context, obj api.Object) (api.Object, error) {
	if err := c.note("create", obj.Key()); err != nil {
		return nil, err
	}
	return c.Store.Create(ctx, obj)
}

func (c *counting) Update(ctx context.Context, obj api.Object) (api.Object, error) {
	if err := c.note("update", obj.Key()); err != nil {
		return nil, err
	}
	return c.Store.Update(ctx, obj)
}

func (c *counting) Delete(ctx context.Context, key api.Key, revision string) error {
	if err := c.note("delete", key); err != nil {
		return err
	}
	return c.Store.Delete(ctx, key, revision)
}

// still is a mirror on a fake clock, which is shown the datastore when the test says so.
type still struct {
	t *testing.T
	*Mirror
	store *counting
}

// onFakeClock runs the test with a mirror of node a and a datastore that holds objs.
func onFakeClock(t *testing.T, test func(s *still), objs ...api.Object) {
	synctest.Test(t, func(t *testing.T) {
		st := &counting{Store: memory.New()}
		s := &still{t: t, Mirror: New(st, "a", slog.New(slog.DiscardHandler)), store: st}
		for _, obj := range objs {
			s.plant(obj)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go s.Run(ctx)
		test(s)
		cancel()
	})
}

// plant does what somebody else might: it makes the datastore hold the object.
func (s *still) plant(obj api.Object) {
	s.t.Helper()
	obj = obj.DeepCopyObject()
	if have, err := s.store.Store.Get(s.t.Context(), obj.Key()); err == nil {
		obj.SetResourceVersion(have.GetResourceVersion())
		if _, err := s.store.Store.Update(s.t.Context(), obj); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	if _, err := s.store.Store.Create(s.t.Context(), obj); err != nil {
		s.t.Fatal(err)
	}
}

func (s *still) uproot(key api.Key) {
	s.t.Helper()
	if err := s.store.Store.Delete(s.t.Context(), key, ""); err != nil {
		s.t.Fatal(err)
	}
}

// show tells the mirror what the datastore has now.
func (s *still) show() {
	s.t.Helper()
	snap, err := store.Load(s.t.Context(), s.store.Store, api.Kinds())
	if err != nil {
		s.t.Fatal(err)
	}
	s.See(snap)
	synctest.Wait()
}

// later lets time pass.
func (s *still) later(d time.Duration) {
	time.Sleep(d) // of synctest's clock
	synctest.Wait()
}

// did fails unless the mirror has made these calls since the last time.
func (s *still) did(want ...string) {
	s.t.Helper()
	if diff := cmp.Diff(strings.Join(want, "\n"), strings.Join(s.store.take(nil), "\n")); diff != "" {
		s.t.Errorf("calls: %s", diff)
	}
}

const (
	web  = "WorkloadEndpoint/ns/a-web"
	ours = "10.0.0.1/32"
)

// What somebody else deletes or changes is put right when a Snapshot shows it.
func TestDriftIsRepaired(t *testing.T) {
	onFakeClock(t, func(s *still) {
		s.show()
		s.Want(nil, []*api.WorkloadEndpoint{wep("a", "web", ours)})
		synctest.Wait()
		s.did("create " + web)
		s.show()
		s.later(calm)
		s.did()
		s.uproot(wep("a", "web", "").Key())
		s.show()
		s.later(calm)
		s.did("create " + web)
		s.show()
		s.plant(wep("a", "web", "10.9.9.9/32"))
		s.show()
		s.later(2 * calm)
		s.did("update " + web)
		obj, err := s.store.Store.Get(t.Context(), wep("a", "web", "").Key())
		if err != nil || obj.(*api.WorkloadEndpoint).Spec.IPNetworks[0] != ours {
			t.Errorf("stored: %v, %v", obj, err)
		}
		s.show()
		s.later(time.Hour)
		s.did()
	})
}

// Two who undo each other's changes write once in a while, not as fast as they can.
func TestDriftIsNoRace(t *testing.T) {
	onFakeClock(t, func(s *still) {
		s.show()
		s.Want(nil, []*api.WorkloadEndpoint{wep("a", "web", ours)})
		synctest.Wait()
		for range 1000 {
			s.plant(wep("a", "web", "10.9.9.9/32"))
			s.show()
			s.later(10 * time.Millisecond)
		}
		if n := len(s.store.take(nil)); n < 9 || n > 12 {
			t.Errorf("%d calls in ten seconds, want one in a second", n)
		}
	})
}

// A Snapshot that lags behind a write is no drift, until it has taken too long.
func TestLaggingSnapshot(t *testing.T) {
	onFakeClock(t, func(s *still) {
		s.show()
		old := s.given.snap
		s.Want(nil, []*api.WorkloadEndpoint{wep("a", "web", ours)})
		synctest.Wait()
		s.did("create " + web)
		for i := range 5 {
			s.See(old.With(wep("b", fmt.Sprint(i), "10.0.1.1/32")))
			s.later(calm)
		}
		s.did()
		s.uproot(wep("a", "web", "").Key()) // before any Snapshot had it
		s.later(flight)
		s.did("get "+web, "create "+web)
		s.show()
		s.later(2 * flight)
		s.did()
		s.Want(nil, []*api.WorkloadEndpoint{wep("a", "web", "10.0.0.2/32")})
		synctest.Wait()
		s.Want(nil, []*api.WorkloadEndpoint{wep("a", "web", "10.0.0.3/32")})
		synctest.Wait()
		s.did("update "+web, "update "+web)
	})
}

// After a restart nothing is written that is there already, and what is left of pods that are gone is deleted.
func TestRestart(t *testing.T) {
	onFakeClock(t, func(s *still) {
		s.Want(nil, []*api.WorkloadEndpoint{wep("a", "web", ours)})
		synctest.Wait()
		s.did() // the datastore has not been read
		s.show()
		s.later(calm)
		s.did("delete WorkloadEndpoint/ns/a-gone")
		s.show()
		s.plant(wep("a", "planted", "10.0.0.7/32"))
		s.show()
		s.later(scanInterval / 2)
		s.did()
		s.later(scanInterval)
		s.did("delete WorkloadEndpoint/ns/a-planted")
	}, wep("a", "web", ours), wep("a", "gone", "10.0.0.9/32"), wep("b", "web", "10.0.1.1/32"))
}

// Labels that people give stay over writes and a restart. A pod that is added again has its own alone.
func TestPeoplesLabels(t *testing.T) {
	attached := func(container, mac, address, app string) *api.WorkloadEndpoint {
		ep := wep("a", "web", address)
		ep.Spec.ContainerID, ep.Spec.MAC, ep.Labels = container, mac, map[string]string{"app": app}
		return ep
	}
	theirs := attached("c1", "m1", ours, "shop")
	theirs.Labels["role"] = "db"
	stored := func(s *still) string {
		obj, err := s.store.Store.Get(t.Context(), theirs.Key())
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(obj.(*api.WorkloadEndpoint).Spec.IPNetworks, obj.GetLabels())
	}
	for _, c := range []struct {
		name string
		want *api.WorkloadEndpoint
		have string
	}{
		{"unchanged after a restart", attached("c1", "m1", ours, "web"), "[10.0.0.1/32] map[app:shop role:db]"},
		{"changed", attached("c1", "m1", "10.0.0.2/32", "web"), "[10.0.0.2/32] map[app:shop role:db]"},
		{"recovered without hardware address", attached("c1", "", ours, ""), "[10.0.0.1/32] map[app:shop role:db]"},
		{"another container", attached("c2", "m1", ours, "web"), "[10.0.0.1/32] map[app:web]"},
		{"another interface", attached("c1", "m2", ours, "web"), "[10.0.0.1/32] map[app:web]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onFakeClock(t, func(s *still) {
				s.show()
				s.Want(nil, []*api.WorkloadEndpoint{c.want})
				s.later(calm)
				if have := stored(s); have != c.have {
					t.Errorf("have %s, want %s", have, c.have)
				}
				s.show()
				s.later(calm)
				s.store.take(nil)
				s.show()
				s.later(time.Hour)
				s.did()
			}, theirs)
		})
	}
}

// A label that is given while the agent runs, and while it is about to write something else.
func TestLabelWhileRunning(t *testing.T) {
	onFakeClock(t, func(s *still) {
		s.show()
		s.Want(nil, []*api.WorkloadEndpoint{wep("a", "web", ours)})
		synctest.Wait()
		s.show()
		given := wep("a", "web", ours)
		given.Labels = map[string]string{"role": "db"}
		s.plant(given)
		s.did("create " + web)
		s.Want(nil, []*api.WorkloadEndpoint{wep("a", "web", "10.0.0.2/32")})
		synctest.Wait()
		s.did("update "+web, "get "+web, "update "+web)
		s.show()
		s.later(calm)
		s.did()
		obj, err := s.store.Store.Get(t.Context(), given.Key())
		if err != nil || obj.GetLabels()["role"] != "db" || obj.(*api.WorkloadEndpoint).Spec.IPNetworks[0] != "10.0.0.2/32" {
			t.Errorf("stored: %v, %v", obj, err)
		}
	})
}

// While the datastore says that nobody may write, there is no call, and no retry of one that failed either.
func TestDatastoreNotReady(t *testing.T) {
	info := &api.ClusterInformation{}
	info.Name = api.DefaultName
	info.Spec.DatastoreReady = new(false)
	node := &api.Node{}
	node.Name = "a"
	node.Spec.BGP = &api.NodeBGPSpec{IPv4Address: "10.0.0.1/24"}
	onFakeClock(t, func(s *still) {
		denied := errors.New("permission denied")
		s.store.take(denied)
		s.show()
		s.Want(node, []*api.WorkloadEndpoint{wep("a", "web", ours), wep("a", "db", "10.0.0.2/32")})
		s.later(10 * time.Second)
		if calls := s.store.take(denied); len(calls) < 6 {
			t.Fatalf("no retries: %v", calls)
		}
		const want = "write Node/a: permission denied\nwrite WorkloadEndpoint/ns/a-db: permission denied (and 1 more like it)"
		if err := s.Err(); err == nil || err.Error() != want {
			t.Errorf("error %v", err)
		}
		s.plant(info)
		s.show()
		s.store.take(denied)
		s.Want(node, []*api.WorkloadEndpoint{wep("a", "web", ours)})
		s.later(time.Minute)
		s.did()
		s.uproot(info.Key())
		s.show()
		s.later(2 * time.Second)
		s.did("create Node/a", "create "+web, "delete WorkloadEndpoint/ns/a-db")
		if s.Err() != nil || s.NodePending() {
			t.Errorf("error %v, node pending %v", s.Err(), s.NodePending())
		}
		select {
		case <-s.Wake():
		default:
			t.Error("nobody was woken")
		}
	})
}

// Two hosts of one name want the Node to be their own.
func TestNodeIsWrittenOnceASecond(t *testing.T) {
	node := &api.Node{}
	node.Name = "a"
	node.Spec.BGP = &api.NodeBGPSpec{}
	onFakeClock(t, func(s *still) {
		for i := range 500 {
			theirs := node.DeepCopy()
			theirs.Spec.BGP.IPv4Address = fmt.Sprintf("10.0.0.%d/24", i%250)
			s.plant(theirs)
			s.show()
			have, _ := s.given.snap.Nodes.Get("a")
			mine := have.DeepCopy()
			mine.Spec.BGP.IPv4Address = "10.1.1.1/24"
			s.Want(mine, nil)
			s.later(10 * time.Millisecond)
		}
		if n := len(s.store.take(nil)); n < 4 || n > 6 {
			t.Errorf("%d calls in five seconds, want one in a second", n)
		}
	})
}

// BenchmarkOthersChange is what another node's pod costs this one, with its own 110 of 100,000.
func BenchmarkOthersChange(b *testing.B) {
	snap := api.Snapshot{InSync: true}
	for i := range 100_000 {
		snap = snap.With(wep(fmt.Sprintf("n%d", i/110), fmt.Sprint("pod", i), "10.0.0.1/32"))
	}
	var own []*api.WorkloadEndpoint
	for i := range 110 {
		ep := wep("a", fmt.Sprint("pod", i), "10.0.0.1/32")
		snap, own = snap.With(ep), append(own, ep.DeepCopy())
	}
	m := New(memory.New(), "a", slog.New(slog.DiscardHandler))
	m.Want(nil, own)
	now := time.Now()
	for b.Loop() {
		snap = snap.With(wep("n1", "pod1", "10.0.0.1/32"))
		m.See(snap)
		if _, err := m.pass(b.Context(), now); err != nil {
			b.Fatal(err)
		}
	}
}
