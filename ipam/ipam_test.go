// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/api/store"
	"korat/api/store/memory"
)

// noon is when the tests' allocators live.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func fixed() time.Time { return noon }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func pool(name, cidr string, blockSize int) *api.IPPool {
	p := &api.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: api.IPPoolSpec{CIDR: cidr, BlockSize: blockSize}}
	api.Default(p)
	return p
}

func reservation(cidrs ...string) *api.IPReservation {
	return &api.IPReservation{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: api.IPReservationSpec{ReservedCIDRs: cidrs}}
}

func affinity(node, cidr, state string) *api.BlockAffinity {
	a := &api.BlockAffinity{
		ObjectMeta: metav1.ObjectMeta{Name: api.AffinityName(node, netip.MustParsePrefix(cidr))},
		Spec:       api.BlockAffinitySpec{State: state, Node: node, CIDR: cidr},
	}
	api.Default(a)
	return a
}

// ipamBlock gives a block of a node; held is "address=handle …".
func ipamBlock(t *testing.T, node, cidr, held string) *api.IPAMBlock {
	t.Helper()
	p := netip.MustParsePrefix(cidr)
	a := NewAllocator(node, fixed)
	obj := &api.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: api.BlockName(p), UID: "uid"}}
	obj.Spec = emptySpec(t, node, p)
	a.Update(api.Snapshot{InSync: true}.With(obj).With(affinity(node, cidr, api.AffinityConfirmed)))
	for _, pair := range strings.Fields(held) {
		addr, handle, _ := strings.Cut(pair, "=")
		a.Restore(handle, map[string]string{"namespace": "ns", "pod": "pod-" + handle}, []netip.Addr{netip.MustParseAddr(addr)})
	}
	for _, c := range a.Changes() {
		obj.Spec = c.Want.Spec()
	}
	return obj
}

func emptySpec(t *testing.T, node string, p netip.Prefix) api.IPAMBlockSpec {
	t.Helper()
	size := 1 << (p.Addr().BitLen() - p.Bits())
	s := api.IPAMBlockSpec{CIDR: p.String(), Allocations: make([]*int, size), Attributes: []api.AllocationAttribute{}}
	owner := "host:" + node
	s.Affinity = &owner
	for i := range size {
		s.Unallocated = append(s.Unallocated, i)
	}
	return s
}

// settings gives the IPAMConfiguration. Most tests do without a cool-down.
func settings(strict bool, cooldown time.Duration) *api.IPAMConfiguration {
	c := &api.IPAMConfiguration{ObjectMeta: metav1.ObjectMeta{Name: api.DefaultName}}
	c.Spec.StrictAffinity, c.Spec.IPCooldownSeconds = &strict, new(int(cooldown/time.Second))
	api.Default(c)
	return c
}

// synced gives a Snapshot of the objects.
func synced(objs ...api.Object) api.Snapshot {
	s := api.Snapshot{InSync: true}.With(settings(true, 0))
	for _, o := range objs {
		s = s.With(o)
	}
	return s
}

// own gives the two objects of a node's confirmed block.
func own(t *testing.T, s api.Snapshot, node, cidr, held string) api.Snapshot {
	t.Helper()
	return s.With(affinity(node, cidr, api.AffinityConfirmed)).With(ipamBlock(t, node, cidr, held))
}

func addrs(list ...string) []netip.Addr {
	var as []netip.Addr
	for _, s := range list {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

// picture reads a whole store.
func picture(t *testing.T, st store.Reader) api.Snapshot {
	t.Helper()
	s := api.Snapshot{InSync: true}
	for _, kind := range []api.Kind{api.KindIPPool, api.KindIPReservation, api.KindBlockAffinity, api.KindIPAMBlock, api.KindClusterInformation, api.KindIPAMConfiguration, api.KindNode} {
		objs, _, err := st.List(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objs {
			s = s.With(o)
		}
	}
	return s
}

func filled(t *testing.T, objs ...api.Object) *memory.Store {
	t.Helper()
	st := memory.New()
	if !slices.ContainsFunc(objs, func(o api.Object) bool { return o.Key().Kind == api.KindIPAMConfiguration }) {
		objs = append(objs, settings(true, 0))
	}
	for _, o := range objs {
		if _, err := st.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

// owners shows a store's blocks as "cidr=owner affinities…", and what is wrong with them.
func owners(t *testing.T, st store.Reader) string {
	t.Helper()
	s := picture(t, st)
	var lines []string
	for _, b := range s.IPAMBlocks.All() {
		line := b.Spec.CIDR + "=" + owner(b)
		for _, a := range s.BlockAffinities.All() {
			if a.Spec.CIDR == b.Spec.CIDR {
				line += " " + a.Spec.Node + ":" + a.Spec.State
			}
		}
		lines = append(lines, line)
	}
	for _, a := range s.BlockAffinities.All() {
		if _, ok := s.IPAMBlocks.Get(api.BlockName(netip.MustParsePrefix(a.Spec.CIDR))); !ok {
			lines = append(lines, a.Spec.CIDR+" without block "+a.Spec.Node+":"+a.Spec.State)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// faulty is a datastore that goes away at one call: that call fails, having had its effect or not,
// and so do all later ones, without effect.
type faulty struct {
	store.Store
	// left counts the calls that succeed still; late says that the failing one has its effect.
	left  int
	late  bool
	calls []string
	mu    sync.Mutex
}

// allow changes how many calls succeed still.
func (f *faulty) allow(left int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = left
}

// count counts the calls so far, of one sort if what is not empty.
func (f *faulty) count(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if what == "" || c == what {
			n++
		}
	}
	return n
}

func (f *faulty) call(what string, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, what)
	f.left--
	if f.left >= 0 {
		return do()
	}
	if f.left == -1 && f.late {
		_ = do()
	}
	return fmt.Errorf("%s: %w", what, store.ErrUnavailable)
}

func (f *faulty) Get(ctx context.Context, key api.Key) (obj api.Object, err error) {
	err = f.call("get "+string(key.Kind), func() error { obj, err = f.Store.Get(ctx, key); return err })
	return obj, err
}

func (f *faulty) List(ctx context.Context, kind api.Kind) (objs []api.Object, rev string, err error) {
	err = f.call("list "+string(kind), func() error { objs, rev, err = f.Store.List(ctx, kind); return err })
	return objs, rev, err
}

func (f *faulty) Create(ctx context.Context, o api.Object) (obj api.Object, err error) {
	err = f.call("create "+string(o.Key().Kind), func() error { obj, err = f.Store.Create(ctx, o); return err })
	return obj, err
}

func (f *faulty) Update(ctx context.Context, o api.Object) (obj api.Object, err error) {
	err = f.call("update "+string(o.Key().Kind), func() error { obj, err = f.Store.Update(ctx, o); return err })
	return obj, err
}

func (f *faulty) Delete(ctx context.Context, key api.Key, revision string) error {
	return f.call("delete "+string(key.Kind), func() error { return f.Store.Delete(ctx, key, revision) })
}
