// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"cmp"
	"errors"
	"slices"
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

// plant puts manifests into the datastore.
func (w *testWorld) plant(manifests string) {
	w.t.Helper()
	objs, err := api.Decode([]byte(manifests))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, obj := range objs {
		api.Default(obj)
		if err := api.Validate(obj); err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.store.Create(w.t.Context(), obj); err != nil {
			w.t.Fatal(err)
		}
	}
}

const webPolicy = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: ns}
spec:
  selector: app == 'web'
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: app == 'client'}, destination: {ports: [80]}}
`

// dispatched says whether packets to an interface are led anywhere.
func (w *testWorld) dispatched(device string) bool { return w.led(device, w.group(device)) != "" }

// group gives the one that an interface has.
func (w *testWorld) group(device string) (group uint32) {
	w.links.Change(func(t *reconciletest.Table[string, dataplane.Link]) { group = t.Have[device].Group })
	return group
}

// led gives the chain of endpoints that packets to an interface of a group are led to: by its name, or else by its group.
func (w *testWorld) led(device string, group uint32) string {
	byName, byGroup := "", ""
	w.chains.Change(func(t *reconciletest.Table[chain.Key, *chain.Chain]) {
		for key, c := range t.Have {
			if !strings.HasPrefix(key.Name, "cali-to-wl-dispatch") {
				continue
			}
			for _, r := range c.Rules {
				if to := r.Action.Chain(); slices.Contains(r.Conditions, chain.Condition(chain.Out(device))) {
					byName = to
				} else if strings.HasPrefix(to, "cali-tw-") && group != 0 && inGroup(r, group) {
					byGroup = to
				}
			}
		}
	})
	return cmp.Or(byName, byGroup)
}

func inGroup(r chain.Rule, group uint32) bool {
	return slices.ContainsFunc(r.Conditions, func(c chain.Condition) bool {
		g, is := c.(chain.LinkGroup)
		return is && group&g.Mask == g.Value
	})
}

// meant says whether packets to an interface are led anywhere once it has the group that it is to have.
func (n *node) meant(device string) bool {
	group, err := inquire(n.w.t.Context(), n.Agent, func() uint32 { return n.memos.filter.Group(device) })
	return err == nil && n.w.led(device, group) != ""
}

func (w *testWorld) isMember(address string) bool {
	w.sets.mu.Lock()
	defer w.sets.mu.Unlock()
	for _, members := range w.sets.have {
		for m := range members {
			if m.String() == address {
				return true
			}
		}
	}
	return false
}

func (n *node) attachAs(pod, app string) endpoint.Endpoint {
	n.w.t.Helper()
	r := request("container-of-"+pod, pod)
	r.Traits.Labels = map[string]string{"app": app}
	ep, err := n.add(r)
	if err == nil {
		err = n.ready(ep.ID)
	}
	if err != nil {
		n.w.t.Fatalf("attach %s: %v", pod, err)
	}
	return ep
}

// What policies say of a pod is in the kernel when its ADD returns, its membership in sets too.
func TestPolicyIsThereWhenAddReturns(t *testing.T) {
	w := newWorld(t)
	w.plant(webPolicy)
	n := w.start()
	n.untilReady()
	web := n.attachAs("web", "web")
	if !w.dispatched(web.Interface) || !strings.Contains(w.chains.Dump(), "cali-pi-np/ns/web") {
		t.Errorf("chains:\n%s", w.chains.Dump())
	}
	client := request("container-of-client", "client")
	client.Traits.Labels = map[string]string{"app": "client"}
	ep, err := n.ask(client)
	if err != nil {
		t.Fatal(err)
	}
	// By now its interface does not exist.
	w.until("policy is there before the interface", func() bool {
		return n.meant(ep.Interface) && w.isMember(ep.Addresses[0].String()+"/32")
	})
	if err := n.detach(ep.ID); err != nil {
		t.Fatal(err)
	}
	if n.meant(ep.Interface) || w.isMember(ep.Addresses[0].String()+"/32") {
		t.Errorf("after DEL there are still chains or members:\n%s", w.chains.Dump())
	}
}

// While the packet filter can't be written no new pod is reached, and those that were stay.
func TestNoPodIsReachedBeforeItsPolicy(t *testing.T) {
	for name, breaks := range map[string]func(*testWorld, error){
		"chains": func(w *testWorld, err error) {
			w.chains.Change(func(tab *reconciletest.Table[chain.Key, *chain.Chain]) { tab.ReadErr, tab.WriteErr = err, err })
		},
		"sets": func(w *testWorld, err error) {
			w.sets.mu.Lock()
			defer w.sets.mu.Unlock()
			w.sets.broken = err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.plant(webPolicy)
			n := w.start()
			old := n.attachAs("old", "web")
			breaks(w, errors.New("the packet filter is broken"))
			r := request("container-of-new", "new")
			r.Traits.Labels = map[string]string{"app": "client"} // which is asked for by a set
			ep, err := n.add(r)
			if err != nil {
				t.Fatal(err)
			}
			ready := make(chan error, 1)
			go func() { ready <- n.ready(ep.ID) }()
			w.until("the trouble is told", func() bool {
				return strings.Contains(strings.Join(n.report.notReady(), "\n"), "the packet filter is broken")
			})
			if w.hasRoute(ep.Addresses[0].String()+"/32 ") || !w.hasRoute(old.Addresses[0].String()+"/32 ") {
				t.Errorf("want the old pod's route and not the new one's:\n%s", w.routes.Dump())
			}
			breaks(w, nil)
			if err := <-ready; err != nil {
				t.Fatal(err)
			}
			if !w.dispatched(ep.Interface) || !w.hasRoute(ep.Addresses[0].String()+"/32 ") {
				t.Errorf("not healed:\n%s\n%s", w.chains.Dump(), w.routes.Dump())
			}
		})
	}
}

// A chain that the kernel refuses makes no node unready and holds up no pod.
func TestRefusedChain(t *testing.T) {
	w := newWorld(t)
	refused := chain.Key{Family: api.IPv4, Table: chain.Filter, Name: "cali-pi-np/ns/web"}
	w.chains.Bad = map[chain.Key]error{refused: errors.New("the kernel refuses rule 1")}
	w.plant(webPolicy)
	n := w.start()
	n.untilReady()
	n.attachAs("web", "web")
	other := n.attachAs("other", "other")
	n.untilReady()
	if !w.dispatched(other.Interface) {
		t.Errorf("chains:\n%s", w.chains.Dump())
	}
	w.until("the status names it", func() bool {
		return strings.Contains(strings.Join(n.status().Problems, "\n"), "the kernel refuses rule 1")
	})
}

// A rule in one of the kernel's own chains that is refused leaves pods without any policy: none is to be reached then.
func TestRefusedHook(t *testing.T) {
	w := newWorld(t)
	w.chains.Bad = map[chain.Key]error{{Family: api.IPv4, Table: chain.Filter, Name: "FORWARD"}: errors.New("the kernel refuses rule 1")}
	n := w.start()
	ep, err := n.add(request("container-of-web", "web"))
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan error, 1)
	go func() { ready <- n.ready(ep.ID) }()
	w.until("the trouble is told", func() bool {
		return strings.Contains(strings.Join(n.report.notReady(), "\n"), "the kernel refuses rule 1")
	})
	if w.hasRoute(ep.Addresses[0].String() + "/32 ") {
		t.Errorf("reached without policy:\n%s", w.routes.Dump())
	}
	w.chains.Change(func(tab *reconciletest.Table[chain.Key, *chain.Chain]) { tab.Bad = nil })
	if err := <-ready; err != nil || !w.hasRoute(ep.Addresses[0].String()+"/32 ") {
		t.Errorf("not healed: %v\n%s", err, w.routes.Dump())
	}
}

// Sets gain members before chains change and lose them after.
func TestOrderOfSetsAndChains(t *testing.T) {
	key := policy.SetKey{Name: "cali40s:x", Family: api.IPv4}
	table := &fakeSets{have: map[policy.SetKey]kernel.Members{}}
	s := newSets(table)
	one, two := policy.Member{Port: 1}, policy.Member{Port: 2}
	want := heldSets{key: {one}}
	step := func(f func() error) {
		t.Helper()
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	prepare := func(c map[policy.SetKey]setChange) func() error {
		return func() error { _, err := s.prepare(t.Context(), filterOf(want, c)); return err }
	}
	sweep := func() error { _, err := s.sweep(t.Context()); return err }
	step(prepare(nil))
	step(sweep)
	want[key] = []policy.Member{two}
	step(prepare(map[policy.SetKey]setChange{key: {Added: []policy.Member{two}, Removed: []policy.Member{one}}}))
	if len(table.have[key]) != 2 {
		t.Errorf("before the chains: %v, want both", table.have[key])
	}
	step(sweep)
	if _, has := table.have[key][two]; len(table.have[key]) != 1 || !has {
		t.Errorf("after the chains: %v", table.have[key])
	}
}
