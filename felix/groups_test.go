// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"korat/api"
	"korat/felix/dataplane"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/felix/reconcile/reconciletest"
	"korat/policy/chain"
)

// setGroup gives an interface another group behind the agent's back, which hears of it.
func (w *testWorld) setGroup(name string, group uint32) {
	w.links.Change(func(t *reconciletest.Table[string, dataplane.Link]) {
		l := t.Have[name]
		l.Group = group
		t.Have[name] = l
	})
	w.kernel.tell(kernel.Notice{Links: map[string]bool{name: false}})
}

// grouped are the interfaces of pods.
type grouped struct{ web, other, last string }

// groupedPods has a pod with a policy and two without, and gives the last.
func (w *testWorld) groupedPods() (*node, grouped) {
	w.plant(webPolicy)
	n := w.start()
	n.untilReady()
	pods := grouped{web: n.attachAs("web", "web").Interface, other: n.attachAs("other", "other").Interface}
	w.chains.TakeWrites()
	pods.last = n.attachAs("last", "other").Interface
	return n, pods
}

// A pod like others needs no other chains, nor does it when it goes.
func TestPodLikeOthersNeedsNoChains(t *testing.T) {
	w := newWorld(t)
	n, pods := w.groupedPods()
	web, other, last := pods.web, pods.other, pods.last
	if w.group(last) == 0 || w.group(last) != w.group(other) || w.group(last) == w.group(web) {
		t.Errorf("groups 0x%x of web, 0x%x and 0x%x", w.group(web), w.group(other), w.group(last))
	}
	w.kernel.removeLink(last)
	if err := n.detach(request("container-of-last", "last").ID); err != nil {
		t.Fatal(err)
	}
	if text := w.chains.TakeWrites(); text != "" {
		t.Errorf("written:\n%s", text)
	}
	if w.led(other, w.group(other)) == w.led(web, w.group(web)) {
		t.Error("both lead to one chain")
	}
}

// Whoever changes an interface's group, it gets its own again, and goes by its name as long as the rules know of
// another one. What is no pod's gets none.
func TestGroupsOfOthersAreRepaired(t *testing.T) {
	w := newWorld(t)
	_, pods := w.groupedPods()
	web, other := pods.web, pods.other
	own, to := w.group(other), w.led(other, w.group(other))
	for _, group := range []uint32{w.group(web), 7, 0} {
		w.setGroup(other, group)
		w.until("it has its group again", func() bool { return w.group(other) == own && w.led(other, 0) == "" })
	}
	if w.led(other, own) != to {
		t.Errorf("it leads to %s, and did to %s", w.led(other, own), to)
	}
	const stray = "cali7"
	w.kernel.addLink(stray, dataplane.HostLink{Index: 7, Up: true})
	w.setGroup(stray, own)
	w.until("what is no pod's has no group", func() bool {
		return w.group(stray) == 0 && !strings.Contains(w.chains.Dump(), "out "+stray+" ")
	})
}

// While the packet filter can't be written the groups stay, for the rules that are there are those for these.
func TestGroupsWaitForChains(t *testing.T) {
	w := newWorld(t)
	n, pods := w.groupedPods()
	web, other := pods.web, pods.other
	before := w.links.Dump()
	w.breakChains(errFilter)
	w.plant(strings.NewReplacer("name: web", "name: later", "app == 'web'", "all()").Replace(webPolicy))
	n.untilTold()
	if have := w.links.Dump(); have != before {
		t.Errorf("links were\n%sand are\n%s", before, have)
	}
	w.breakChains(nil)
	n.untilReady()
	w.until("they have other groups", func() bool {
		return !strings.Contains(before, other+" "+w.link(other).String()) && w.dispatched(other) && w.dispatched(web)
	})
}

func (w *testWorld) link(name string) (l dataplane.Link) {
	w.links.Change(func(t *reconciletest.Table[string, dataplane.Link]) { l = t.Have[name] })
	return l
}

// An interface of which the group can't be written is not forgotten: by then it may have any.
func TestGroupThatCannotBeWritten(t *testing.T) {
	w := newWorld(t)
	n, pods := w.groupedPods()
	other := pods.other
	own := w.group(other)
	w.links.Change(func(t *reconciletest.Table[string, dataplane.Link]) {
		t.Bad = map[string]error{other: errors.New("no")}
	})
	w.plant(strings.NewReplacer("name: web", "name: later", "app == 'web'", "app == 'other'").Replace(webPolicy))
	w.until("the trouble is told", func() bool { return strings.Contains(strings.Join(n.report.notReady(), "\n"), other) })
	if w.group(other) != own || w.led(other, own) == "" {
		t.Errorf("group 0x%x, led to %q", w.group(other), w.led(other, own))
	}
	w.links.Change(func(t *reconciletest.Table[string, dataplane.Link]) { t.Bad = nil })
	w.until("it has its group", func() bool { return w.group(other) != own && w.dispatched(other) })
	n.untilReady()
}

// A start writes nothing that is there, and finishes what the last run had begun.
func TestRestartWithGroups(t *testing.T) {
	w := newWorld(t)
	n, pods := w.groupedPods()
	other, last := pods.other, pods.last
	n.stop()
	w.writes()
	n = w.start()
	n.untilReady()
	if text := w.writes(); text != "" {
		t.Errorf("written:\n%s", text)
	}
	n.stop()
	// It died between chains and links, or a pod has come that it has not heard of.
	own, chains := w.group(other), w.chains.Dump()
	w.setGroup(last, 0)
	n = w.start()
	n.untilReady()
	w.until("it has its group", func() bool { return w.group(last) == own && w.chains.Dump() == chains })
}

// An agent whose rules lead from names is followed by one whose rules lead from groups: pods get them before these rules
// come, and so are reached all the time. When rules can't match groups any more they lead from names before the groups go.
func TestGroupsBeginAndEnd(t *testing.T) {
	w := newWorld(t)
	w.chains.named.Store(true)
	n, pods := w.groupedPods()
	web, other := pods.web, pods.other
	if w.group(web) != 0 || w.led(web, 0) == "" || w.led(other, 0) == "" {
		t.Fatalf("it leads from groups:\n%s%s", w.links.Dump(), w.chains.Dump())
	}
	n.stop()
	table := &reached{fakeChains: w.chains, look: func() {
		for _, name := range []string{web, other} {
			if !w.dispatched(name) {
				t.Errorf("%s is led nowhere", name)
			}
		}
	}}
	w.chainTable = table
	w.chains.named.Store(false)
	n = w.start()
	n.untilReady()
	w.until("rules lead from groups", func() bool {
		return w.group(web) != 0 && w.led(web, 0) == "" && w.dispatched(web) && w.dispatched(other)
	})
	w.chains.named.Store(true)
	poke(w.kernel.wake)
	w.until("rules lead from names", func() bool { return w.group(web) == 0 && w.led(web, 0) != "" && w.led(other, 0) != "" })
	w.chains.named.Store(false)
	poke(w.kernel.wake)
	w.until("rules lead from groups again", func() bool { return w.group(web) != 0 && w.led(web, 0) == "" && w.dispatched(other) })
	if table.writes.Load() == 0 {
		t.Error("no chains were written")
	}
}

// reached are chains that look after each write.
type reached struct {
	*fakeChains
	look   func()
	writes atomic.Int64
}

// Write implements reconcile.Table.
func (r *reached) Write(ctx context.Context, d reconcile.Diff[chain.Key, *chain.Chain]) error {
	err := r.fakeChains.Write(ctx, d)
	r.look()
	r.writes.Add(1)
	return err
}

// Without a look at the groups that there are nothing is written: the rules might be those for other ones.
func TestFirstLookAtLinksFails(t *testing.T) {
	w := newWorld(t)
	w.links.ReadErr = errors.New("links changed while they were read")
	w.plant(webPolicy)
	n := w.start()
	w.until("the trouble is told", func() bool {
		return strings.Contains(strings.Join(n.report.notReady(), "\n"), "links changed while they were read")
	})
	if text := w.chains.TakeWrites(); text != "" {
		t.Errorf("written without knowing the groups:\n%s", text)
	}
	w.links.Change(func(t *reconciletest.Table[string, dataplane.Link]) { t.ReadErr = nil })
	n.untilReady()
	if w.chains.TakeWrites() == "" {
		t.Error("no chains")
	}
}

// A write of groups fails, and they can't be read either: what policies change waits until it is known which there are.
func TestGroupsThatNobodyKnows(t *testing.T) {
	w := newWorld(t)
	n, pods := w.groupedPods()
	no := errors.New("no")
	w.links.Change(func(t *reconciletest.Table[string, dataplane.Link]) { t.WriteErr, t.ReadErr = no, no })
	own := w.group(pods.other)
	w.plant(strings.NewReplacer("name: web", "name: later", "app == 'web'", "all()").Replace(webPolicy))
	w.until("it has another group, and nobody knows", func() bool { return w.group(pods.other) != own && len(n.report.notReady()) > 0 })
	w.plant(strings.NewReplacer("name: web", "name: last", "app == 'web'", "all()").Replace(webPolicy))
	w.until("the agent has the policy", func() bool {
		known, err := inquire(t.Context(), n.Agent, func() bool { return n.world.snap.NetworkPolicies.Len() == 3 })
		return err == nil && known
	})
	w.links.Change(func(t *reconciletest.Table[string, dataplane.Link]) { t.ReadErr = errors.New("still not") })
	w.until("it has looked", func() bool { return strings.Contains(strings.Join(n.report.notReady(), "\n"), "still not") })
	for _, name := range []string{pods.web, pods.other, pods.last} {
		if !w.dispatched(name) {
			t.Errorf("%s of group 0x%x is led nowhere:\n%s", name, w.group(name), w.chains.Dump())
		}
	}
	w.links.Change(func(t *reconciletest.Table[string, dataplane.Link]) { t.WriteErr, t.ReadErr = nil, nil })
	n.untilReady()
	w.until("the last policy is there", func() bool { return strings.Contains(w.chains.Dump(), "cali-pi-np/ns/last") })
}

// silent are chains of which nobody says at first whether their rules can match groups.
type silent struct {
	*fakeChains
	answers atomic.Bool
}

// Groups implements grouping.
func (s *silent) Groups(ctx context.Context, families []api.Family) (bool, error) {
	if !s.answers.Load() {
		return false, errors.New("somebody has the lock")
	}
	return s.fakeChains.Groups(ctx, families)
}

// As long as it is not known whether rules can match groups they lead from names, and it is asked again with no other cause.
func TestGroupsAreAskedForAgain(t *testing.T) {
	w := newWorld(t)
	table := &silent{fakeChains: w.chains}
	w.chainTable = table
	n := w.start()
	n.untilReady()
	pod := n.attachAs("web", "web").Interface
	if w.group(pod) != 0 || w.led(pod, 0) == "" {
		t.Errorf("group 0x%x, led to %q", w.group(pod), w.led(pod, 0))
	}
	w.published(1)
	w.until("the agent has seen that", func() bool {
		seen, err := inquire(t.Context(), n.Agent, func() bool { return n.world.snap.WorkloadEndpoints.Len() == 1 })
		return err == nil && seen
	})
	table.answers.Store(true)
	w.until("rules lead from groups", func() bool { return w.group(pod) != 0 && w.led(pod, w.group(pod)) != "" && w.led(pod, 0) == "" })
}
