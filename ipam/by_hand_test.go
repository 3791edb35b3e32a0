// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/ipam/audit"
	"korat/ipam/block"
)

// TestReleaseByHand: an operator releases addresses of live pods with force all the time, while nodes lend, borrow,
// restart and are down. None is given to a second pod, and in the end the datastore has all of them again.
func TestReleaseByHand(t *testing.T) {
	given, lent, released, refused := 0, 0, 0, 0
	for seed := range uint64(60) {
		c := &cluster{t: t, r: rand.New(rand.NewPCG(seed, 12)), now: noon, live: map[netip.Addr]string{}}
		cooldown := time.Duration(c.r.IntN(2)*30) * time.Second
		c.st = filled(t, pool("p", "10.0.0.0/28", 30), pool("six", "fd00::/124", 126), settings(false, cooldown))
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			m := &member{name: name, record: map[string][]netip.Addr{}, sight: sight{}}
			c.start(m)
			c.nodes = append(c.nodes, m)
		}
		for step := range 400 {
			err := c.step()
			if err == nil && c.r.IntN(4) == 0 {
				var n int
				if n, err = c.releaseByHand(); n > 0 {
					released++
				} else {
					refused++
				}
			}
			if err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
		}
		if err := c.settle(cooldown); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		given, lent = given+c.given, lent+c.lent
	}
	t.Logf("%d requests given addresses, of which %d borrowed; %d releases by hand, %d refused", given, lent, released, refused)
	if given < 1500 || lent < 150 || released < 2000 || refused < 200 {
		t.Error("the walks went nowhere")
	}
}

// releaseByHand does what koratctl ipam release --ip --force does, to any address that is in use, and says how many
// it has released.
func (c *cluster) releaseByHand() (int, error) {
	snap := picture(c.t, c.st)
	for _, m := range c.nodes {
		node := &api.Node{}
		node.Name = m.name
		snap = snap.With(node)
	}
	book := audit.Read(snap)
	all := book.Allocations()
	if len(all) == 0 {
		return 0, nil
	}
	plan, err := book.ReleaseAddress(all[c.r.IntN(len(all))].Address, true, c.now)
	if err != nil { // it is leased, or borrowed
		return 0, nil
	}
	for _, a := range plan.Releases {
		obj, _ := snap.IPAMBlocks.Get(api.BlockName(netip.MustParsePrefix(a.Block)))
		next := obj.DeepCopy()
		if next.Spec, err = block.Release(obj.Spec, a.Address, a.Sequence, c.now); err != nil {
			return 0, fmt.Errorf("release by hand: %w", err)
		}
		updated, err := c.st.Update(c.t.Context(), next)
		if err != nil && !errors.Is(err, store.ErrConflict) {
			return 0, err
		}
		if err == nil {
			snap = snap.With(updated)
		}
	}
	return len(plan.Releases), nil
}
