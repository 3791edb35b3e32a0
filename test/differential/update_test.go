// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"korat/api"
	"korat/policy/explain"
)

// TestUpdates changes one object after the other under traffic. Of a packet that is sent between an update's beginning
// and its end it wants what both policies say: what both allow is not lost, and what both forbid does not pass. And
// what is sent after its end has the new one's verdict. UPDATES_PACKETS is how many packets are to be sent, and
// DIFFERENTIAL_SEED repeats a seed.
func TestUpdates(t *testing.T) {
	if err := pin(); err != nil {
		t.Fatal(err)
	}
	packets := 300_000
	if text := os.Getenv("UPDATES_PACKETS"); text != "" {
		var err error
		if packets, err = strconv.Atoi(text); err != nil {
			t.Fatalf("UPDATES_PACKETS: %v", err)
		}
	}
	all := seeds(t, 1, 2)
	for _, seed := range all {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("DIFFERENTIAL_SEED=%d repeats this", seed)
			updates(t, seed, packets/len(all))
		})
	}
}

// updatesPerWorld is after how many updates all is replaced, lest it drifts to where nothing matters.
const updatesPerWorld = 40

func updates(t *testing.T, seed uint64, packets int) {
	r, s := newScene(t, seed), newSite(t)
	s.populate(r, 9)
	u := &update{Site: s, scene: r, traffic: &Traffic{wire: s.wire}}
	for u.traffic.total < packets {
		u.another()
		for range updatesPerWorld {
			u.once()
			if t.Failed() {
				t.Fatalf("DIFFERENTIAL_SEED=%d, update %d, after %d packets", seed, u.count, u.traffic.total)
			}
		}
	}
	t.Logf("%d packets, %d updates: in %d of them some verdicts changed", u.traffic.total, u.count, u.mattered)
	if u.mattered < u.count/10 {
		t.Error("that tells little")
	}
}

// update is one update after the other.
type update struct {
	*Site
	scene   *Scene
	traffic *Traffic
	world   *explain.World
	// count is how many there were, and mattered how many changed a verdict.
	count, mattered int
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
		if w, is := obj.(*api.WorkloadEndpoint); !is || w.Spec.Node != thisNode {
			gone.Delete = append(gone.Delete, obj)
		}
	}
	u.must(u.apply(Change{Put: append(objs, u.relabel(u.scene)...), Delete: without(gone.Delete, objs)}))
	u.traffic.streams = u.scene.streams(u.Site, 180, 20)
	u.look()
	u.settled("in the beginning")
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
	name, change := u.scene.mutate(u.Site, u.data.taken())
	before := u.world
	u.diary.take()
	u.traffic.clear()
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
	mattered := false
	for _, s := range u.traffic.streams {
		mattered = mattered || s.old != s.new
		if fault := s.fault(); fault != "" {
			u.t.Errorf("update %d, %s: %s: %s\nwritten:\n%s\nput:\n%s\nbefore:\n%s\nafter:\n%s", u.count, name, s, fault,
				strings.Join(u.diary.take(), "\n"), manifest(change.Put), told(before, s.Flow), u.account(u.world, s.Flow))
			return
		}
	}
	if mattered {
		u.mattered++
		u.settled(name)
	}
}

// settled holds that everything is as it must be now, with connections that are new.
func (u *update) settled(name string) {
	u.t.Helper()
	u.forget()
	for _, s := range u.traffic.streams {
		s.old = s.new
	}
	u.traffic.clear()
	u.must(u.traffic.run())
	for _, s := range u.traffic.streams {
		if fault := s.fault(); fault != "" {
			u.t.Errorf("update %d, %s: %s: when it was over: %s\n%s", u.count, name, s, fault, u.account(u.world, s.Flow))
			return
		}
	}
}
