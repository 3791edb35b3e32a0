// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
)

// post is a datastore whose updates may be lost or come late: the sender is told that it is unavailable, and the
// update is carried out at any time after, should the object be as it was.
type post struct {
	store.Store
	c *cluster
	// bad says how many of ten updates fail.
	bad int
}

func (p *post) Update(ctx context.Context, o api.Object) (api.Object, error) {
	if p.c.r.IntN(10) < p.bad {
		if p.c.r.IntN(2) == 0 {
			p.c.late = append(p.c.late, o)
		}
		return nil, fmt.Errorf("update: %w", store.ErrUnavailable)
	}
	if p.c.r.IntN(6) == 0 && !p.c.nested {
		p.c.nested = true // another node is faster
		p.c.keep(p.c.nodes[p.c.r.IntN(len(p.c.nodes))])
		p.c.nested = false
	}
	return p.Store.Update(ctx, o)
}

// member is one node of a cluster.
type member struct {
	name   string
	alloc  *Allocator
	keeper *Keeper
	link   *post
	record map[string][]netip.Addr
	// seen are the Snapshots that came since its start.
	seen  []api.Snapshot
	sight sight
	// down: its agent does not run.
	down bool
}

// cluster is several nodes that lend each other addresses, or don't, as the configuration changes.
type cluster struct {
	t      *testing.T
	r      *rand.Rand
	st     store.Store
	now    time.Time
	nodes  []*member
	late   []api.Object
	nested bool
	// live is the model: who holds an address, over all nodes.
	live map[netip.Addr]string
	next int
	// given, refused, lent, switched and reborn count what happened.
	given, refused, lent, switched, reborn int
}

// TestLendingWalk goes through random sequences of assignments, releases, restarts with the record and without, switches
// of strictAffinity, lost and late writes, conflicts, Snapshots that lag, and owners that are down, on nodes
// that share fewer blocks than they are. After each step no address has two holders; in the end the datastore says what the records say.
func TestLendingWalk(t *testing.T) {
	sum := cluster{}
	for seed := range uint64(120) {
		c := &cluster{t: t, r: rand.New(rand.NewPCG(seed, 11)), now: noon, live: map[netip.Addr]string{}}
		cooldown := time.Duration(c.r.IntN(2)*30) * time.Second
		four, six := pool("p", "10.0.0.0/28", 30), pool("six", "fd00::/124", 126)
		if seed%2 > 0 { // of which nodes lease no more than a part
			four, six = pool("p", "10.0.0.0/26", 28), pool("six", "fd00::/122", 124)
		}
		c.st = filled(t, four, six, reservation("10.0.0.5", "fd00::6"), settings(false, cooldown))
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			m := &member{name: name, record: map[string][]netip.Addr{}, sight: sight{}}
			c.start(m)
			c.nodes = append(c.nodes, m)
		}
		for step := range 400 {
			if err := c.step(); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
		}
		if err := c.settle(cooldown); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		sum.given, sum.refused, sum.lent = sum.given+c.given, sum.refused+c.refused, sum.lent+c.lent
		sum.switched, sum.reborn = sum.switched+c.switched, sum.reborn+c.reborn
	}
	t.Logf("%d requests given addresses, of which %d borrowed; %d refused, %d switches, %d agents restarted", sum.given, sum.lent, sum.refused, sum.switched, sum.reborn)
	if sum.given < 3000 || sum.lent < 300 || sum.switched < 500 || sum.reborn < 1000 {
		t.Error("the walks went nowhere")
	}
}

// start starts a node's agent: its first Snapshot is not older than that.
func (c *cluster) start(m *member) {
	c.reborn++
	m.down, m.seen = false, nil
	m.link = &post{Store: c.st, c: c}
	m.alloc, m.keeper = NewAllocator(m.name, func() time.Time { return c.now }), NewKeeper(m.link, m.name, quiet())
	for handle, as := range m.record {
		m.alloc.Restore(handle, nil, as)
	}
	c.look(m, 0)
	if err := m.alloc.ReleaseOrphans(m.alloc.Orphans()...); err != nil {
		c.t.Fatal(err)
	}
}

// look brings a Snapshot, which may be up to lag older than the newest.
func (c *cluster) look(m *member, lag int) {
	m.seen = append(m.seen, m.sight.of(c.t, m.name, picture(c.t, c.st)))
	m.alloc.Update(m.seen[max(0, len(m.seen)-1-lag)])
	m.alloc.SetExhausted(m.keeper.Exhausted())
}

func (c *cluster) keep(m *member) {
	if m.down {
		return
	}
	m.keeper.Want(m.alloc.Wants())
	clear(m.keeper.publish.last)
	clear(m.keeper.borrow.last)
	_, _ = m.keeper.pass(c.t.Context())
}

func (c *cluster) step() error {
	m := c.nodes[c.r.IntN(len(c.nodes))]
	if m.down && c.r.IntN(3) > 0 {
		return nil
	}
	if m.down {
		c.start(m)
	}
	switch c.r.IntN(20) {
	case 0, 1, 2, 3, 4, 5, 6:
		c.next++
		return c.assign(m, fmt.Sprint(m.name, c.next))
	case 7, 8, 9:
		c.release(m)
	case 10:
		c.start(m)
	case 11:
		c.reboot(m)
	case 12:
		m.link.bad = c.r.IntN(8)
	case 13, 14:
		m.link.bad = 0
	case 15:
		c.look(m, c.r.IntN(4))
	case 16:
		c.keep(m) // with what it knew last
	case 17:
		c.deliver()
	case 18:
		c.change()
	case 19:
		c.now = c.now.Add(time.Duration(c.r.IntN(20)) * time.Second)
	}
	return nil
}

// change switches the configuration, stops an agent or loses an affinity.
func (c *cluster) change() {
	switch c.r.IntN(4) {
	case 0, 1:
		obj, err := c.st.Get(c.t.Context(), settings(true, 0).Key())
		if err != nil {
			c.t.Fatal(err)
		}
		next := obj.DeepCopyObject().(*api.IPAMConfiguration)
		*next.Spec.StrictAffinity = !*next.Spec.StrictAffinity
		if _, err := c.st.Update(c.t.Context(), next); err != nil {
			c.t.Fatal(err)
		}
		c.switched++
	case 2:
		c.nodes[c.r.IntN(len(c.nodes))].down = true
	case 3:
		for o := range picture(c.t, c.st).Objects(api.KindBlockAffinity) {
			if c.r.IntN(3) == 0 {
				if err := c.st.Delete(c.t.Context(), o.Key(), ""); err != nil {
					c.t.Fatal(err)
				}
			}
		}
	}
}

// deliver carries out one of the updates that are late.
func (c *cluster) deliver() {
	if len(c.late) == 0 {
		return
	}
	i := c.r.IntN(len(c.late))
	_, _ = c.st.Update(c.t.Context(), c.late[i])
	c.late = slices.Delete(c.late, i, i+1)
}

// reboot loses the record together with the pods.
func (c *cluster) reboot(m *member) {
	for _, as := range m.record {
		for _, addr := range as {
			delete(c.live, addr)
		}
	}
	clear(m.record)
	c.start(m)
}

func (c *cluster) assign(m *member, handle string) error {
	r := Request{Handle: handle, Families: [][]api.Family{{api.IPv4}, {api.IPv6}, {api.IPv4, api.IPv6}}[c.r.IntN(3)]}
	for range 1 + c.r.IntN(4) { // while the pod waits, the node works
		c.look(m, c.r.IntN(8)/7)
		got, err := m.alloc.Assign(r)
		if err == nil {
			c.keepSometimes(m)
			return c.take(m, handle, got)
		}
		if !errors.Is(err, ErrNeedBlock) && !errors.Is(err, ErrNoAddress) {
			return err
		}
		c.keep(m)
	}
	m.alloc.Release(handle)
	c.refused++
	return nil
}

func (c *cluster) keepSometimes(m *member) {
	if c.r.IntN(2) == 0 {
		c.keep(m)
	}
}

// take gives addresses to a pod, unless the agent crashes before it has recorded them.
func (c *cluster) take(m *member, handle string, got []netip.Addr) error {
	c.given++
	for _, addr := range got {
		if by, taken := c.live[addr]; taken {
			return fmt.Errorf("%s was given to %s, but %s has it", addr, handle, by)
		}
		if m.alloc.blocks.containing(addr) == nil {
			c.lent++
		}
	}
	if c.r.IntN(10) == 0 {
		c.start(m)
		return nil
	}
	for _, addr := range got {
		c.live[addr] = handle
	}
	m.record[handle] = got
	return nil
}

func (c *cluster) release(m *member) {
	releaseAny(c.r, m.alloc, m.record, c.live)
}

// settle lets everybody finish, and compares datastore and model.
func (c *cluster) settle(cooldown time.Duration) error {
	for len(c.late) > 0 {
		c.deliver()
	}
	for _, m := range c.nodes {
		c.start(m)
	}
	for range 6 {
		c.now = c.now.Add(cooldown + maxTidy + demandLife)
		for _, m := range c.nodes {
			m.link.bad = 0
			c.look(m, 0)
			if err := m.alloc.ReleaseOrphans(m.alloc.Orphans()...); err != nil {
				return err
			}
			m.keeper.Want(m.alloc.Wants())
			clear(m.keeper.publish.last)
			clear(m.keeper.borrow.last)
			clear(m.keeper.claims.checked)
			if _, err := m.keeper.pass(c.t.Context()); err != nil {
				return fmt.Errorf("node %s: %w", m.name, err)
			}
		}
	}
	have := map[netip.Addr]string{}
	for _, obj := range picture(c.t, c.st).IPAMBlocks.All() {
		b, err := parse(netip.MustParsePrefix(obj.Spec.CIDR), obj)
		if err != nil {
			return err
		}
		for addr, al := range b.All() {
			switch {
			case al.Cooling() || al.Leased() && affinityOf(al.Attrs["node"]) != b.Affinity():
				return fmt.Errorf("%s of block %s is still held: %v", addr, b.Prefix(), al)
			case !al.Leased():
				have[addr] = al.Handle
			}
		}
	}
	for _, m := range c.nodes {
		if p := m.alloc.Problems(); len(p) > 0 {
			return fmt.Errorf("node %s: %w", m.name, errors.Join(p...))
		}
	}
	if !maps.Equal(have, c.live) {
		return fmt.Errorf("the datastore has %v, the pods %v", have, c.live)
	}
	return nil
}
