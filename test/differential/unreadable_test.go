// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/policy"
	"korat/policy/explain"
)

// TestUnreadable makes objects of random worlds unreadable, in whole or in part: nothing is allowed then that is denied when
// they are understood. And what is computed bit by bit is what is computed at once, whatever was in doubt before. There are
// as many worlds as it takes for each of them to close something.
func TestUnreadable(t *testing.T) {
	const worlds, most = 25, 1000
	closed := map[string]int{}
	vain := func() []string {
		return slices.DeleteFunc([]string{
			"Tier, hollow", "Tier, in part", "NetworkSet, hollow", "NetworkSet, in part", "GlobalNetworkSet, hollow", "GlobalNetworkSet, in part",
			"GlobalNetworkSet, with a fault", "WorkloadEndpoint, hollow", "Profile, hollow",
		}, func(what string) bool { return closed[what] > 0 })
	}
	for _, seed := range seeds(t, 1) {
		r, steps := newScene(t, seed), newCompilation()
		clear(closed)
		for world := 0; world < worlds || world < most && len(vain()) > 0; world++ {
			snap := r.populated()
			for obj := range objectsOf(snap) {
				for _, b := range r.broken(obj) {
					closed[fmt.Sprint(obj.Key().Kind, ", ", b.how)] += r.closes(snap, b.Object)
					if r.maybe(8) {
						r.recompute(steps, snap.With(b.Object))
					}
					if t.Failed() {
						t.Fatalf("DIFFERENTIAL_SEED=%d, world %d, %s: %s", seed, world, obj.Key(), b.how)
					}
				}
			}
		}
	}
	if what := vain(); len(what) > 0 {
		t.Errorf("close nothing, so that the test tests nothing of them: %q", what)
	}
}

// closes wants nothing to be allowed with a broken object that is denied with the whole one, and says how many of some flows are
// denied for it.
func (r *Scene) closes(snap api.Snapshot, broken api.Object) (n int) {
	r.t.Helper()
	whole, err := explain.Of(snap)
	if err != nil {
		r.t.Fatal(err)
	}
	lacking, err := explain.Of(snap.With(broken))
	if err == nil {
		r.t.Errorf("%s: nobody is told", broken.Key())
	}
	for range 100 {
		f := r.question()
		switch was, is := whole.Allowed(f), lacking.Allowed(f); {
		case is && !was:
			r.t.Errorf("it is allowed, and else denied: %+v\n%s", f, tell(r.t, whole.Explain(f), lacking.Explain(f)))
		case was && !is:
			n++
		}
	}
	return n
}

// recompute wants the same in steps as at once.
func (r *Scene) recompute(steps *compilation, snap api.Snapshot) {
	r.t.Helper()
	keys := keysOf(snap)
	have := text(steps.of(snap, shuffled(r, keys), 3))
	if diff := cmp.Diff(text(computed(snap, keys, len(keys)+1)), have); diff != "" {
		r.t.Errorf("another is computed in steps than at once:\n%s", diff)
	}
}

// TestUnreadableVerdicts wants package explain's verdicts of the kernel, too, while the agent cannot read an object, and once it can
// again.
func TestUnreadableVerdicts(t *testing.T) {
	const worlds, flows = 5, 120
	if err := pin(); err != nil {
		t.Fatal(err)
	}
	for _, seed := range seeds(t, 2) {
		t.Logf("DIFFERENTIAL_SEED=%d repeats this", seed)
		r, s, m := newScene(t, seed), newSite(t), newMix()
		s.populate(r, 6)
		var objs []api.Object
		for range worlds {
			next := r.world()
			s.must(s.apply(Change{Put: next, Delete: without(objs, next)}))
			objs = next
			s.spoil(r, flows, m)
			s.data.spoil()
			s.must(s.settled())
			s.compare(r.flows(s, flows), m)
		}
		t.Logf("%d flows as explain says, %d allowed", m.flows, m.allowed)
	}
}

// spoil breaks an object of some kinds, one after the other, and sends flows each time.
func (s *Site) spoil(r *Scene, flows int, m *mix) {
	s.t.Helper()
	had := map[api.Kind]bool{}
	for obj := range objectsOf(s.data.taken()) {
		kind := obj.Key().Kind
		if had[kind] {
			continue
		}
		had[kind] = r.maybe(2)
		for _, b := range r.broken(obj) {
			s.data.spoil(b.Object)
			s.must(s.settled())
			lacking, err := explain.Of(s.data.taken())
			if err == nil {
				s.t.Errorf("%s, %s: nobody is told", obj.Key(), b.how)
			}
			s.agree(lacking, r.flows(s, flows), m)
			if s.t.Failed() {
				s.t.Fatalf("with %s %s", obj.Key(), b.how)
			}
		}
	}
}

// populated is a world with pods of this node.
func (r *Scene) populated() api.Snapshot {
	snap := api.Snapshot{InSync: true}
	for _, obj := range r.world() {
		snap = snap.With(obj)
	}
	for i := range 4 {
		o := r.valid(r.stranger).(*api.WorkloadEndpoint)
		pod := fmt.Sprint("pod", i)
		o.Name, o.Spec.Node, o.Spec.Pod, o.Spec.Workload = api.WorkloadEndpointName(thisNode, "k8s", pod, "eth0"), thisNode, pod, pod
		o.Spec.InterfaceName = fmt.Sprint("calipod", i)
		o.Spec.IPNetworks = []string{fmt.Sprintf("172.17.0.%d/32", i+1), fmt.Sprintf("fd00:17::%d/128", i+1)}
		snap = snap.With(o)
	}
	return snap
}

// question is a flow between any two of the pods and the hosts.
func (r *Scene) question() explain.Flow {
	f := pick(r, api.IPv4, api.IPv4, api.IPv6)
	from, to := r.party(f), r.party(f)
	return explain.Flow{
		From: from, To: to, Protocol: pick(r, policy.TCP, policy.TCP, policy.UDP), SourcePort: r.anyPort(), DestinationPort: r.anyPort(),
		Leaves: uplink, Enters: uplink,
	}
}

func (r *Scene) party(f api.Family) explain.End {
	n := r.IntN(4)
	pod := map[api.Family]string{api.IPv4: fmt.Sprintf("172.17.0.%d", n+1), api.IPv6: fmt.Sprintf("fd00:17::%d", n+1)}[f]
	switch r.IntN(4) {
	case 0:
		i := r.IntN(strangers)
		return explain.End{Address: netip.MustParseAddr(strangerAddress(i, f))}
	case 1:
		return explain.End{Address: netip.MustParseAddr(pick(r, r.outside[f]...))}
	}
	return explain.End{Node: thisNode, Interface: fmt.Sprint("calipod", n), Address: netip.MustParseAddr(pod)}
}

// objectsOf gives those that may become unreadable. Without a HostEndpoint or FelixConfiguration an agent does not
// begin, and staged policies decide nothing.
func objectsOf(snap api.Snapshot) func(func(api.Object) bool) {
	return func(yield func(api.Object) bool) {
		for _, kind := range []api.Kind{
			api.KindTier, api.KindProfile, api.KindNetworkSet, api.KindGlobalNetworkSet, api.KindWorkloadEndpoint, api.KindEndpointSlice,
			api.KindNetworkPolicy, api.KindGlobalNetworkPolicy, api.KindKubernetesNetworkPolicy, api.KindClusterNetworkPolicy,
		} {
			for obj := range snap.Objects(kind) {
				if !yield(obj) {
					return
				}
			}
		}
	}
}

// breakage is an object as it is read where it is not understood.
type breakage struct {
	how string
	api.Object
}

func (r *Scene) broken(obj api.Object) []breakage {
	r.t.Helper()
	restored := func(value []byte) api.Object {
		got, err := api.Restore(obj.Key(), value)
		if err != nil {
			r.t.Fatal(err)
		}
		return got
	}
	all := []breakage{{"hollow", restored([]byte("{"))}}
	value, err := json.Marshal(obj)
	if err != nil {
		r.t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(value, &fields); err != nil {
		r.t.Fatal(err)
	}
	spec, _ := fields["spec"].(map[string]any)
	if !obj.Key().Kind.Restricts() || spec == nil {
		return all
	}
	nets, ok := spec["nets"].([]any)
	if ok && len(nets) > 0 {
		spec["nets"] = append(slices.Clone(nets[1:]), "10.0.0.1-10.0.0.9")
		value, _ = json.Marshal(fields) // it has just been read
		all = append(all, breakage{"with a fault", restored(value)})
		spec["nets"] = nets[1:]
	}
	spec["later"] = "something"
	value, _ = json.Marshal(fields)
	return append(all, breakage{"in part", restored(value)})
}

func shuffled(r *Scene, keys []api.Key) []api.Key {
	keys = slices.Clone(keys)
	r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return keys
}

func tell(t testing.TB, verdicts ...explain.Verdict) string {
	text, err := json.MarshalIndent(verdicts, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
