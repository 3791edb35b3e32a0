// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"korat/api"
	"korat/felix/calc"
	"korat/felix/dataplane"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/render"
)

// compilation is a Filter that is told of Snapshots object by object, as the agent's is.
type compilation struct {
	filter *calc.Filter
	// known are the keys of what it was told of last.
	known []api.Key
	// interfaces are those that have had link groups.
	interfaces map[string]bool
}

func newCompilation() *compilation {
	c := &compilation{filter: calc.NewFilter(thisNode), interfaces: map[string]bool{}}
	c.filter.Groups(true)
	c.filter.Families(api.Families())
	c.filter.Host(dataplane.Host{Links: map[string]dataplane.HostLink{uplink: {Addresses: []netip.Prefix{
		netip.MustParsePrefix(hostIPv4 + "/24"), netip.MustParsePrefix(hostIPv6 + "/64"),
	}}}}, 1)
	return c
}

// of gives what it makes of a Snapshot of which it is told in the order of the keys, with an Update after each so many.
func (c *compilation) of(snap api.Snapshot, keys []api.Key, every int) dataplane.Filter {
	var own []*api.WorkloadEndpoint
	for _, w := range snap.WorkloadEndpoints.All() {
		if w.Spec.Node == thisNode {
			own = append(own, w)
			c.interfaces[w.Spec.InterfaceName] = true
		}
	}
	c.filter.Own(snap, own)
	for i, key := range slices.Concat(c.known, keys) { // some of the known are gone
		c.filter.Changed(snap, map[api.Key]struct{}{key: {}})
		if i%every == every-1 {
			c.filter.Update()
			c.regroup(i / every % 2)
		}
	}
	c.known = slices.Clone(keys)
	c.filter.Update()
	c.regroup(0)
	c.regroup(1)
	return c.filter.Update()
}

// regroup gives every other interface the link group that it is to have, as an agent does sooner or later.
func (c *compilation) regroup(which int) {
	for i, name := range slices.Sorted(maps.Keys(c.interfaces)) {
		if i%2 == which {
			c.filter.SetGroup(name, c.filter.Group(name))
		}
	}
}

// computed gives what a new one makes of a Snapshot.
func computed(snap api.Snapshot, keys []api.Key, every int) dataplane.Filter {
	return newCompilation().of(snap, keys, every)
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
