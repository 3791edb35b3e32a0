// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"korat/api"
	"korat/api/store"
	"korat/bgp"
	"korat/felix/autodetect"
	"korat/felix/endpoint"
	"korat/felix/mirror"
	"korat/ipam"
)

// still is a datastore of which there is one Snapshot.
type still struct{ snap api.Snapshot }

func (s *still) Snapshot() api.Snapshot { return s.snap }

func (s *still) Take() (api.Snapshot, map[api.Key]struct{}) { return s.snap, nil }
func (s *still) Wake() <-chan struct{}                      { return nil }
func (s *still) Status() store.Status                       { return store.Status{Connected: true} }

// cluster is an agent, not running, in a cluster of n other nodes with a block and a route each.
func cluster(t testing.TB, n int) (*Agent, *still, *testWorld) {
	w := newWorld(t)
	data := &still{}
	data.snap.InSync = true
	rib := bgp.RIB{Running: true, Complete: true, Generation: 1, Paths: map[netip.Prefix][]bgp.Path{}}
	for i := range n {
		name, addr := fmt.Sprintf("n%d", i), netip.AddrFrom4([4]byte{192, 168, 100, byte(101 + i%100)})
		block := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		data.snap.Nodes = data.snap.Nodes.With(name, nodeObject(name, fmt.Sprintf("10.200.%d.%d/32", i>>8, i&255)))
		affinity := &api.BlockAffinity{Spec: api.BlockAffinitySpec{State: api.AffinityConfirmed, Node: name, CIDR: block.String()}}
		affinity.Name = api.AffinityName(name, block)
		data.snap.BlockAffinities = data.snap.BlockAffinities.With(affinity.Name, affinity)
		rib.Paths[block] = []bgp.Path{{NextHop: addr}}
	}
	w.speaker.rib = rib
	log := slog.New(slog.DiscardHandler)
	agent := New(Config{Identity: Identity{Node: "a", IPv4: Source{Method: autodetect.FirstFound(api.IPv4)}}}, Parts{
		Datastore: data, Store: w.store, Kernel: w.kernel, Speaker: w.speaker, Journal: nopJournal{}, Log: log,
		Keeper: ipam.NewKeeper(w.store, "a", log), Mirror: newMirror(w, data, log),
		Tables: Tables{w.links, w.sysctls, w.sets, w.chains, w.neighbours, w.routes},
	})
	agent.world.started = true
	if err := agent.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustPass(t, agent)
	return agent, data, w
}

func newMirror(w *testWorld, _ *still, log *slog.Logger) *mirror.Mirror {
	return mirror.New(w.store, "a", log)
}

// A pass for which nothing has changed must not cost what the cluster holds: it computes nothing anew,
// and neither reads nor writes the kernel.
func TestPassWithoutChange(t *testing.T) {
	agent, data, w := cluster(t, 200)
	if w.routes.Dump() == "" {
		t.Fatal("no routes: the test tests nothing")
	}
	w.writes()
	reads := w.routes.Reads
	before := [...]uint64{agent.memos.plan.sessions.generation, agent.memos.learned.generation, agent.memos.state.generation}
	wep := &api.WorkloadEndpoint{}
	wep.Namespace, wep.Name = "ns", "elsewhere"
	data.snap.WorkloadEndpoints = data.snap.WorkloadEndpoints.With("ns/elsewhere", wep)
	mustPass(t, agent)
	after := [...]uint64{agent.memos.plan.sessions.generation, agent.memos.learned.generation, agent.memos.state.generation}
	if before != after {
		t.Errorf("another node's pod made this one compute plan, learned routes or state anew: %v, then %v", before, after)
	}
	if text := w.writes(); text != "" || w.routes.Reads != reads {
		t.Errorf("read %d times, written: %s", w.routes.Reads-reads, text)
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
	data.snap.BlockAffinities = data.snap.BlockAffinities.With(affinity.Name, affinity)
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
