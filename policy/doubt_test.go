// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/policy"
)

// doubted is a Snapshot of manifests and of values that a datastore has by key, and what is in doubt of it.
type doubted struct {
	*testing.T
	snap   api.Snapshot
	doubts policy.Doubts
}

func newDoubted(t *testing.T, values map[api.Key]string) *doubted {
	d := &doubted{T: t}
	for key, value := range values {
		obj, err := api.Restore(key, []byte(value))
		if err != nil {
			t.Fatal(err)
		}
		d.snap = d.snap.With(obj)
	}
	for key := range values {
		switch obj, _ := d.snap.Get(key); o := obj.(type) {
		case *api.Tier:
			d.doubts.Tier(o.Name, o)
		case *api.Profile:
		case *api.EndpointSlice:
			s, _ := policy.ServiceOf(o)
			_, err := policy.Behind(o)
			d.doubts.Slice(key, s, policy.Missing(o, err))
		default:
			it, _ := policy.ItemOf(o) // it is in doubt for it
			it.Inherit(d.snap)
			d.doubts.Item(d.snap, key, it)
		}
	}
	return d
}

// closed gives what becomes of a GlobalNetworkPolicy's rules, which are written as in YAML.
func (d *doubted) closed(rules string) string {
	d.Helper()
	objs, err := api.Decode([]byte("apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: p}\n" +
		"spec: {tier: mine, types: [Ingress], ingress: [" + rules + "]}\n"))
	if err != nil {
		d.Fatal(err)
	}
	p, err := policy.Of(objs[0])
	if err != nil {
		d.Fatal(err)
	}
	text := dumpPolicy(d.doubts.Policy(p))
	if again := dumpPolicy(d.doubts.Policy(d.doubts.Policy(p))); d.doubts.Policy(p) == p && again != text {
		d.Errorf("what is as it was becomes another: %s", again)
	}
	_, text, _ = strings.Cut(text, "\n")
	return text
}

// Of rules that might concern what nobody knows, denials match all that they may, and others only what they do for sure.
func TestDoubts(t *testing.T) {
	set := api.Key{Kind: api.KindGlobalNetworkSet, Name: "s"}
	spaced := api.Key{Kind: api.KindNetworkSet, Namespace: "shop", Name: "s"}
	pod := api.Key{Kind: api.KindWorkloadEndpoint, Namespace: "shop", Name: "w"}
	slice := api.Key{Kind: api.KindEndpointSlice, Namespace: "shop", Name: "e"}
	tier := api.Key{Kind: api.KindTier, Name: "mine"}
	part := map[api.Key]string{set: `{"metadata":{"name":"s","labels":{"role":"bad"}},"spec":{"nets":["10.0.0.1"],"later":1}}`}
	faulty := map[api.Key]string{set: `{"metadata":{"name":"s","labels":{"role":"bad"}},"spec":{"nets":["10.0.0.1-10.0.0.9"]}}`}
	nothing := func(key api.Key) map[api.Key]string { return map[api.Key]string{key: "{"} }
	const (
		denied   = `{action: Deny, source: {selector: role == 'bad'}}`
		allowed  = `{action: Allow, source: {selector: role == 'bad'}}`
		excluded = `{action: Allow, source: {notSelector: role == 'bad'}}`
		passed   = `{action: Pass, source: {selector: role == 'bad'}}`
	)
	for _, tt := range []struct {
		name, rules string
		values      map[api.Key]string
		// same is for rules that stay.
		same bool
		want string
	}{
		{name: "all is known", rules: denied, values: map[api.Key]string{set: `{"metadata":{"name":"s"}}`}, same: true},
		{name: "deny what is in part known", rules: denied, values: part, want: "{action: Deny}"},
		{name: "deny what has a fault", rules: denied, values: faulty, want: "{action: Deny}"},
		{name: "deny what is not known", rules: denied, values: nothing(set), want: "{action: Deny}"},
		{name: "deny others", rules: `{action: Deny, source: {selector: role == 'other'}}`, values: part, same: true},
		{name: "deny others, it is not known whom", rules: `{action: Deny, source: {selector: role == 'other'}}`, values: nothing(set), want: "{action: Deny}"},
		{name: "deny a namespace's", rules: `{action: Deny, source: {namespaceSelector: all()}}`, values: nothing(set), same: true},
		{name: "deny a namespace's, it is not known whom", rules: `{action: Deny, source: {namespaceSelector: all()}}`, values: nothing(spaced), want: "{action: Deny}"},
		{name: "deny pods", rules: `{action: Deny, source: {serviceAccounts: {names: [a]}}}`, values: nothing(spaced), same: true},
		{name: "deny pods, it is not known whom", rules: `{action: Deny, source: {serviceAccounts: {names: [a]}}}`, values: nothing(pod), want: "{action: Deny}"},
		{
			name: "the rest of the rule stays", rules: `{action: Deny, protocol: TCP, source: {selector: role == 'bad'}, destination: {ports: [80]}}`, values: part,
			want: `{action: Deny, protocol: TCP, destination: {ports: [80]}}`,
		},
		{name: "allow what it has", rules: allowed, values: part, same: true},
		{name: "allow what it does not have", rules: `{action: Log}, ` + excluded, values: part, want: "{action: Log}"},
		{name: "allow all but others", rules: `{action: Allow, source: {notSelector: role == 'other'}}`, values: part, same: true},
		{name: "deny what it does not have", rules: `{action: Deny, source: {notSelector: role == 'bad'}}`, values: part, want: `{action: Deny, source: {notSelector: role == 'bad'}}`},
		{name: "pass it on", rules: passed, values: part, want: passed + ", {action: Deny}"},
		{
			name: "pass on what it does not have", rules: `{action: Pass, source: {notSelector: role == 'bad'}}`, values: part,
			want: `{action: Deny, source: {notSelector: role == 'bad'}}`,
		},
		{name: "log", rules: `{action: Log, source: {selector: role == 'bad'}}`, values: part, same: true},
		{name: "ports of sets", rules: `{action: Deny, protocol: TCP, destination: {ports: [http]}}`, values: part, same: true},
		{name: "ports of pods", rules: `{action: Deny, protocol: TCP, destination: {ports: [http, 80]}}`, values: nothing(pod), want: "{action: Deny, protocol: TCP}"},
		{name: "all but ports of pods", rules: `{action: Allow, protocol: TCP, destination: {notPorts: [http]}}`, values: nothing(pod), want: ""},
		{name: "a service", rules: `{action: Deny, source: {services: {namespace: shop, name: web}}}`, values: nothing(slice), want: "{action: Deny}"},
		{name: "a service of others", rules: `{action: Deny, source: {services: {namespace: default, name: web}}}`, values: nothing(slice), same: true},
		{name: "allow a service", rules: `{action: Allow, source: {services: {namespace: shop, name: web}}}`, values: nothing(slice), same: true},
		{name: "the tier", rules: `{action: Allow}, {action: Log}`, values: nothing(tier), want: "invalid"},
		{name: "the tier in part", rules: `{action: Allow}`, values: map[api.Key]string{tier: `{"metadata":{"name":"mine"},"spec":{"order":1,"later":1}}`}, want: "invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			none := &doubted{T: t}
			want := none.closed(tt.rules)
			switch {
			case tt.same:
			case tt.want == "invalid":
				want = "for all()\ningress:\n  0 Deny (invalid)\n"
			default:
				want = none.closed(tt.want)
			}
			if diff := cmp.Diff(unnumbered(want), unnumbered(newDoubted(t, tt.values).closed(tt.rules))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// unnumbered leaves out which of the object's rules each is.
func unnumbered(text string) string {
	return regexp.MustCompile(`(?m)^  \d+ `).ReplaceAllString(text, "  ")
}

// A profile of which nothing is known leaves it open which labels others have. Their own are known, as is their namespace.
func TestDoubtsOfLabels(t *testing.T) {
	d := newDoubted(t, map[api.Key]string{
		{Kind: api.KindProfile, Name: "kns.shop"}:                "{",
		{Kind: api.KindNetworkSet, Namespace: "shop", Name: "s"}: `{"metadata":{"name":"s","namespace":"shop","labels":{"role":"bad"}},"spec":{"nets":["10.0.0.1"]}}`,
	})
	for rule, doubtful := range map[string]bool{
		"role == 'bad'": true, "role == 'good'": false, "env == 'prod'": true, "!has(env)": true, "has(projectcalico.org/orchestrator)": false,
	} {
		text := d.closed(`{action: Deny, source: {selector: "` + rule + `"}}`)
		if closed := !strings.Contains(text, "from "); closed != doubtful {
			t.Errorf("%s: closed %t, want %t: %s", rule, closed, doubtful, text)
		}
	}
}

// Of a tier that nobody can read all policies come first; of one that always exists it is only not known what its end is.
func TestTierInDoubt(t *testing.T) {
	for name, want := range map[string]string{"mine": "before all", "default": "order 1000000"} {
		for _, value := range []string{"{", `{"metadata":{"name":"` + name + `"},"spec":{"order":5,"defaultAction":"Pass","later":1}}`} {
			obj, err := api.Restore(api.Key{Kind: api.KindTier, Name: name}, []byte(value))
			if err != nil {
				t.Fatal(err)
			}
			have := policy.TierOf(obj.(*api.Tier))
			first := have.Compare(policy.BuiltInTiers()[0]) < 0
			if have.Default != api.Deny || first != (want == "before all") || !first && have.Order != policy.OrderDefault {
				t.Errorf("%s of %s: %+v, want %s", name, value, have, want)
			}
		}
	}
}
