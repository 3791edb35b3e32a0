// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"korat/api"
	"korat/api/store/storetest"
	"korat/cni-plugin/socket"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/kernel"
	"korat/felix/reconcile/reconciletest"
	"korat/policy/chain"
)

// mapJournal is a record that outlives an agent.
type mapJournal map[string]endpoint.Endpoint

func (j mapJournal) Put(key string, ep endpoint.Endpoint) error { j[key] = ep; return nil }
func (j mapJournal) Delete(key string) error                    { delete(j, key); return nil }
func (j mapJournal) All() map[string]endpoint.Endpoint          { return j }
func (j mapJournal) Err() error                                 { return nil }

// attached puts a pod into the record of an idle agent, and its interface into the kernel.
func (w *testWorld) attached(a *Agent, name, app, address string) endpoint.Endpoint {
	w.t.Helper()
	ep := endpoint.Endpoint{
		ID: endpoint.ID{ContainerID: "container-of-" + name, IfName: "eth0"}, Network: "korat", Namespace: "ns", Pod: name,
		Interface: endpoint.HostInterface("ns", name, "eth0"), MAC: "02:00:00:00:00:01", MTU: 1400,
		Addresses: []netip.Addr{netip.MustParseAddr(address)}, Ready: true, Traits: endpoint.Traits{Labels: map[string]string{"app": app}},
	}
	w.alias(ep)
	if err := a.at.put(ep); err != nil {
		w.t.Fatal(err)
	}
	return ep
}

// leads gives the policies that packets to a pod meet.
func (w *testWorld) leads(ep endpoint.Endpoint) string {
	var all []string
	name := w.led(ep.Interface, w.group(ep.Interface))
	if name == "" {
		return "unknown"
	}
	w.chains.Change(func(tab *reconciletest.Table[chain.Key, *chain.Chain]) {
		for _, r := range tab.Have[chain.Key{Family: api.IPv4, Table: chain.Filter, Name: name}].Rules {
			if to, is := strings.CutPrefix(r.Action.Chain(), "cali-pi-"); is {
				all = append(all, to)
			}
		}
	})
	if len(all) == 0 {
		return "no policy"
	}
	return strings.Join(all, " ")
}

// inSet says whether any set has the member; copies, into which no chain looks any more, are none.
func (w *testWorld) inSet(member string) bool {
	w.sets.mu.Lock()
	defer w.sets.mu.Unlock()
	for key, members := range w.sets.have {
		for m := range members {
			if m.String() == member && key.Copy() != key {
				return true
			}
		}
	}
	return false
}

// filter gives all that the kernel has of the packet filter.
func (w *testWorld) filter() string {
	return w.chains.Dump() + fmt.Sprint(w.sets.have) + w.routes.Dump()
}

func delCall(id endpoint.ID) call {
	return call{ctx: neverDone{}, req: socket.Request{Verb: socket.VerbDel, ID: id}, reply: make(chan socket.Reply, 1)}
}

// What the run before has written stays until all of the datastore has been read, whatever happens to the host and
// whichever part of it has been read: of that only what it asks for changes then.
func TestRestartBeforeInSync(t *testing.T) {
	w, record := newWorld(t), mapJournal{}
	data := stillWith(t, webPolicy)
	agent := w.idle(data, record)
	web, client := w.attached(agent, "web", "web", "10.0.0.1"), w.attached(agent, "client", "client", "10.0.0.2")
	mustPass(t, agent)
	if have := w.leads(web); have != "np/ns/web" || !w.inSet("10.0.0.2/32") || !w.reached(client) {
		t.Fatalf("the test tests nothing: %s\n%s", have, w.filter())
	}
	before := w.filter()
	w.writes()

	next := &still{}
	agent = w.idle(next, record)
	for what, happens := range map[string]func(){
		"nothing":                func() {},
		"a part is read":         func() { next.apply(t, strings.ReplaceAll(webPolicy, "web", "other")) },
		"notices of everything":  func() { w.kernel.tell(kernel.Everything()) },
		"resync":                 func() { invalidate(agent.steps, kernel.Everything()) },
		"a pod is gone":          func() { agent.queue = append(agent.queue, delCall(client.ID)); w.kernel.removeLink(client.Interface) },
		"an interface that came": func() { w.kernel.addLink("cali7", dataplane.HostLink{Index: 9, Up: true, Running: true}) },
	} {
		happens()
		mustPass(t, agent)
		if text := w.writes(); text != "" || w.filter() != before {
			t.Errorf("%s: written:\n%s", what, text)
		}
	}
	next.snap.InSync = true
	next.remove(api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: "other"})
	next.apply(t, webPolicy)
	mustPass(t, agent)
	if have := w.leads(web); have != "np/ns/web" || w.leads(client) != "unknown" || w.inSet("10.0.0.2/32") || w.reached(client) {
		t.Errorf("in sync: %s\n%s", have, w.filter())
	}
}

// While the datastore is away the policies that were read last are in force, for pods that come meanwhile too. What has
// changed counts when it is back.
func TestPoliciesWhileTheDatastoreIsAway(t *testing.T) {
	w := newWorld(t)
	w.plant(webPolicy)
	faults := storetest.NewFaults(w.store)
	n := w.startWith(faults, &sync.WaitGroup{})
	web := n.attachAs("web", "web")
	n.untilReady()
	faults.SetDown(true)
	w.plant(strings.NewReplacer("name: web", "name: later", "app == 'web'", "all()").Replace(webPolicy))
	w.deleteAll(api.KindWorkloadEndpoint)
	w.until("it is away", func() bool { return !n.Datastore.Status().Connected })
	client, second := n.attachAs("client", "client"), n.attachAs("second", "web")
	if have := w.leads(web) + ", " + w.leads(second) + ", " + w.leads(client); have != "np/ns/web, np/ns/web, no policy" {
		t.Errorf("away: %s", have)
	}
	if member := client.Addresses[0].String() + "/32"; !w.inSet(member) {
		t.Errorf("%s is in no set", member)
	}
	if err := n.detach(client.ID); err != nil || w.leads(client) != "unknown" {
		t.Errorf("DEL: %v, then %s", err, w.leads(client))
	}
	faults.SetDown(false)
	w.until("what has changed is in force", func() bool { return strings.Contains(w.leads(web), "later") })
	if have := w.leads(second); have != "np/ns/later np/ns/web" {
		t.Errorf("back: %s", have)
	}
}

// A pod's labels are what people say in the datastore; its old policies and memberships end with its old labels. Another
// pod of the name has its own labels, whatever the datastore still says of the one before.
func TestLabelsChange(t *testing.T) {
	w, record := newWorld(t), mapJournal{}
	data := stillWith(t, webPolicy)
	agent := w.idle(data, record)
	ep := w.attached(agent, "one", "web", "10.0.0.1")
	w.attached(agent, "web", "web", "10.0.0.3")
	want := func(what, leads string, member bool) {
		t.Helper()
		mustPass(t, agent)
		if have := w.leads(ep); have != leads || w.inSet("10.0.0.1/32") != member || !w.reached(ep) {
			t.Errorf("%s: %s, member %t, reached %t", what, have, w.inSet("10.0.0.1/32"), w.reached(ep))
		}
	}
	say := func(labels map[string]string) {
		stored := workloadEndpoint("a", ep)
		stored.Labels = labels
		data.set(stored)
	}
	want("as the runtime said", "np/ns/web", false)
	say(map[string]string{"app": "client"})
	want("labelled by people", "no policy", true)
	say(nil)
	want("without labels", "no policy", false)
	say(map[string]string{"app": "web"})
	want("labelled again", "np/ns/web", false)
	say(map[string]string{"app": "client"})
	want("once more", "no policy", true)

	old := ep
	agent.queue = append(agent.queue, delCall(ep.ID))
	mustPass(t, agent)
	if w.leads(ep) != "unknown" || w.inSet("10.0.0.1/32") || w.reached(ep) {
		t.Errorf("gone, and still there:\n%s", w.filter())
	}
	ep.ContainerID, ep.MAC, ep.Traits.Labels = "container-of-next", "02:00:00:00:00:02", map[string]string{"app": "web"}
	if err := agent.at.put(ep); err != nil {
		t.Fatal(err)
	}
	want("another of the name", "np/ns/web", false)
	if err := agent.at.remove(ep.ID); err != nil {
		t.Fatal(err)
	}
	if err := agent.at.put(old); err != nil {
		t.Fatal(err)
	}
	want("replaced within one pass", "no policy", true)
}

// A policy that becomes unreadable closes what it may be for, and says so; one that is readable again opens it.
func TestPolicyBecomesUnreadable(t *testing.T) {
	w := newWorld(t)
	data := stillWith(t, webPolicy)
	agent := w.idle(data, mapJournal{})
	web, other := w.attached(agent, "web", "web", "10.0.0.1"), w.attached(agent, "other", "other", "10.0.0.2")
	mustPass(t, agent)
	key := api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: "web"}
	broken, err := api.Restore(key, []byte(`{"metadata": nonsense`))
	if err != nil {
		t.Fatal(err)
	}
	problems := func() string { return strings.Join(agent.report.status().Problems, "\n") }
	data.set(broken)
	mustPass(t, agent)
	for _, ep := range []endpoint.Endpoint{web, other} {
		if have := w.leads(ep); have != "np/ns/web" || !strings.Contains(problems(), "NetworkPolicy/ns/web: object: \"in the datastore\": is not understood whole") {
			t.Errorf("%s: %s, problems %s", ep.Pod, have, problems())
		}
	}
	for k, c := range w.chains.Have {
		if k.Name == "cali-pi-np/ns/web" && strings.Contains(fmt.Sprint(c), "ACCEPT") {
			t.Errorf("%s allows something: %v", k, c)
		}
	}
	data.apply(t, webPolicy)
	mustPass(t, agent)
	if have := w.leads(web) + ", " + w.leads(other); have != "np/ns/web, no policy" || problems() != "" {
		t.Errorf("readable again: %s, problems %s", have, problems())
	}
}

// neverDone is the context of who waits for ever.
type neverDone struct{ context.Context }

// Err implements context.Context.
func (neverDone) Err() error { return nil }
