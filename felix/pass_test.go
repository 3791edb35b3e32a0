// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"korat/api"
	"korat/api/store"
	"korat/bgp"
	"korat/felix/autodetect"
	"korat/felix/calc"
	"korat/felix/endpoint"
	"korat/felix/mirror"
	"korat/ipam"
)

// still is a datastore of which there is one Snapshot.
type still struct {
	snap    api.Snapshot
	changed map[api.Key]struct{}
}

func (s *still) Snapshot() api.Snapshot { return s.snap }

func (s *still) Take() (api.Snapshot, map[api.Key]struct{}) {
	changed := s.changed
	s.changed = nil
	return s.snap, changed
}

// stillWith gives one that is in sync, with manifests.
func stillWith(t testing.TB, manifests string) *still {
	t.Helper()
	s := &still{}
	s.snap.InSync = true
	s.apply(t, manifests)
	return s
}

// apply puts manifests into the Snapshot.
func (s *still) apply(t testing.TB, manifests string) {
	t.Helper()
	objs, err := api.Decode([]byte(manifests))
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range objs {
		api.Default(obj)
		s.set(obj)
	}
}

func (s *still) set(obj api.Object) {
	s.snap = s.snap.With(obj)
	s.note(obj.Key())
}

func (s *still) remove(key api.Key) {
	s.snap = s.snap.Without(key)
	s.note(key)
}

func (s *still) note(key api.Key) {
	if !calc.Heeds(key.Kind) {
		return
	}
	if s.changed == nil {
		s.changed = map[api.Key]struct{}{}
	}
	s.changed[key] = struct{}{}
}

func (s *still) Wake() <-chan struct{} { return nil }
func (s *still) Status() store.Status  { return store.Status{Connected: true} }

// cluster is an agent, not running, in a cluster of n other nodes with a block and a route each.
func cluster(t testing.TB, n int) (*Agent, *still, *testWorld) {
	w := newWorld(t)
	data := &still{}
	data.snap.InSync = true
	rib := bgp.RIB{Running: true, Complete: true, Generation: 1, Paths: map[netip.Prefix][]bgp.Path{}}
	for i := range n {
		name, addr := fmt.Sprintf("n%d", i), netip.AddrFrom4([4]byte{192, 168, 100, byte(101 + i%100)})
		block := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		data.snap.Nodes = data.snap.Nodes.With(nodeObject(name, fmt.Sprintf("10.200.%d.%d/32", i>>8, i&255)))
		affinity := &api.BlockAffinity{Spec: api.BlockAffinitySpec{State: api.AffinityConfirmed, Node: name, CIDR: block.String()}}
		affinity.Name = api.AffinityName(name, block)
		data.snap.BlockAffinities = data.snap.BlockAffinities.With(affinity)
		rib.Paths[block] = []bgp.Path{{NextHop: addr}}
	}
	w.speaker.rib = rib
	agent := w.idle(data, nopJournal{})
	mustPass(t, agent)
	return agent, data, w
}

// idle is an agent that has looked at the kernel, whose start is over, and that does nothing by itself.
func (w *testWorld) idle(data Datastore, record Journal) *Agent {
	w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	agent := New(Config{Identity: Identity{Node: "a", IPv4: Source{Method: autodetect.FirstFound(api.IPv4)}}}, Parts{
		Datastore: data, Store: w.store, Kernel: w.kernel, Speaker: w.speaker, Journal: record, Log: log,
		Keeper: ipam.NewKeeper(w.store, "a", log), Mirror: mirror.New(w.store, "a", log),
		Tables: Tables{w.links, w.sysctls, w.sets, w.chains, w.neighbours, w.routes},
	})
	agent.at.restore()
	if err := agent.look(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	agent.world.start.done = true
	return agent
}

// populate gives an idle agent's node pods, and the cluster policies for each of them and pods that they pick.
func (w *testWorld) populate(a *Agent, data *still, pods int) {
	w.t.Helper()
	var all strings.Builder
	for i := range pods {
		name := fmt.Sprintf("p%d", i)
		fmt.Fprintf(&all, "---%s", strings.NewReplacer("name: web", "name: "+name, "'web'", "'"+name+"'", "'client'", "'client-"+name+"'").Replace(webPolicy))
		fmt.Fprintf(&all, "---\napiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {name: %s, namespace: ns, labels: {app: client-%s}}\nspec: {nets: [10.9.0.%d/32]}\n", name, name, i)
		w.attached(a, name, name, fmt.Sprintf("10.0.0.%d", i))
	}
	data.apply(w.t, all.String())
	mustPass(w.t, a)
}

// reads counts the full reads of the kernel's tables.
func (w *testWorld) reads() int {
	return w.links.Reads + w.sysctls.Reads + w.sets.reads + w.chains.Reads + w.neighbours.Reads + w.routes.Reads
}

// generations are those of what passes compute.
func (a *Agent) generations() [4]uint64 {
	return [...]uint64{a.memos.plan.sessions.generation, a.memos.learned.generation, a.memos.state.generation, a.memos.edition.Load()}
}

// A pass for which nothing has changed must not cost what the cluster holds: it computes nothing anew,
// and neither reads nor writes the kernel.
func TestPassWithoutChange(t *testing.T) {
	agent, data, w := cluster(t, 200)
	w.populate(agent, data, 50)
	if w.routes.Dump() == "" || !strings.Contains(w.chains.Dump(), "cali-pi-np/ns/p49") || !w.isMember("10.9.0.49/32") {
		t.Fatal("no routes, chains or members: the test tests nothing")
	}
	w.writes()
	reads, before := w.reads(), agent.generations()
	unchanged := func(what string) {
		t.Helper()
		mustPass(t, agent)
		if after := agent.generations(); before != after {
			t.Errorf("%s made this node compute plan, learned routes, state or packet filter anew: %v, then %v", what, before, after)
		}
		if text := w.writes(); text != "" || w.reads() != reads {
			t.Errorf("%s: read %d times, written: %s", what, w.reads()-reads, text)
		}
	}
	unchanged("nothing")
	wep := &api.WorkloadEndpoint{}
	wep.Namespace, wep.Name = "ns", "elsewhere"
	data.snap.WorkloadEndpoints = data.snap.WorkloadEndpoints.With(wep) // of which the follower tells the filter
	unchanged("another node's pod")

	// What a policy says that is for nobody here is told, and costs no more.
	before[3]++
	data.apply(t, strings.ReplaceAll(webPolicy, "web", "elsewhere"))
	unchanged("a policy for nobody here")
	before[3]++
	data.set(policyOf(t, data, "elsewhere"))
	unchanged("a policy that is told again")
	before[3]++
	data.remove(api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: "elsewhere"})
	unchanged("a policy for nobody here that goes")
}

func policyOf(t *testing.T, data *still, name string) api.Object {
	t.Helper()
	obj, ok := data.snap.Get(api.Key{Kind: api.KindNetworkPolicy, Namespace: "ns", Name: name})
	if !ok {
		t.Fatalf("there is no policy %s", name)
	}
	return obj
}

// What a pass without change allocates does not grow with the policies of the node.
func TestPassWithoutChangeAllocatesNoMore(t *testing.T) {
	allocated := func(pods int) float64 {
		agent, data, w := cluster(t, 1)
		w.populate(agent, data, pods)
		data.set(agent.register(data.snap, agent.world.own())) // else the pods are told to the mirror again and again
		for range 3 {
			mustPass(t, agent)
		}
		return testing.AllocsPerRun(20, func() { mustPass(t, agent) })
	}
	if few, many := allocated(2), allocated(200); many > few+50 {
		t.Errorf("with 2 pods and policies %.0f allocations, with 200 %.0f", few, many)
	}
}

// Blocks come and go all over the cluster: that plans no session anew, and the speaker hears nothing of it.
func TestBlockOfAnotherNode(t *testing.T) {
	agent, data, w := cluster(t, 200)
	before := agent.memos.plan.sessions.generation
	w.speaker.Want(bgp.Plan{}, false)
	block := netip.MustParsePrefix("10.77.0.0/24")
	affinity := &api.BlockAffinity{Spec: api.BlockAffinitySpec{State: api.AffinityConfirmed, Node: "n7", CIDR: block.String()}}
	affinity.Name = api.AffinityName("n7", block)
	data.snap.BlockAffinities = data.snap.BlockAffinities.With(affinity)
	mustPass(t, agent)
	if after := agent.memos.plan.sessions.generation; after != before {
		t.Errorf("sessions planned anew: generation %d, then %d", before, after)
	}
	if p, _ := w.speaker.wanted(); p.Global.AS != 0 {
		t.Errorf("the speaker was given a plan that has not changed: %+v", p.Global)
	}
}

func BenchmarkPassWithoutChange(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			agent, _, _ := cluster(b, n)
			for b.Loop() {
				mustPass(b, agent)
			}
		})
	}
}

type nopJournal struct{}

func (nopJournal) Put(string, endpoint.Endpoint) error { return nil }
func (nopJournal) Delete(string) error                 { return nil }
func (nopJournal) All() map[string]endpoint.Endpoint   { return nil }
func (nopJournal) Err() error                          { return nil }

func mustPass(t testing.TB, a *Agent) {
	t.Helper()
	if err := a.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
}
