// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/felix/calc"
	"korat/policy/explain"
	"korat/test/lab/sandbox"
	"korat/test/netns"
)

func TestMain(m *testing.M) { os.Exit(sandbox.Main(m.Run)) }

// worlds is how many a seed has, and flowsPerWorld how many flows are tried in each.
const (
	worlds        = 20
	flowsPerWorld = 500
)

// TestVerdicts sends random flows through the kernel, as random objects have it, and wants package explain's verdict on
// each. What is computed bit by bit must be what is computed at once, byte by byte, and another agent must find it in
// the kernel. The seeds are always the same but for the last; DIFFERENTIAL_SEED repeats one.
func TestVerdicts(t *testing.T) {
	if err := pin(); err != nil {
		t.Fatal(err)
	}
	m := newMix()
	all := seeds(t, 1, 2)
	for _, seed := range all {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("DIFFERENTIAL_SEED=%d repeats this", seed)
			verdicts(t, seed, m)
		})
	}
	if t.Failed() {
		return
	}
	t.Log(m)
	if len(all) > 1 { // one seed alone may be one-sided
		for _, lack := range m.lacks() {
			t.Error(lack)
		}
	}
}

// seeds are the given ones and a random one, or the one of DIFFERENTIAL_SEED.
func seeds(t *testing.T, always ...uint64) []uint64 {
	text := os.Getenv("DIFFERENTIAL_SEED")
	if text == "" {
		return append(always, rand.Uint64())
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("DIFFERENTIAL_SEED: %v", err)
	}
	return []uint64{seed}
}

// populate attaches pods.
func (s *Site) populate(r *Scene, n int) {
	for i := range n {
		p := s.attach(namespaces()[i%3], fmt.Sprint("pod", i), r.traits())
		r.meet(p.Addresses...)
	}
	s.until("the datastore has the pods", func(snap api.Snapshot) error {
		if have := snap.WorkloadEndpoints.Len(); have != n {
			return fmt.Errorf("it has %d", have)
		}
		return nil
	})
}

// relabel gives some of this node's pods other labels, as koratctl label does.
func (s *Site) relabel(r *Scene) []api.Object {
	var objs []api.Object
	for _, w := range s.data.taken().WorkloadEndpoints.All() {
		if w.Spec.Node == thisNode && r.maybe(2) {
			w = w.DeepCopy()
			w.Labels = r.labels()
			objs = append(objs, w)
		}
	}
	return objs
}

func verdicts(t *testing.T, seed uint64, m *mix) {
	r, s := newScene(t, seed), newSite(t)
	s.populate(r, 9)
	var objs []api.Object
	inSteps := newCompilation()
	for world := range worlds {
		next := r.world()
		s.must(s.apply(Change{Put: append(next, s.relabel(r)...), Delete: without(objs, next)}))
		objs = next
		m.met(objs)
		s.compare(r.flows(s, flowsPerWorld), m)
		s.recompute(r, inSteps)
		if t.Failed() {
			t.Fatalf("DIFFERENTIAL_SEED=%d, world %d", seed, world)
		}
		if world%3 == 2 {
			s.restart()
		}
	}
	if r.refused > r.made/3 {
		t.Errorf("%d of %d objects were not valid", r.refused, r.made)
	}
}

// without gives those objects that the others don't replace.
func without(objs, others []api.Object) []api.Object {
	there := map[api.Key]bool{}
	for _, o := range others {
		there[o.Key()] = true
	}
	var rest []api.Object
	for _, o := range objs {
		if !there[o.Key()] {
			rest = append(rest, o)
		}
	}
	return rest
}

// compare sends the flows, and adds to the mix what is allowed.
func (s *Site) compare(flows []Flow, m *mix) {
	s.t.Helper()
	world, err := explain.Of(s.data.taken())
	s.must(err)
	s.agree(world, flows, m)
}

// agree wants the World's verdict on each flow.
func (s *Site) agree(world *explain.World, flows []Flow, m *mix) {
	s.t.Helper()
	have := s.send(flows)
	for i, f := range flows {
		want := world.Allowed(f.question())
		m.judged(f, want)
		if have[i] == want {
			continue
		}
		s.t.Errorf("%s: explain allows it: %v; it came through: %v; tried once more, it came through: %v\n%s",
			f, want, have[i], s.send(flows[i : i+1])[0], s.account(world, f))
		return
	}
}

// send sends flows as new connections, and says which came through.
func (s *Site) send(flows []Flow) []bool {
	s.t.Helper()
	s.forget()
	shots := make([]Shot, len(flows))
	index := make(map[uint32]int, len(flows))
	for i, f := range flows {
		shots[i], index[f.Packet.Number] = f.Shot, i
	}
	arrivals, err := s.wire.Send(shots)
	s.must(err)
	came := make([]bool, len(flows))
	for _, a := range arrivals {
		if i, known := index[a.Packet.Number]; known && flows[i].is(a) {
			came[i] = true
		} else if p := flows[i].Packet; known && a.Packet.Source == p.Source && a.Packet.Destination == p.Destination {
			s.t.Errorf("%s came as %s at %s", flows[i], a.Packet, a.At)
		}
	}
	return came
}

// account tells all that there is to know of a flow.
func (s *Site) account(world *explain.World, f Flow) string {
	var objs []api.Object
	snap := s.data.taken()
	for _, kind := range api.Kinds() {
		for obj := range snap.Objects(kind) {
			if calc.Heeds(kind) {
				objs = append(objs, obj)
			}
		}
	}
	command := "iptables"
	if f.Packet.Source.Is6() {
		command = "ip6tables"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "explain: %s\nobjects:\n%s", told(world, f), manifest(objs))
	for _, backend := range []string{"-nft", "-legacy"} {
		fmt.Fprintf(&b, "%s%s:\n%s", command, backend, s.host.Run(command+backend+"-save", "-c"))
	}
	fmt.Fprintf(&b, "sets:\n%s", s.host.Run("ipset", "save"))
	return b.String()
}

// told gives explain's reasons.
func told(world *explain.World, f Flow) string {
	text, err := json.MarshalIndent(world.Explain(f.question()), "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// recompute wants what is computed of all at once to be the same when it is computed bit by bit, in another order, and
// by one who knew the worlds before; and nothing of it to change when it is told again.
func (s *Site) recompute(r *Scene, inSteps *compilation) {
	s.t.Helper()
	snap := s.data.taken()
	keys := keysOf(snap)
	want := text(computed(snap, keys, len(keys)))
	r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	if diff := cmp.Diff(want, text(computed(snap, keys, 1+r.IntN(5)))); diff != "" {
		s.t.Errorf("in another order:\n%s", diff)
	}
	if diff := cmp.Diff(want, text(inSteps.of(snap, keys, 1+r.IntN(5)))); diff != "" {
		s.t.Errorf("after other worlds:\n%s", diff)
	}
	again := inSteps.of(snap, keys, len(keys))
	if diff := cmp.Diff(want, text(again)); diff != "" || again.Changed() {
		s.t.Errorf("told again: chains %v and sets %v change:\n%s", again.ChangedChains, again.ChangedSets, diff)
	}
}

// restart has another agent take over, which finds in the kernel what it would write.
func (s *Site) restart() {
	s.t.Helper()
	snap := s.data.taken()
	sets := len(slices.Collect(computed(snap, keysOf(snap), 1).Sets.Sets()))
	netns.WaitFor(s.t.(*testing.T), "sets to go that no rule names", func() bool {
		return strings.Count(s.host.Run("ipset", "list", "-n"), "\n") == sets
	})
	s.stop()
	s.start()
	s.must(s.apply(Change{}))
	if written := s.diary.take(); len(written) > 0 {
		s.t.Errorf("a restart writes\n%s", strings.Join(written, "\n"))
	}
}
