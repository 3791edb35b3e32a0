// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy"
	"korat/policy/chain"
)

func (s *fakeSets) change(do func(*fakeSets)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do(s)
}

// TestSetsGoLater has sets that nothing needs destroyed beside the pass in which that came to be, again and again while
// they are in use, and told of when that takes long; all of it without a Read.
func TestSetsGoLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := policy.SetKey{Name: "cali40s:x", Family: api.IPv4}
		table := &fakeSets{have: map[policy.SetKey]kernel.Members{}}
		s, want := newSets(table), heldSets{key: {{Port: 1}}}
		pass := func(c map[policy.SetKey]setChange) error {
			_, first := s.prepare(t.Context(), filterOf(want, c))
			_, second := s.sweep(t.Context())
			return errors.Join(first, second)
		}
		good := func(c map[policy.SetKey]setChange) {
			t.Helper()
			if err := pass(c); err != nil {
				t.Fatal(err)
			}
		}
		good(nil)
		gone, anew := map[policy.SetKey]setChange{key: {Gone: true}}, map[policy.SetKey]setChange{key: {New: true, Added: want[key]}}
		delete(want, key)
		good(gone)
		if len(table.have) != 1 || s.due() || s.ripe() == nil {
			t.Errorf("in the same pass: have %v, due %t", table.have, s.due())
		}
		// One that is needed again stays.
		want[key] = []policy.Member{{Port: 1}}
		good(anew)
		<-time.After(time.Second)
		good(nil)
		if len(table.have) != 1 || s.ripe() != nil {
			t.Errorf("needed again: have %v", table.have)
		}
		delete(want, key)
		good(gone)
		table.bad = map[policy.SetKey]error{key: kernel.ErrSetInUse}
		begun, tries := time.Now(), 0
		for <-s.ripe(); time.Since(begun) <= overdue; <-s.ripe() {
			good(nil)
			tries++
		}
		if tries > 10 || tries < 5 || s.stale {
			t.Errorf("%d tries, stale %t", tries, s.stale)
		}
		for range 2 { // told in each pass, though it is not tried in each
			if err := pass(nil); !ofEntries(err) || !errors.Is(err, kernel.ErrSetInUse) || !s.due() || s.unlike() != nil {
				t.Errorf("have %v", err)
			}
		}
		table.bad = nil
		<-s.ripe()
		good(nil)
		if len(table.have) != 0 || s.ripe() != nil || s.due() || table.reads != 1 {
			t.Errorf("at the end: have %v, %d reads", table.have, table.reads)
		}
	})
}

// closing are chains that note which sets they are to distrust.
type closing struct {
	*fakeChains
	mu         sync.Mutex
	distrusted map[string]error
}

// Distrust implements distrustful.
func (c *closing) Distrust(sets map[string]error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.distrusted = sets
}

func (c *closing) distrusts() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for name, err := range c.distrusted {
		all = append(all, name+": "+err.Error())
	}
	return strings.Join(all, "\n")
}

// Chains that look into a set which could not be filled are given to the table once more, which closes them.
func TestSetThatLacksMembers(t *testing.T) {
	w := newWorld(t)
	table := &closing{fakeChains: w.chains}
	w.chainTable = table
	w.plant(webPolicy)
	n := w.start()
	n.untilReady()
	n.attachAs("web", "web")
	var key policy.SetKey
	w.until("the policy's set is there", func() bool {
		w.sets.change(func(s *fakeSets) {
			for k := range s.have {
				key = k
			}
		})
		return key.Name != ""
	})
	w.chains.TakeWrites()
	w.sets.change(func(s *fakeSets) { s.bad = map[policy.SetKey]error{key: errors.New("the set is full")} })
	client := n.attachAs("client", "client")
	w.until("the set is distrusted", func() bool { return table.distrusts() == key.Name+": the set is full" })
	w.until("its chain is given again", func() bool { return strings.Contains(w.chains.TakeWrites(), "cali-pi-np/ns/web") })
	w.until("the status names it", func() bool {
		return strings.Contains(strings.Join(n.status().Problems, "\n"), "policy: ") && len(n.report.notReady()) == 0
	})
	w.sets.change(func(s *fakeSets) { s.bad = nil })
	w.until("all is well", func() bool {
		return table.distrusts() == "" && len(n.status().Problems) == 0 && w.isMember(client.Addresses[0].String()+"/32")
	})
}

// While sets can't be written at all, chains stay as they are.
func TestChainsWaitForSets(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.untilReady()
	w.sets.change(func(s *fakeSets) { s.broken = errors.New("no sets") })
	n.attachAs("old", "web")
	w.plant(webPolicy)
	w.until("the trouble is told", func() bool { return strings.Contains(strings.Join(n.report.notReady(), "\n"), "no sets") })
	if strings.Contains(w.chains.Dump(), "cali-pi-np/ns/web") {
		t.Errorf("chains:\n%s", w.chains.Dump())
	}
	w.sets.change(func(s *fakeSets) { s.broken = nil })
	n.untilReady()
	if !strings.Contains(w.chains.Dump(), "cali-pi-np/ns/web") {
		t.Errorf("chains:\n%s", w.chains.Dump())
	}
}

// stuck is a table whose writes take until it is let go.
type stuck struct {
	*fakeChains
	let chan struct{}
}

// Write implements reconcile.Table.
func (s stuck) Write(ctx context.Context, d reconcile.Diff[chain.Key, *chain.Chain]) error {
	<-s.let
	return s.fakeChains.Write(ctx, d)
}

// Who waits for a loop that is held up is told so in time, with the step, and nothing is left of what was asked.
func TestHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		let := make(chan struct{}, 1000)
		w.chainTable = stuck{w.chains, let}
		w.chains.named.Store(true) // else a pod like others needs no other chains
		for range 100 {
			let <- struct{}{}
		}
		n := w.start()
		n.untilReady()
		old := n.attach("old")
		for len(let) > 0 {
			<-let
		}
		ep, err := n.add(request("container-of-new", "new"))
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		asks := map[string]func() error{
			"READY": func() error { return n.ready(ep.ID) },
			"ADD":   func() error { _, err := n.ask(request("container-of-newer", "newer")); return err },
			"DEL":   func() error { return n.detach(old.ID) },
		}
		answers := make(chan string, len(asks))
		for name, ask := range asks {
			go func() {
				var coded *socket.Error
				if err := ask(); !errors.As(err, &coded) || coded.Code != socket.CodeTryAgainLater || coded.Error() != "agent held up: writing chains has taken 8s so far" {
					name += ": " + describeReply(err)
				}
				answers <- name
			}()
		}
		for range asks {
			if name := <-answers; asks[name] == nil {
				t.Error(name)
			}
		}
		if waited := time.Since(begun); waited > 10*time.Second {
			t.Errorf("waited %s, longer than the plugin does", waited)
		}
		if text := strings.Join(n.status().Problems, "\n"); !strings.HasPrefix(text, "kernel: writing chains has taken 8s so far") {
			t.Errorf("status: %s", text)
		}
		for range 100 {
			let <- struct{}{}
		}
		// The DEL that nobody waits for is the queue's to repeat.
		n.untilReady()
		if _, err := n.ask(request("container-of-newer", "newer")); err != nil {
			t.Error(err)
		}
		if err := n.detach(old.ID); err != nil {
			t.Error(err)
		}
	})
}
