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
// they are understood. And what is computed bit by bit is what is computed at once, whatever is in doubt before.
func TestUnreadable(t *testing.T) {
	const worlds, flows = 15, 100
	for _, seed := range seeds(t, 1) {
		t.Logf("DIFFERENTIAL_SEED=%d repeats this", seed)
		r, steps := newScene(t, seed), newCompilation()
		closed := map[string]int{}
		for world := range worlds {
			snap := r.populated()
			whole, err := explain.Of(snap)
			if err != nil {
				t.Fatal(err)
			}
			asked := some(r, flows, flows, r.question)
			for obj := range objectsOf(snap) {
				for how, broken := range r.broken(obj) {
					lacking := snap.With(broken)
					w, err := explain.Of(lacking)
					if err == nil {
						t.Fatalf("%s, %s: nobody is told", obj.Key(), how)
					}
					for _, f := range asked {
						was, is := whole.Allowed(f), w.Allowed(f)
						if is && !was {
							t.Fatalf("seed %d, world %d: with %s %s it is allowed, and else denied: %+v\n%s", seed, world, obj.Key(), how, f, tell(t, whole.Explain(f), w.Explain(f)))
						}
						if was && !is {
							closed[fmt.Sprint(obj.Key().Kind, ", ", how)]++
						}
					}
					if r.maybe(8) {
						keys := keysOf(lacking)
						have := text(steps.of(lacking, shuffled(r, keys), 3))
						if diff := cmp.Diff(text(computed(lacking, keys, len(keys)+1)), have); diff != "" {
							t.Fatalf("seed %d, world %d: with %s %s another is computed in steps than at once:\n%s", seed, world, obj.Key(), how, diff)
						}
					}
				}
			}
		}
		for _, want := range []string{"Tier, hollow", "Tier, in part", "NetworkSet, hollow", "NetworkSet, in part", "GlobalNetworkSet, hollow",
			"GlobalNetworkSet, in part", "GlobalNetworkSet, with a fault", "WorkloadEndpoint, hollow", "EndpointSlice, hollow", "Profile, hollow"} {
			if closed[want] == 0 {
				t.Errorf("%s closes nothing: the test tests nothing of it", want)
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

// broken gives the object as it is read where it is not understood.
func (r *Scene) broken(obj api.Object) map[string]api.Object {
	r.t.Helper()
	restored := func(value []byte) api.Object {
		got, err := api.Restore(obj.Key(), value)
		if err != nil {
			r.t.Fatal(err)
		}
		return got
	}
	all := map[string]api.Object{"hollow": restored([]byte("{"))}
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
		all["with a fault"] = restored(value)
		spec["nets"] = nets[1:]
	}
	spec["later"] = "something"
	value, _ = json.Marshal(fields)
	all["in part"] = restored(value)
	return all
}

func shuffled(r *Scene, keys []api.Key) []api.Key {
	keys = slices.Clone(keys)
	r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return keys
}

func tell(t *testing.T, verdicts ...explain.Verdict) string {
	text, err := json.MarshalIndent(verdicts, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
