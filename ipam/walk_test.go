// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
)

// host is one node of a walk: what survives its agent (record) and what does not.
type host struct {
	name   string
	alloc  *Allocator
	keeper *Keeper
	link   *faulty
	// record is the journal: handle → addresses.
	record map[string][]netip.Addr
	// seen are the Snapshots that it has had; a restart may begin with an old one.
	seen  []api.Snapshot
	sight sight
}

// world is several nodes on one datastore.
type world struct {
	t     *testing.T
	r     *rand.Rand
	st    store.Store
	hosts []*host
	// live is the model: who holds an address, over all nodes.
	live map[netip.Addr]string
	next int
	// given, refused and crashed count what happened.
	given, refused, crashed int
	// returned counts blocks given back.
	returned int
	// ahead is how far the nodes' clocks are ahead of noon.
	ahead time.Duration
}

func (w *world) now() time.Time { return noon.Add(w.ahead) }

// TestWalk goes through random sequences of assignments, releases, crashes, outages, steps of the clock and lagging
// Snapshots on nodes that share small pools. After each step no address has two holders; in the
// end the datastore says what the records say.
func TestWalk(t *testing.T) {
	var given, refused, crashed, returned int
	for seed := range uint64(60) {
		w := &world{t: t, r: rand.New(rand.NewPCG(seed, 7)), live: map[netip.Addr]string{}}
		w.st = filled(t, pool("p", "10.0.0.0/27", 30), pool("q", "10.1.0.0/28", 29), reservation("10.0.0.7", "10.1.0.0/30"))
		for _, name := range []string{"a", "b", "c"} {
			h := &host{name: name, record: map[string][]netip.Addr{}, sight: sight{}}
			w.restart(h)
			w.hosts = append(w.hosts, h)
		}
		for step := range 300 {
			if err := w.step(); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
		}
		if err := w.settle(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		given, refused, crashed, returned = given+w.given, refused+w.refused, crashed+w.crashed, returned+w.returned
	}
	t.Logf("%d requests given addresses, %d refused, %d agents restarted, %d blocks given back", given, refused, crashed, returned)
	if given < 2000 || refused < 2000 || crashed < 1000 || returned < 50 {
		t.Error("the walks went nowhere")
	}
}

func (w *world) restart(h *host) {
	w.crashed++
	h.link = &faulty{Store: w.st, left: 1 << 30}
	h.alloc, h.keeper = NewAllocator(h.name, w.now), NewKeeper(h.link, h.name, quiet())
	if w.r.IntN(2) == 0 {
		h.keeper.returns.after = 0 // what is empty goes back at once
	}
	for handle, as := range h.record {
		h.alloc.Restore(handle, nil, as)
	}
}

// look brings the newest Snapshot; one that half lags if only the first of two kinds has come yet.
func (w *world) look(h *host) {
	s := h.sight.of(w.t, h.name, picture(w.t, w.st))
	if len(h.seen) > 0 && w.r.IntN(4) == 0 {
		s.IPAMBlocks = h.seen[len(h.seen)-1].IPAMBlocks
	}
	h.seen = append(h.seen, s)
	h.alloc.Update(s)
	h.alloc.SetExhausted(h.keeper.Exhausted())
	h.alloc.SetLeaving(h.keeper.Leaving())
}

func (w *world) keep(h *host) {
	h.keeper.Want(h.alloc.Wants())
	clear(h.keeper.publish.last) // a second has passed
	deleted := h.link.count("delete IPAMBlock")
	_, _ = h.keeper.pass(w.t.Context())
	w.returned += h.link.count("delete IPAMBlock") - deleted
}

func (w *world) step() error {
	h := w.hosts[w.r.IntN(len(w.hosts))]
	switch w.r.IntN(13) {
	case 12: // somebody sets the clock, or time goes by
		w.ahead += []time.Duration{-time.Hour, time.Hour, time.Second, time.Minute}[w.r.IntN(4)]
	case 0, 1, 2, 3:
		w.next++
		return w.assign(h, Request{Handle: fmt.Sprint(h.name, w.next)})
	case 4:
		w.next++
		addr := netip.AddrFrom4([4]byte{10, byte(w.r.IntN(2)), 0, byte(w.r.IntN(32))})
		return w.assign(h, Request{Handle: fmt.Sprint(h.name, w.next), Addresses: []netip.Addr{addr}})
	case 5, 6:
		w.release(h)
	case 7:
		w.restart(h)
		if len(h.seen) > 0 { // the first Snapshot lags
			h.alloc.Update(h.seen[max(0, len(h.seen)-1-w.r.IntN(3))])
		}
	case 8:
		h.link.left, h.link.late = w.r.IntN(6), w.r.IntN(2) == 0
	case 9:
		h.link.left = 1 << 30
	case 10:
		w.look(h)
		w.keep(h)
	case 11:
		w.look(h)
	}
	return nil
}

func (w *world) assign(h *host, r Request) error {
	w.look(h)
	got, err := h.alloc.Assign(r)
	w.keep(h)
	if err != nil {
		if errors.Is(err, ErrNeedBlock) || errors.Is(err, ErrNoAddress) || errors.Is(err, ErrPool) {
			h.alloc.Release(r.Handle)
			w.refused++
			return nil
		}
		return err
	}
	w.given++
	for _, addr := range got {
		if by, taken := w.live[addr]; taken {
			return fmt.Errorf("%s was given to %s, but %s has it", addr, r.Handle, by)
		}
		if len(r.Addresses) == 0 && (addr.String() == "10.0.0.7" || netip.MustParsePrefix("10.1.0.0/30").Contains(addr)) {
			return fmt.Errorf("%s is reserved", addr)
		}
	}
	if w.r.IntN(8) == 0 {
		w.restart(h) // the crash comes before the record: the pod never got it
		return nil
	}
	for _, addr := range got {
		w.live[addr] = r.Handle
	}
	h.record[r.Handle] = got
	if same, err := h.alloc.Assign(Request{Handle: r.Handle}); err != nil || !slices.Equal(same, got) {
		return fmt.Errorf("asked again: %v, %w", same, err)
	}
	return nil
}

func (w *world) release(h *host) {
	releaseAny(w.r, h.alloc, h.record, w.live)
}

// releaseAny has a pod go, if there is one, from a node's record and from the model of who holds what.
func releaseAny(r *rand.Rand, a *Allocator, record map[string][]netip.Addr, live map[netip.Addr]string) {
	handles := slices.Sorted(maps.Keys(record))
	if len(handles) == 0 {
		return
	}
	handle := handles[r.IntN(len(handles))]
	for _, addr := range record[handle] {
		delete(live, addr)
	}
	delete(record, handle)
	a.Release(handle)
}

// settle lets everybody finish, and compares datastore and model.
func (w *world) settle() error {
	for range 3 {
		for _, h := range w.hosts {
			h.link.left = 1 << 30
			h.alloc.Update(picture(w.t, w.st))
			if err := h.alloc.ReleaseOrphans(h.alloc.Orphans()...); err != nil {
				return err
			}
			h.keeper.Want(h.alloc.Wants())
			clear(h.keeper.publish.last)
			clear(h.keeper.claims.checked)
			if _, err := h.keeper.pass(w.t.Context()); err != nil {
				return err
			}
		}
	}
	have := map[netip.Addr]string{}
	for _, h := range w.hosts {
		h.alloc.Update(picture(w.t, w.st))
		for _, o := range h.alloc.blocks.own() {
			for addr, al := range o.copied.All() {
				have[addr] = al.Handle
			}
		}
	}
	if !maps.Equal(have, w.live) {
		return fmt.Errorf("the datastore has %v, the pods %v", have, w.live)
	}
	for line := range strings.SplitSeq(owners(w.t, w.st), "\n") {
		cidr, rest, _ := strings.Cut(line, "=")
		if rest != rest[:1]+" "+rest[:1]+":confirmed" {
			return fmt.Errorf("block %s: %s", cidr, rest)
		}
	}
	return nil
}
