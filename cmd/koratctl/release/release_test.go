// SPDX-License-Identifier: Apache-2.0

package release_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/api/store"
	"korat/api/store/memory"
	"korat/cmd/koratctl/picture"
	"korat/cmd/koratctl/release"
	"korat/ipam/audit"
	"korat/ipam/block"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// lost gives a cluster of node a alone, with the blocks of a node that is gone: a pod of it with an address of each
// family, and a leaked address.
func lost(t *testing.T) *memory.Store {
	t.Helper()
	st := memory.New()
	put(t, st, &api.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
	put(t, st, &api.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: api.IPPoolSpec{CIDR: "10.0.0.0/16"}})
	put(t, st, &api.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "six"}, Spec: api.IPPoolSpec{CIDR: "fd00::/64"}})
	claimed(t, st, "10.0.0.0/30", "10.0.0.1=c1", "10.0.0.2=c2")
	claimed(t, st, "fd00::/126", "fd00::1=c1")
	ep := &api.WorkloadEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "one"}}
	ep.Spec = api.WorkloadEndpointSpec{Node: "gone", ContainerID: "c1", Endpoint: "eth0", IPNetworks: []string{"10.0.0.1/32", "fd00::1/128"}}
	put(t, st, ep)
	return st
}

func put(t *testing.T, st store.Writer, obj api.Object) {
	t.Helper()
	api.Default(obj)
	if _, err := st.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
}

func claimed(t *testing.T, st store.Writer, cidr string, held ...string) {
	t.Helper()
	p := netip.MustParsePrefix(cidr)
	b, err := block.New(p, "host:gone")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range held {
		addr, id, _ := strings.Cut(text, "=")
		if err := b.AssignAddr(netip.MustParseAddr(addr), block.Holder{Handle: "net." + id + ".eth0", Attrs: map[string]string{"node": "gone"}}); err != nil {
			t.Fatal(err)
		}
	}
	put(t, st, &api.IPAMBlock{ObjectMeta: metav1.ObjectMeta{Name: api.BlockName(p)}, Spec: b.Spec()})
	put(t, st, &api.BlockAffinity{
		ObjectMeta: metav1.ObjectMeta{Name: api.AffinityName("gone", p)},
		Spec:       api.BlockAffinitySpec{State: api.AffinityConfirmed, Node: "gone", CIDR: cidr},
	})
}

func read(t *testing.T, st store.Reader) *audit.Book {
	t.Helper()
	snap, err := picture.Read(t.Context(), st, api.Kinds()...)
	if err != nil {
		t.Fatal(err)
	}
	return audit.Read(snap)
}

func plan(t *testing.T, st store.Reader) audit.Plan {
	t.Helper()
	b := read(t, st)
	return b.Release(b.Findings(noon), true, noon)
}

// left names what there is beside the node and the pools.
func left(t *testing.T, st store.Reader) string {
	t.Helper()
	var all []string
	for _, kind := range []api.Kind{api.KindBlockAffinity, api.KindIPAMBlock, api.KindWorkloadEndpoint} {
		objs, _, err := st.List(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, obj := range objs {
			all = append(all, obj.Key().String())
		}
	}
	for _, a := range read(t, st).Allocations() {
		all = append(all, fmt.Sprintf("%s %s", a.Address, a.Use))
	}
	return strings.Join(all, "\n")
}

func TestCarry(t *testing.T) {
	st := lost(t)
	done, err := release.Carry(t.Context(), st, plan(t, st), noon)
	want := []string{
		`10.0.0.1 released: it was held by handle "net.c1.eth0"`,
		`10.0.0.2 released: it was held by handle "net.c2.eth0"`,
		`fd00::1 released: it was held by handle "net.c1.eth0"`,
		"WorkloadEndpoint/ns/one deleted",
		"IPAMBlock/10-0-0-0-30 deleted", "BlockAffinity/gone-10-0-0-0-30 deleted",
		"IPAMBlock/fd00---126 deleted", "BlockAffinity/gone-fd00---126 deleted",
	}
	if diff := cmp.Diff(want, done); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if have := left(t, st); have != "" {
		t.Errorf("left: %s", have)
	}
}

// change lets somebody change a block.
func change(t *testing.T, st store.Store, name string, do func(*block.Block) error) {
	t.Helper()
	obj, err := st.Get(t.Context(), api.Key{Kind: api.KindIPAMBlock, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	next := obj.DeepCopyObject().(*api.IPAMBlock)
	b, err := block.From(next.Spec)
	if err == nil {
		err = do(b)
	}
	next.Spec = b.Spec()
	if err == nil {
		_, err = st.Update(t.Context(), next)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCarryLate: what has changed since the plan was made is left alone, and of a handle everything.
func TestCarryLate(t *testing.T) {
	st := lost(t)
	p := plan(t, st)
	six := netip.MustParseAddr("fd00::1")
	change(t, st, "fd00---126", func(b *block.Block) error {
		b.ReleaseByHandle("net.c1.eth0", time.Time{})
		return b.AssignAddr(six, block.Holder{Handle: "net.c1.eth0"})
	})
	done, err := release.Carry(t.Context(), st, p, noon)
	if err == nil || !strings.Contains(err.Error(), `handle "net.c1.eth0" is left as it is: release fd00::1: assignment has changed meanwhile`) ||
		!strings.Contains(err.Error(), "IPAMBlock/10-0-0-0-30 is left as it is: it still holds 10.0.0.1") {
		t.Errorf("have %v", err)
	}
	if diff := cmp.Diff([]string{`10.0.0.2 released: it was held by handle "net.c2.eth0"`}, done); diff != "" {
		t.Error(diff)
	}
	put(t, st, &api.Node{ObjectMeta: metav1.ObjectMeta{Name: "gone"}})
	change(t, st, "10-0-0-0-30", func(b *block.Block) error { b.ReleaseByHandle("net.c1.eth0", time.Time{}); return nil })
	if _, err := release.Carry(t.Context(), st, audit.Plan{Claims: p.Claims}, noon); err == nil || !strings.Contains(err.Error(), "block 10.0.0.0/30: node gone exists again: it keeps it") {
		t.Errorf("have %v", err)
	}
	if have := left(t, st); !strings.Contains(have, "IPAMBlock/10-0-0-0-30") {
		t.Errorf("left: %s", have)
	}
}

var errCrash = errors.New("crash")

// crashing fails every call from the nth on; the nth is carried out if late.
type crashing struct {
	store.Store
	n     int
	late  bool
	calls []string
}

func (c *crashing) call(what string, do func() error) error {
	c.calls = append(c.calls, what)
	c.n--
	if c.n > 0 || c.n == 0 && c.late {
		if err := do(); err != nil {
			return err
		}
	}
	if c.n <= 0 {
		return errCrash
	}
	return nil
}

func (c *crashing) Update(ctx context.Context, o api.Object) (obj api.Object, err error) {
	err = c.call("update "+string(o.Key().Kind), func() error { obj, err = c.Store.Update(ctx, o); return err })
	return obj, err
}

func (c *crashing) Delete(ctx context.Context, key api.Key, revision string) error {
	return c.call("delete "+string(key.Kind), func() error { return c.Store.Delete(ctx, key, revision) })
}

// TestCarryAfterCrash: whatever write is the last one, another check and release complete the work.
func TestCarryAfterCrash(t *testing.T) {
	reached := map[string]bool{}
	for _, late := range []bool{false, true} {
		for n := 1; ; n++ {
			st := &crashing{Store: lost(t), n: n, late: late}
			_, err := release.Carry(t.Context(), st, plan(t, st), noon)
			if err == nil {
				if n < 8 {
					t.Errorf("only %d writes", n-1)
				}
				break
			}
			reached[st.calls[n-1]] = true
			again := st.Store
			for range 2 { // an endpoint that is gone leaves an address that the next check finds
				if _, err := release.Carry(t.Context(), again, plan(t, again), noon); err != nil {
					t.Fatalf("write %d (late %v): %v", n, late, err)
				}
			}
			if have := left(t, again); have != "" {
				t.Fatalf("write %d (late %v) left %s", n, late, have)
			}
		}
	}
	for _, what := range []string{"update IPAMBlock", "delete WorkloadEndpoint", "update BlockAffinity", "delete IPAMBlock", "delete BlockAffinity"} {
		if !reached[what] {
			t.Errorf("no crash was tried at %q: %v", what, slices.Collect(func(yield func(string) bool) {
				for k := range reached {
					if !yield(k) {
						return
					}
				}
			}))
		}
	}
}
