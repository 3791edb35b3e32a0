// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"korat/api"
	"korat/felix/calc"
	"korat/felix/dataplane"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/render"
)

// computed gives what a Filter makes of a Snapshot that it is told of object by object, in the order of the keys, with
// an Update after each so many.
func computed(snap api.Snapshot, keys []api.Key, every int) dataplane.Filter {
	f := calc.NewFilter(thisNode)
	f.Families(api.Families())
	var own []*api.WorkloadEndpoint
	for _, w := range snap.WorkloadEndpoints.All() {
		if w.Spec.Node == thisNode {
			own = append(own, w)
		}
	}
	f.Own(snap, own)
	for i, key := range keys {
		f.Changed(snap, map[api.Key]struct{}{key: {}})
		if i%every == every-1 {
			f.Update()
		}
	}
	return f.Update()
}

// keysOf gives the keys of all that policies depend on.
func keysOf(snap api.Snapshot) []api.Key {
	var keys []api.Key
	for _, kind := range api.Kinds() {
		for obj := range snap.Objects(kind) {
			if calc.Heeds(kind) {
				keys = append(keys, obj.Key())
			}
		}
	}
	return keys
}

// text writes chains as iptables would be told of them, and sets.
func text(f dataplane.Filter) string {
	var b strings.Builder
	for _, key := range slices.SortedFunc(maps.Keys(f.Chains), chain.Key.Compare) {
		fmt.Fprintf(&b, "%s\n", key)
		for _, r := range slices.Concat(f.Chains[key].Rules, f.Chains[key].Last) {
			rule, err := render.Rule(r, key.Family)
			fmt.Fprintf(&b, "  %s\n", rule)
			if err != nil {
				fmt.Fprintf(&b, "  %v\n", err)
			}
		}
	}
	for _, key := range slices.SortedFunc(f.Sets.Sets(), func(a, b policy.SetKey) int { return strings.Compare(a.Name, b.Name) }) {
		fmt.Fprintf(&b, "%s %v\n", key.Name, slices.Collect(f.Sets.Members(key)))
	}
	return b.String()
}
