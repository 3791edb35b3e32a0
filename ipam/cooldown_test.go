// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/ipam/block"
)

// clock is the time of a test.
type clock struct{ now time.Time }

func (c *clock) time() time.Time { return c.now }

// resting gives a datastore with a small block of node a in a pool without others, and an allocator of node a.
func resting(t *testing.T, cidr string, bits int, cooldown time.Duration) (store.Store, *clock, func() *Allocator) {
	t.Helper()
	blk := ipamBlock(t, "a", cidr, "")
	blk.UID = ""
	st := filled(t, pool("p", cidr, bits), affinity("a", cidr, "confirmed"), blk, settings(true, cooldown))
	c := &clock{noon}
	return st, c, func() *Allocator {
		a := NewAllocator("a", c.time)
		a.Update(picture(t, st))
		a.SetExhausted([]string{"p"})
		return a
	}
}

// TestCooldown: a released address is assigned only after a rest, but for its own handle and to those who name it.
func TestCooldown(t *testing.T) {
	for _, f := range []struct{ cidr, first, second string }{{"10.0.0.0/31", "10.0.0.0", "10.0.0.1"}, {"fd00::/127", "fd00::", "fd00::1"}} {
		st, c, start := resting(t, f.cidr, map[bool]int{true: 31, false: 127}[strings.Contains(f.cidr, ".")], 30*time.Second)
		a := start()
		next := func(after time.Duration, h string) string {
			c.now = c.now.Add(after)
			return ask(a, auto(h))
		}
		if have := next(0, "h") + " " + next(0, "i"); have != f.first+" "+f.second {
			t.Fatal(have)
		}
		publish(t, st, a)
		a.Release("h")
		if have := next(time.Second, "j"); !strings.Contains(have, "1 are cooling down, the first until 12:00:30 UTC") || !strings.Contains(have, "no address yet") {
			t.Errorf("have %s", have)
		}
		if have := next(0, "h"); have != f.first {
			t.Errorf("its own handle: %s", have)
		}
		a.Release("h")
		if have := ask(a, want("k", f.first)); have != f.first {
			t.Errorf("asked for by name: %s", have)
		}
		a.Release("k")
		publish(t, st, a)
		a.Update(picture(t, st))
		if len(a.Orphans()) > 0 || len(a.Changes()) > 0 {
			t.Errorf("orphans %v, changes %v", a.Orphans(), a.Changes())
		}
		a = start() // a restart knows
		if have := next(28*time.Second, "j"); !strings.Contains(have, "until 12:00:31 UTC") {
			t.Errorf("restarted: %s", have)
		}
		if have := next(3*time.Second, "j"); have != f.first {
			t.Errorf("after the rest: %s", have)
		}
	}
}

// TestCooldownOff: what rests is free as soon as the setting says so.
func TestCooldownOff(t *testing.T) {
	st, _, start := resting(t, "10.0.0.0/31", 31, time.Minute)
	a := start()
	ask(a, auto("h"))
	ask(a, auto("i"))
	a.Release("h")
	publish(t, st, a)
	obj, _ := st.Get(t.Context(), settings(true, 0).Key())
	next := obj.DeepCopyObject().(*api.IPAMConfiguration)
	next.Spec.IPCooldownSeconds = new(0)
	if _, err := st.Update(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	a.Update(picture(t, st))
	if have := ask(a, auto("j")); have != "10.0.0.0" {
		t.Error(have)
	}
}

// TestClockSteps: a step of the clock, with the agent running or not, makes no address rest for longer than one cool-down.
func TestClockSteps(t *testing.T) {
	for _, step := range []time.Duration{-time.Hour, time.Hour} {
		for _, restart := range []bool{false, true} {
			st, c, start := resting(t, "10.0.0.0/31", 31, 30*time.Second)
			a := start()
			ask(a, auto("h"))
			ask(a, auto("i"))
			a.Release("h")
			publish(t, st, a)
			c.now = c.now.Add(step)
			if restart {
				a = start()
			}
			have := ask(a, auto("j"))
			if step < 0 && !strings.Contains(have, "cooling") {
				t.Errorf("step %s, restart %v: %s", step, restart, have)
			}
			c.now = c.now.Add(30 * time.Second)
			if have := ask(a, auto("j")); have != "10.0.0.0" {
				t.Errorf("step %s, restart %v, one cool-down later: %s", step, restart, have)
			}
		}
	}
	// The clock of a running process has a part that no step moves.
	i := newIdleness(&rules{now: time.Now, cooldown: time.Hour}, new(uint64))
	addr := addrs("10.0.0.0")[0]
	i.note(addr, block.Allocation{Released: time.Now().Add(time.Hour).Round(0)})
	if at, ok := i.due(); !ok || time.Until(at) > time.Hour+maxTidy || !strings.Contains(i.since[addr].String(), "m=") {
		t.Errorf("released in the future: due in %s, by %s", time.Until(at), i.since[addr])
	}
}

// TestExpiryCostsFewWrites: addresses that were released one after another are written off together.
func TestExpiryCostsFewWrites(t *testing.T) {
	st, c, start := resting(t, "10.0.0.0/26", 26, 30*time.Second)
	a := start()
	for i := range 60 {
		ask(a, auto(fmt.Sprint(i)))
	}
	writes := 0
	tick := func() {
		c.now = c.now.Add(time.Second)
		a.Update(picture(t, st))
		if len(a.Changes()) > 0 {
			publish(t, st, a)
			writes++
		}
	}
	tick()
	for i := range 40 {
		a.Release(fmt.Sprint(i))
		tick()
	}
	if writes != 41 {
		t.Errorf("%d writes: want one in each second in which something happened", writes)
	}
	writes = 0
	for range 60 {
		tick()
	}
	if writes < 1 || writes > 4 {
		t.Errorf("40 addresses cooled down over 40 seconds: %d writes", writes)
	}
	if have := stored(t, st, "10.0.0.0/26"); strings.Count(have, "=") != 20 {
		t.Errorf("stored %s", have)
	}
	if at, ok := a.Due(); ok {
		t.Errorf("nothing is left to do, and it is due at %s", at)
	}
}

// TestCooldownWalk: whatever happens, no address is assigned again before it has rested.
func TestCooldownWalk(t *testing.T) {
	given := 0
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 5))
		st, c, start := resting(t, "10.0.0.0/29", 29, 30*time.Second)
		a := start()
		released := map[string]time.Time{}
		held := map[string]string{} // handle → address
		for step := range 300 {
			switch r.IntN(6) {
			case 0, 1:
				h := fmt.Sprint("h", step)
				have := ask(a, auto(h))
				if strings.Contains(have, " ") {
					a.Release(h)
					break
				}
				if at, was := released[have]; was && c.now.Sub(at) < 29*time.Second { // whole seconds are stored
					t.Fatalf("seed %d step %d: %s was released %s ago", seed, step, have, c.now.Sub(at))
				}
				held[h] = have
				given++
			case 2:
				for h, addr := range held {
					a.Release(h)
					released[addr] = c.now
					delete(held, h)
					break
				}
			case 3:
				c.now = c.now.Add(time.Duration(r.IntN(9000)) * time.Millisecond)
			case 4:
				publish(t, st, a)
				a.Update(picture(t, st))
			case 5:
				publish(t, st, a) // a release that was not published is an orphan, and rests from then on
				again := NewAllocator("a", c.time)
				for h, addr := range held {
					again.Restore(h, nil, addrs(addr))
				}
				again.Update(picture(t, st))
				again.SetExhausted([]string{"p"})
				a = again
			}
		}
	}
	if given < 500 {
		t.Errorf("the walks went nowhere: %d given", given)
	}
}
