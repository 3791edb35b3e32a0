// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"strings"
	"testing"

	"korat/api"
	"korat/policy/chain"
)

// stored tells of an object as a datastore has it.
func (w *told) stored(key api.Key, value string) {
	w.Helper()
	obj, err := api.Restore(key, []byte(value))
	if err != nil {
		w.Fatal(err)
	}
	w.snap = w.snap.With(obj)
	w.Changed(w.snap, map[api.Key]struct{}{key: {}})
}

const doubtPolicies = `
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: mine}
spec: {order: 7}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: mine.some}
spec:
  tier: mine
  selector: app == 'web'
  ingress:
  - {action: Deny, source: {selector: role == 'bad'}}
  - {action: Deny, source: {services: {namespace: ns, name: db}}}
  - {action: Allow, source: {notSelector: role == 'bad'}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: first}
spec: {order: 1, selector: app == 'web', ingress: [{action: Allow, protocol: UDP}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: bad, labels: {role: bad}}
spec: {nets: [192.0.2.0/24]}
---
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: kns.ns}
spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: ns, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.9]}]
`

// What becomes unreadable closes rules that it might concern, whether they are known before or after; once it is readable, or
// gone, all is as it was.
func TestDoubts(t *testing.T) {
	set, tier := api.Key{Kind: api.KindGlobalNetworkSet, Name: "bad"}, api.Key{Kind: api.KindTier, Name: "mine"}
	profile, slice := api.Key{Kind: api.KindProfile, Name: "kns.ns"}, api.Key{Kind: api.KindEndpointSlice, Namespace: "ns", Name: "db-1"}
	newWorld := func() (*told, *api.WorkloadEndpoint) {
		w := newTold(t, doubtPolicies)
		web := w.pod("web", "c1", "10.0.0.1", "web")
		w.Own(w.snap, []*api.WorkloadEndpoint{web})
		return w, web
	}
	// rules gives the pod's chain and the policy's, which are empty if there are none.
	rules := func(w *told) string {
		var all []string
		for line := range strings.Lines(w.chain(chain.Filter, "cali-to-wl-dispatch")) {
			if _, name, leads := strings.Cut(strings.TrimSpace(line), "out caliweb → goto "); leads {
				all = append(all, w.chain(chain.Filter, name))
			}
		}
		return strings.Join(append(all, w.chain(chain.Filter, "cali-pi-gnp/mine.some")), "\n")
	}
	pod := (&told{T: t}).pod("web", "c1", "10.0.0.1", "web").Key()
	for _, tt := range []struct {
		name, value string
		key         api.Key
		closed      func(rules string) bool
	}{
		{"set", "{", set, func(rules string) bool {
			return !strings.Contains(rules, "cali40s:") && !strings.Contains(rules, "cali-allow")
		}},
		{"set in part", `{"metadata":{"name":"bad","labels":{"role":"bad"}},"spec":{"later":1}}`, set, func(rules string) bool {
			return !strings.Contains(rules, "cali40s:") && !strings.Contains(rules, "cali-allow")
		}},
		{"tier", "{", tier, func(rules string) bool {
			return strings.Contains(rules, "tier mine") && !strings.Contains(rules, "cali40s:") && !strings.Contains(rules, "cali-allow")
		}},
		{"slice", "{", slice, func(rules string) bool {
			return strings.Contains(rules, "cali40s:") && !strings.Contains(rules, "cali40svcnoport:")
		}},
		{"profile", "{", profile, func(rules string) bool { return !strings.Contains(rules, "tier mine") }},
		{"pod", "{", pod, func(rules string) bool { return !strings.Contains(rules, "tier mine") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, web := newWorld()
			before, objects := rules(w), w.snap
			if !strings.Contains(before, "cali40s:") || !strings.Contains(before, "cali40svcnoport:") || !strings.Contains(before, "cali-allow") || !strings.Contains(before, "tier mine") {
				t.Fatalf("the test tests nothing: %s", before)
			}
			w.stored(tt.key, tt.value)
			closed := rules(w)
			if !tt.closed(closed) || !strings.Contains(strings.Join(w.Problems(), "\n"), tt.key.String()+": object") {
				t.Errorf("%s\nproblems %v", closed, w.Problems())
			}
			again := &told{T: t, Filter: NewFilter("a"), snap: w.snap}
			again.Own(w.snap, []*api.WorkloadEndpoint{web})
			for _, kind := range []api.Kind{api.KindGlobalNetworkPolicy, api.KindWorkloadEndpoint, api.KindGlobalNetworkSet, api.KindTier, api.KindProfile, api.KindEndpointSlice} {
				for obj := range w.snap.Objects(kind) {
					again.Changed(w.snap, map[api.Key]struct{}{obj.Key(): {}})
				}
			}
			if have := rules(again); have != closed {
				t.Errorf("told in another order: %s\nwant %s", have, closed)
			}
			w.snap = objects
			w.Changed(w.snap, map[api.Key]struct{}{tt.key: {}})
			if have := rules(w); have != before || len(w.Problems()) > 0 {
				t.Errorf("readable again: %s\nwant %s\nproblems %v", have, before, w.Problems())
			}
		})
	}
}

// A host endpoint whose profile nobody can read has a policy before all others, which denies.
func TestHostEndpointInDoubt(t *testing.T) {
	const mine = "\n---\napiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: mine}\nspec: {labelsToApply: {up: 'yes'}}\n"
	w := newTold(t, hostPolicies+mine+hostEndpointText("e", "node: a, interfaceName: eth0, profiles: [mine]", "other: 'yes'"))
	const whole = "eth0: pi-gnp/other pi-gnp/up"
	if have := w.policed(); have != whole {
		t.Fatalf("have %s, want %s", have, whole)
	}
	objects, key := w.snap, api.Key{Kind: api.KindProfile, Name: "mine"}
	w.stored(key, "{")
	have := w.policed()
	first, problem, _ := strings.Cut(have, "\n")
	name, of := strings.CutPrefix(first, "eth0: ")
	if !of || strings.Contains(name, " ") || !strings.Contains(problem, "Profile/mine: object") {
		t.Errorf("in doubt: %s", have)
	}
	if have := w.chain(chain.Filter, "cali-"+name); strings.Contains(have, "cali-allow") || !strings.HasSuffix(have, " → DROP") {
		t.Errorf("the policy %s: %s", name, have)
	}
	w.snap = objects
	w.Changed(w.snap, map[api.Key]struct{}{key: {}})
	if have := w.policed(); have != whole || w.chain(chain.Filter, "cali-"+name) != "" {
		t.Errorf("readable again: have %s, want %s", have, whole)
	}
}
