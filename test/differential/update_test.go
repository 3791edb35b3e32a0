// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/felix/kernel"
	"korat/policy/explain"
)

// TestUpdates changes policies, and what they are about, under traffic. Of a packet that is sent between an update's
// beginning and its end it wants what both policies say: what both allow is not lost, and what both forbid does not pass.
// What is sent after its end has the new one's verdict; an established connection that it forbids is cut.
// UPDATES_PACKETS is how many packets are to be sent, and DIFFERENTIAL_SEED repeats a seed.
func TestUpdates(t *testing.T) {
	if err := pin(); err != nil {
		t.Fatal(err)
	}
	packets := 2_000_000
	if text := os.Getenv("UPDATES_PACKETS"); text != "" {
		var err error
		if packets, err = strconv.Atoi(text); err != nil {
			t.Fatalf("UPDATES_PACKETS: %v", err)
		}
	}
	all := seeds(t, 1, 2)
	sum, began := &course{}, time.Now()
	for _, seed := range all {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("DIFFERENTIAL_SEED=%d repeats this", seed)
			updates(t, seed, packets/len(all), sum)
		})
	}
	if t.Failed() {
		return
	}
	t.Logf("%s, in %s", sum, time.Since(began).Round(time.Second))
	if sum.mattered < sum.updates/10 || len(all) > 1 && (sum.cut == 0 || sum.opened == 0) {
		t.Error("that tells little")
	}
}

// course is what there was.
type course struct {
	packets, updates int
	// mattered is how many updates changed a verdict; opened and closed count the verdicts, and cut the established
	// connections among those closed.
	mattered, opened, closed, cut int
	// stable counts packets during updates that were allowed before and after, and barred those that were forbidden.
	stable, barred int
}

func (c *course) String() string {
	return fmt.Sprintf("%d packets, of which %d during an update that allowed them before and after, and %d during one that forbade them: "+
		"not one was lost, not one passed; %d updates, of which %d changed verdicts: %d streams opened, %d closed, of which %d established connections were cut",
		c.packets, c.stable, c.barred, c.updates, c.mattered, c.opened, c.closed, c.cut)
}

// updatesPerWorld is after how many updates all is replaced, lest it drifts to where nothing matters.
const updatesPerWorld = 40

func updates(t *testing.T, seed uint64, packets int, sum *course) {
	r, s := newScene(t, seed), newSite(t)
	r.updating = true
	s.populate(r, 9)
	u := &update{Site: s, scene: r, traffic: &Traffic{wire: s.wire}, course: sum, seed: seed}
	for u.traffic.total < packets {
		u.another()
		for range updatesPerWorld {
			u.once()
		}
	}
	sum.packets += u.traffic.total
	t.Logf("%d packets, %d updates", u.traffic.total, u.count)
}

// update is one update after the other.
type update struct {
	*Site
	*course
	scene   *Scene
	traffic *Traffic
	world   *explain.World
	seed    uint64
	// count is how many of this seed's there were, and emptied the round before which the connection tracking was.
	count   int
	emptied uint32
}

// another makes another world, with other streams, and holds that it is as it should be.
func (u *update) another() {
	u.t.Helper()
	objs := u.scene.world()
	for _, obj := range objs {
		// What the agent works with is no update of policies.
		if f, is := obj.(*api.FelixConfiguration); is {
			f.Spec.IptablesBackend = []string{"NFT", "NFT", "Legacy"}[u.count/updatesPerWorld%3]
		}
	}
	var gone Change
	snap := u.data.taken()
	for _, key := range keysOf(snap) {
		obj, _ := snap.Get(key)
		if key.Kind == api.KindIPPool {
			continue // pods go on coming
		}
		if w, is := obj.(*api.WorkloadEndpoint); !is || w.Spec.Node != thisNode {
			gone.Delete = append(gone.Delete, obj)
		}
	}
	u.must(u.apply(Change{Put: append(objs, u.relabel(u.scene)...), Delete: without(gone.Delete, objs)}))
	u.traffic.streams = u.scene.streams(u.Site, 170, 30)
	u.look()
	u.Site.forget()
	u.settle("in the beginning")
}

// look finds out what is allowed now.
func (u *update) look() {
	var err error
	u.world, err = explain.Of(u.data.taken())
	u.must(err)
	u.traffic.judge(u.world)
}

// once makes an update under traffic.
func (u *update) once() {
	u.t.Helper()
	u.count++
	name, change := u.scene.update(u.data.taken())
	before := u.world
	u.diary.take()
	u.traffic.begin()
	u.must(u.traffic.run())
	done := make(chan error, 1)
	go func() { done <- u.apply(change) }()
	for over := false; !over; {
		select {
		case err := <-done:
			u.must(err)
			over = true
		default:
		}
		u.must(u.traffic.run())
	}
	u.look()
	for _, s := range u.traffic.streams {
		if fault := s.fault(); fault != "" {
			u.t.Fatalf("DIFFERENTIAL_SEED=%d, update %d, %s: %s: %s\nwritten:\n%s\nput:\n%s\nbefore:\n%s\nafter:\n%s", u.seed, u.count, name, s, fault,
				strings.Join(u.diary.take(), "\n"), manifest(change.Put), told(before, s.Flow), u.account(u.world, s.Flow))
		}
	}
	if u.tell() {
		u.settle(name)
	} else if u.traffic.round-u.emptied > sources/2 {
		u.forgetNew()
	}
}

// tell adds an update to the course, and says whether it has changed a verdict.
func (u *update) tell() bool {
	u.updates++
	mattered := false
	for _, s := range u.traffic.streams {
		switch {
		case s.old && s.new:
			u.stable += s.sent
		case !s.old && !s.new:
			u.barred += s.sent
		case s.new:
			mattered = true
			u.opened++
		default:
			mattered = true
			u.closed++
		}
	}
	if mattered {
		u.mattered++
	}
	return mattered
}

// settle holds that everything comes to be as the new policies have it, and stays so: new connections at once,
// established ones as soon as the agent has looked through them.
func (u *update) settle(name string) {
	u.t.Helper()
	late := map[*Stream]bool{}
	for _, s := range u.traffic.streams {
		if s.lasting && s.old != s.new {
			late[s] = true
		}
	}
	u.round(name, late)
	u.forgetNew() // the fewer connections there are, the sooner the agent is through
	u.traffic.quiet = true
	for deadline := time.Now().Add(patience); len(late) > 0; u.round(name, late) {
		if time.Now().After(deadline) {
			clear(late)
		}
	}
	u.traffic.quiet = false
	u.round(name, late)
}

// round sends a packet of each stream, which must have the new verdict but for those that are late, and are it no more
// once they have it.
func (u *update) round(name string, late map[*Stream]bool) {
	u.t.Helper()
	u.traffic.clear()
	u.must(u.traffic.run())
	for _, s := range u.traffic.streams {
		switch fault := s.amiss(); {
		case fault == "" && late[s]:
			delete(late, s)
			if s.old {
				u.cut++
			}
		case fault != "" && !late[s]:
			u.t.Fatalf("DIFFERENTIAL_SEED=%d, update %d, %s: %s: when it was over: %s\n%s", u.seed, u.count, name, s, fault, u.account(u.world, s.Flow))
		}
	}
}

// forgetNew empties the connection tracking of all but lasting connections, of which it is not to get too full.
func (u *update) forgetNew() {
	u.t.Helper()
	u.emptied = u.traffic.round
	known := map[tuple]bool{}
	for _, s := range u.traffic.streams {
		known[s.tuple()] = s.lasting
	}
	var flows []kernel.Flow
	keep := func(f kernel.Flow) {
		if !known[tupleOf(f)] {
			flows = append(flows, f)
		}
	}
	u.must(errors.Join(u.flows.Read(u.t.Context(), u.addresses(), keep), u.flows.Delete(u.t.Context(), flows)))
}
