// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"korat/api"
	"korat/api/store"
)

// list gives a kind's objects in the datastore.
func (w *testWorld) list(kind api.Kind) []api.Object {
	w.t.Helper()
	objs, _, err := w.store.List(w.t.Context(), kind)
	if err != nil {
		w.t.Fatal(err)
	}
	return objs
}

// empty deletes all objects of the kinds.
func (w *testWorld) empty(kinds ...api.Kind) {
	w.t.Helper()
	for _, kind := range kinds {
		for _, obj := range w.list(kind) {
			if err := w.store.Delete(w.t.Context(), obj.Key(), ""); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// holder gives the handle that the datastore has for an address, empty if none.
func (w *testWorld) holder(addr netip.Addr) string {
	for _, obj := range w.list(api.KindIPAMBlock) {
		spec := obj.(*api.IPAMBlock).Spec
		p := netip.MustParsePrefix(spec.CIDR)
		ordinal := int(addr.As4()[3]) - int(p.Addr().As4()[3])
		if p.Contains(addr) && spec.Allocations[ordinal] != nil {
			if a := spec.Attributes[*spec.Allocations[ordinal]]; a.ReleasedAt == nil {
				return a.HandleID
			}
		}
	}
	return ""
}

// The datastore comes back from an old backup: the blocks of live pods are claimed anew.
func TestLostBlocksAreReclaimed(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	web := n.attach("web")
	r := request("container-of-fixed", "fixed")
	r.Addresses = []netip.Addr{netip.MustParseAddr("172.17.200.5")}
	fixed, err := n.add(r)
	if err == nil {
		err = n.ready(fixed.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	published := func() bool {
		return w.holder(web.Addresses[0]) == web.Handle() && w.holder(fixed.Addresses[0]) == fixed.Handle()
	}
	w.until("both addresses are in the datastore", published)
	w.empty(api.KindBlockAffinity, api.KindIPAMBlock)
	w.until("both addresses are in the datastore again", published)
	for _, obj := range w.list(api.KindBlockAffinity) {
		if spec := obj.(*api.BlockAffinity).Spec; spec.Node != "a" || spec.State != api.AffinityConfirmed {
			t.Errorf("affinity %+v", spec)
		}
	}
	if p := n.status().Problems; len(p) > 0 {
		t.Errorf("problems %q", p)
	}
}

// It comes back with another node as the block's owner.
func TestLostBlockOfAnotherNodeIsReported(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	web := n.attach("web")
	w.until("the address is in the datastore", func() bool { return w.holder(web.Addresses[0]) != "" })
	theirs := w.list(api.KindIPAMBlock)[0].DeepCopyObject().(*api.IPAMBlock)
	theirs.Spec.Affinity = new("host:b")
	w.empty(api.KindBlockAffinity)
	if _, err := w.store.Update(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	w.until("the contradiction is reported", func() bool {
		text := strings.Join(n.status().Problems, "\n")
		return strings.Contains(text, "address "+web.Addresses[0].String()) && strings.Contains(text, `belongs to node "b"`)
	})
}

// An address of ours that another node holds is that node's to release.
func TestAddressHeldByAnotherNodeSurvives(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	web := n.attach("web")
	w.until("the address is in the datastore", func() bool { return w.holder(web.Addresses[0]) != "" })
	n.stop()
	blk := w.list(api.KindIPAMBlock)[0].DeepCopyObject().(*api.IPAMBlock)
	lent := netip.MustParsePrefix(blk.Spec.CIDR).Addr().As4()
	lent[3] += 200
	index := len(blk.Spec.Attributes)
	blk.Spec.Attributes = append(blk.Spec.Attributes, api.AllocationAttribute{HandleID: "theirs", ActiveOwnerAttrs: map[string]string{"node": "b"}})
	blk.Spec.Allocations[200] = &index
	blk.Spec.Unallocated = slices.DeleteFunc(blk.Spec.Unallocated, func(o int) bool { return o == 200 })
	if _, err := w.store.Update(t.Context(), blk); err != nil {
		t.Fatal(err)
	}
	n = w.start()
	n.untilReady()
	other := n.attach("other")
	w.until("the block is written", func() bool { return w.holder(other.Addresses[0]) == other.Handle() })
	if have := w.holder(netip.AddrFrom4(lent)); have != "theirs" {
		t.Errorf("the other node's address has handle %q", have)
	}
}

// What others do to the datastore's copy of a pod is undone.
func TestEndpointsInTheDatastoreAreRepaired(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	ep := n.attach("web")
	intact := func() bool {
		objs := w.list(api.KindWorkloadEndpoint)
		return len(objs) == 1 && objs[0].(*api.WorkloadEndpoint).Spec.MAC == ep.MAC
	}
	if ep.MAC == "" {
		ep.MAC = "02:00:00:00:00:01" // what ready says
	}
	w.until("the endpoint is in the datastore", intact)
	w.empty(api.KindWorkloadEndpoint)
	w.until("it is there again", intact)
	other := w.list(api.KindWorkloadEndpoint)[0].DeepCopyObject().(*api.WorkloadEndpoint)
	other.Spec.MAC = "02:00:00:00:00:99"
	for {
		_, err := w.store.Update(t.Context(), other)
		if err == nil {
			break
		}
		if !errors.Is(err, store.ErrConflict) {
			t.Fatal(err)
		}
		other.ResourceVersion = w.list(api.KindWorkloadEndpoint)[0].GetResourceVersion()
	}
	w.until("it says what is", intact)
}

// deniedStore refuses Nodes and WorkloadEndpoints, and counts lists of the latter.
type deniedStore struct {
	store.Store
	denied *atomic.Bool
	lists  *atomic.Int64
}

func (s deniedStore) Create(ctx context.Context, obj api.Object) (api.Object, error) {
	if kind := obj.Key().Kind; s.denied.Load() && (kind == api.KindNode || kind == api.KindWorkloadEndpoint) {
		return nil, errors.New("permission denied")
	}
	return s.Store.Create(ctx, obj)
}

func (s deniedStore) List(ctx context.Context, kind api.Kind) ([]api.Object, string, error) {
	if kind == api.KindWorkloadEndpoint {
		s.lists.Add(1)
	}
	return s.Store.List(ctx, kind)
}

// A node that can't register is not ready: nobody would peer with it. Trying again lists nothing.
func TestNodeThatCannotRegister(t *testing.T) {
	w := newWorld(t)
	st := deniedStore{w.store, &atomic.Bool{}, &atomic.Int64{}}
	st.denied.Store(true)
	n := w.startWith(st, &sync.WaitGroup{})
	w.until("the reason is reported", func() bool {
		return strings.Contains(strings.Join(n.report.notReady(), ""), "register node: write Node/a: permission denied")
	})
	n.attach("web")
	w.until("the endpoint is refused as well", func() bool {
		err := n.Mirror.Err()
		return err != nil && strings.Contains(err.Error(), "WorkloadEndpoint")
	})
	if have := st.lists.Load(); have != 1 {
		t.Errorf("%d lists of all endpoints, want the follower's one", have)
	}
	st.denied.Store(false)
	n.untilReady()
	w.until("the endpoint is in the datastore", func() bool { return len(w.list(api.KindWorkloadEndpoint)) == 1 })
}

// brokenJournal can't write.
type brokenJournal struct{ nopJournal }

func (brokenJournal) Err() error { return errors.New("no space left on device") }

// A record that can't be written shows in the status.
func TestRecordThatCannotBeWritten(t *testing.T) {
	agent, _, _ := cluster(t, 1)
	agent.Journal = brokenJournal{}
	mustPass(t, agent)
	if text := string(agent.report.statusJSON()); !strings.Contains(text, "record of attached pods: no space left on device") {
		t.Errorf("status %s", text)
	}
}
