// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"errors"
	"strings"
	"testing"

	"korat/api"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/kernel"
	"korat/felix/reconcile/reconciletest"
	"korat/policy"
	"korat/policy/chain"
)

// breakChains lets every read and write of chains fail; nil mends that.
func (w *testWorld) breakChains(err error) {
	w.chains.Change(func(tab *reconciletest.Table[chain.Key, *chain.Chain]) { tab.ReadErr, tab.WriteErr = err, err })
}

var errFilter = errors.New("the packet filter is broken")

// untilTold waits until the node is not ready for the packet filter.
func (n *node) untilTold() {
	n.w.t.Helper()
	n.w.until("the trouble is told", func() bool {
		return strings.Contains(strings.Join(n.report.notReady(), "\n"), errFilter.Error())
	})
}

func (w *testWorld) reached(ep endpoint.Endpoint) bool {
	return w.hasRoute(ep.Addresses[0].String() + "/32 ")
}

// A pod that takes the place of another one of its name while the packet filter is broken is not that one: what is in
// the kernel for its interface was made for other labels.
func TestReaddedPodWaitsForItsPolicy(t *testing.T) {
	w := newWorld(t)
	w.plant(webPolicy)
	n := w.start()
	old := n.attachAs("web", "web")
	w.breakChains(errFilter)
	if err := n.detach(old.ID); err != nil {
		t.Fatal(err)
	}
	w.kernel.removeLink(old.Interface)
	n.untilTold()
	ep, err := n.add(request(old.ContainerID, "web"))
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan error, 1)
	go func() { ready <- n.ready(ep.ID) }()
	w.until("the interface is set up", func() bool { return strings.Contains(w.links.Dump(), ep.Interface) })
	if _, err := n.ask(request("another", "another")); err != nil { // a pass later
		t.Fatal(err)
	}
	if w.reached(ep) {
		t.Errorf("reached by the policy of its predecessor:\n%s", w.routes.Dump())
	}
	w.breakChains(nil)
	if err := <-ready; err != nil || !w.reached(ep) {
		t.Errorf("not healed: %v\n%s", err, w.routes.Dump())
	}
	// From now on it is reached whatever happens, although another one has gone and it has come meanwhile.
	w.breakChains(errFilter)
	w.plant(strings.NewReplacer("name: web", "name: other", "app == 'web'", "all()").Replace(webPolicy))
	n.untilTold()
	if !w.reached(ep) {
		t.Errorf("a pod that was reached is not any more:\n%s", w.routes.Dump())
	}
}

// Neither a restart nor a lost record takes a pod its route because the packet filter can't be written.
func TestRestartWithABrokenFilterCostsNoPod(t *testing.T) {
	for name, lost := range map[string]bool{"restart": false, "with a lost record": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ep := w.attachedBefore()
			w.breakChains(errFilter)
			if lost {
				w.dir = t.TempDir()
			}
			w.writes()
			n := w.start()
			n.untilTold()
			if !w.reached(ep) {
				t.Errorf("the route is gone; written:\n%s", w.writes())
			}
			w.breakChains(nil)
			n.untilReady()
			if text := w.writes(); text != "" {
				t.Errorf("written:\n%s", text)
			}
		})
	}
}

// A restart with the same policies and pods, with sets and named ports, writes nothing.
func TestUnchangedRestartWritesNoRule(t *testing.T) {
	w := newWorld(t)
	w.plant(strings.Replace(webPolicy, "ports: [80]", "ports: [http]", 1))
	n := w.start()
	n.untilReady()
	for pod, app := range map[string]string{"web": "web", "one": "client", "two": "client"} {
		r := request("container-of-"+pod, pod)
		r.Traits = endpoint.Traits{Labels: map[string]string{"app": app}, Ports: []endpoint.Port{{Name: "http", Protocol: "TCP", Port: 8080}}}
		ep, err := n.add(r)
		if err == nil {
			err = n.ready(ep.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if text := w.writes(); !strings.Contains(text, "cali-pi-np/ns/web") || !strings.Contains(text, "set {") {
		t.Fatalf("the test tests nothing:\n%s", text)
	}
	n.stop()
	w.writes()
	n = w.start()
	n.untilReady()
	if text := w.writes(); text != "" {
		t.Errorf("written:\n%s", text)
	}
}

// A restart makes no pod reachable whose policy the run before could not write.
func TestRestartKeepsPodsWaitingForTheirPolicy(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.untilReady()
	w.breakChains(errFilter)
	ep, err := n.add(request("container-of-web", "web"))
	if err != nil {
		t.Fatal(err)
	}
	w.alias(ep)
	go func() { _ = n.ready(ep.ID) }() // which is answered by no run
	w.until("the interface is set up", func() bool { return strings.Contains(w.links.Dump(), ep.Interface) })
	n.stop()
	n = w.start()
	n.untilTold()
	if w.reached(ep) {
		t.Errorf("reached without policy:\n%s", w.routes.Dump())
	}
	w.breakChains(nil)
	w.until("it is reached", func() bool { return w.reached(ep) })
}

// What chains still need of sets stays while chains can't be written, and goes afterwards.
func TestSetsWaitForChains(t *testing.T) {
	agent, _, w := cluster(t, 1)
	key := policy.SetKey{Name: "cali40s:x", Family: api.IPv4}
	one, two := policy.Member{Port: 1}, policy.Member{Port: 2}
	want := heldSets{key: {one, two}}
	name := chain.Key{Family: api.IPv4, Table: chain.Filter, Name: "cali-tw-x"}
	chains := map[chain.Key]*chain.Chain{}
	apply := func(rule string, c setChange) error {
		chains[name] = &chain.Chain{Rules: []chain.Rule{chain.NewRule(rule, chain.Action{Verb: chain.Drop})}}
		f := filterOf(want, map[policy.SetKey]setChange{key: c})
		f.Chains, f.ChangedChains = chains, []chain.Key{name}
		return agent.applyAll(t.Context(), dataplane.State{Filter: f}, true)
	}
	if err := apply("first", setChange{New: true, Added: want[key]}); err != nil {
		t.Fatal(err)
	}
	w.chains.Change(func(tab *reconciletest.Table[chain.Key, *chain.Chain]) { tab.ReadErr = errFilter })
	agent.steps[chainsStep].invalidate(kernel.Everything())
	want[key] = []policy.Member{two}
	if err := apply("second", setChange{Removed: []policy.Member{one}}); !errors.Is(err, errFilter) {
		t.Fatal(err)
	}
	if len(w.sets.have[key]) != 2 {
		t.Errorf("a chain that is still there lacks a member of its set: %v", w.sets.have[key])
	}
	want[key] = []policy.Member{one, two}
	if err := apply("third", setChange{Added: []policy.Member{one}}); !errors.Is(err, errFilter) {
		t.Fatal(err)
	}
	w.breakChains(nil)
	if err := apply("fourth", setChange{}); err != nil || len(w.sets.have[key]) != 2 {
		t.Errorf("a member that is wanted again went later: %v, %v", w.sets.have[key], err)
	}
	want[key] = nil
	if err := apply("fifth", setChange{Removed: []policy.Member{one, two}}); err != nil || len(w.sets.have[key]) != 0 {
		t.Errorf("have %v, %v", w.sets.have[key], err)
	}
}

// A host that has routes to pods may have no chains: the version before knew no policies, or somebody has removed them.
func TestChainsThatAreGoneDoNotWaitForSets(t *testing.T) {
	w := newWorld(t)
	w.plant(webPolicy)
	n := w.start()
	web := n.attachAs("web", "web")
	n.untilReady()
	gone := func() {
		w.chains.Change(func(tab *reconciletest.Table[chain.Key, *chain.Chain]) { tab.Have = nil })
		w.sets.change(func(s *fakeSets) { s.broken = errFilter })
	}
	back := func(what string) {
		t.Helper()
		w.until(what, func() bool { return w.dispatched(web.Interface) })
		n.untilTold()
		more, err := n.add(request("container-of-"+what, what))
		if err != nil {
			t.Fatal(err)
		}
		w.until("they are kept up", func() bool { return n.meant(more.Interface) && !w.reached(more) })
		w.sets.change(func(s *fakeSets) { s.broken = nil })
		n.untilReady()
	}
	gone()
	w.kernel.tell(kernel.Everything())
	back("somebody removes them")
	n.stop()
	gone()
	n = w.start()
	back("a start finds none")
}

// On a host that has no chains yet those that need no sets are better than none, even if there can be no sets.
func TestFirstChainsDoNotWaitForSets(t *testing.T) {
	w := newWorld(t)
	w.sets.broken = errFilter
	n := w.start()
	n.untilTold()
	w.until("unknown interfaces are dropped", func() bool { return strings.Contains(w.chains.Dump(), "Unknown interface") })
	// From then on sets and chains go together.
	w.sets.change(func(s *fakeSets) { s.broken = nil })
	n.untilReady()
	n.attachAs("web", "web")
	w.sets.change(func(s *fakeSets) { s.broken = errFilter })
	w.chains.TakeWrites()
	w.plant(webPolicy)
	n.untilTold()
	if text := w.chains.TakeWrites(); strings.Contains(text, "cali-pi-np/ns/web") {
		t.Errorf("chains without their sets:\n%s", text)
	}
	w.sets.change(func(s *fakeSets) { s.broken = nil })
	w.until("the policy is there", func() bool { return strings.Contains(w.chains.Dump(), "cali-pi-np/ns/web") })
}
