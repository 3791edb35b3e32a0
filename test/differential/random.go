// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"korat/api"
)

// Scene makes random objects and flows of few values, so that policies, pods and packets meet.
type Scene struct {
	*rand.Rand
	t testing.TB
	// nets are prefixes of each family that somebody is in, or nobody.
	nets map[api.Family][]string
	// outside are addresses of hosts outside of the cluster, and pods those of pods of this node.
	outside, pods map[api.Family][]string
	// attached says which spare pods there are.
	attached [spares]bool
	// updating leaves out what established connections are not judged by: policies that have them not tracked, and host
	// endpoints of which it is not known from addresses alone whether a pod's connection goes by them.
	updating bool
	// made and refused count objects, and those among them that were not valid.
	made, refused int
}

func newScene(t testing.TB, seed uint64) *Scene {
	r := &Scene{Rand: rand.New(rand.NewPCG(seed, 0)), t: t, pods: map[api.Family][]string{}}
	r.nets = map[api.Family][]string{
		api.IPv4: {"0.0.0.0/0", "172.16.0.0/12", "172.17.0.0/16", "172.17.200.0/24", "172.17.200.0/30", "192.0.2.0/24", "192.0.2.7", "198.51.100.128/25", "203.0.113.1/32"},
		api.IPv6: {"::/0", "fd00:17::/48", "fd00:17:0:ff::/64", "fd00:17:0:ff::/126", "2001:db8::/32", "2001:db8::7", "2001:db8:1::/64"},
	}
	r.outside = map[api.Family][]string{
		api.IPv4: {"192.0.2.7", "192.0.2.200", "198.51.100.200", "203.0.113.1"},
		api.IPv6: {"2001:db8::7", "2001:db8::c8", "2001:db8:1::5"},
	}
	return r
}

// meet lets rules name the networks of a pod.
func (r *Scene) meet(addrs ...netip.Addr) {
	for _, a := range addrs {
		f := api.FamilyOf(a)
		r.pods[f] = append(r.pods[f], a.String())
		r.nets[f] = append(r.nets[f], a.String(), netip.PrefixFrom(a, a.BitLen()-2).Masked().String())
	}
}

func pick[T any](r *Scene, from ...T) T { return from[r.IntN(len(from))] }

// some gives least to most of what make gives.
func some[T any](r *Scene, least, most int, make func() T) []T {
	var all []T
	for range least + r.IntN(most-least+1) {
		all = append(all, make())
	}
	return all
}

// maybe is true once in n times.
func (r *Scene) maybe(n int) bool { return r.IntN(n) == 0 }

// valid gives an object as a user's manifest brings it. What make gives may be refused now and then.
func (r *Scene) valid(make func() api.Object) api.Object {
	for range 100 {
		r.made++
		obj := make()
		api.SetType(obj)
		text, err := yaml.Marshal(obj)
		if err != nil {
			r.t.Fatal(err)
		}
		objs, err := api.Decode(text)
		if err != nil || len(objs) != 1 {
			r.t.Fatalf("decode %s: %v", text, err)
		}
		api.Default(objs[0])
		if api.Validate(objs[0]) == nil {
			return objs[0]
		}
		r.refused++
	}
	obj := make()
	api.Default(obj)
	r.t.Fatalf("no valid object after 100: %v", api.Validate(obj))
	return nil
}

// manifest writes objects as a user would.
func manifest(objs []api.Object) string {
	text := ""
	for _, obj := range objs {
		obj = obj.DeepCopyObject()
		api.SetType(obj)
		b, err := yaml.Marshal(obj)
		if err != nil {
			return err.Error()
		}
		text += "---\n" + string(b)
	}
	return text
}

func namespaces() []string { return []string{"n1", "n2", "n3"} }

func (r *Scene) labels() map[string]string {
	labels := map[string]string{}
	for _, key := range []string{"x", "y", "z"} {
		if r.maybe(2) {
			labels[key] = r.value()
		}
	}
	return labels
}

func (r *Scene) value() string { return pick(r, "1", "2", "10") }

func (r *Scene) name(prefix string) string { return fmt.Sprintf("%s%d", prefix, r.IntN(6)) }

// selector is of one label, or of several joined.
func (r *Scene) selector() string {
	key, value := pick(r, "x", "y", "z"), r.value()
	simple := pick(r,
		fmt.Sprintf("%s == '%s'", key, value), fmt.Sprintf("%s != '%s'", key, value), fmt.Sprintf("has(%s)", key), fmt.Sprintf("!has(%s)", key),
		fmt.Sprintf("%s in {'1', '%s'}", key, value), fmt.Sprintf("%s not in {'1', '%s'}", key, value), fmt.Sprintf("%s starts with '1'", key),
		fmt.Sprintf("%s contains '0'", key), fmt.Sprintf("%s ends with '%s'", key, value), "all()",
	)
	switch r.IntN(8) {
	case 0:
		return fmt.Sprintf("%s && %s", simple, r.selector())
	case 1:
		return fmt.Sprintf("%s || %s", simple, r.selector())
	case 2:
		return fmt.Sprintf("!(%s)", r.selector())
	case 3:
		return pick(r, "pcns.env == 'prod'", "has(pcsa.trust)", "projectcalico.org/namespace == 'n1'", "projectcalico.org/orchestrator == 'k8s'")
	}
	return simple
}

// ofNamespaces is a selector of namespaces.
func (r *Scene) ofNamespaces() string {
	return pick(r, "env == 'prod'", "env != 'prod'", "has(env)", "all()", "kubernetes.io/metadata.name == 'n1'",
		"projectcalico.org/name in {'n2', 'n3'}", "global()", "!has(env)")
}

// world gives all objects but the pods of this node.
func (r *Scene) world() []api.Object {
	var objs []api.Object
	add := func(least, most int, make func() api.Object) {
		for range least + r.IntN(most-least+1) {
			obj := r.valid(make)
			if !slices.ContainsFunc(objs, func(have api.Object) bool { return have.Key() == obj.Key() }) {
				objs = append(objs, obj)
			}
		}
	}
	add(1, 1, r.felix)
	add(1, 3, r.tier)
	add(0, 3, r.profile)
	add(0, 2, r.account)
	add(0, 3, r.networkSet)
	add(0, 3, r.globalNetworkSet)
	add(0, 5, r.stranger)
	add(1, 5, r.networkPolicy)
	add(1, 5, r.globalPolicy)
	add(0, 2, r.stagedPolicy)
	add(0, 2, r.stagedGlobalPolicy)
	add(0, 3, r.hostEndpoint)
	add(0, 5, r.slice)
	add(0, 5, r.kubernetesPolicy)
	add(0, 3, r.clusterPolicy)
	return objs
}
