// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
)

// Node is the node that Compilers are for.
const Node = "n1"

// Objects decodes manifests, all of which must be valid.
func Objects(tb testing.TB, manifests []byte) []api.Object {
	tb.Helper()
	objs, err := api.Decode(manifests)
	if err != nil {
		tb.Fatal(err)
	}
	for _, obj := range objs {
		api.Default(obj)
		if err := api.Validate(obj); err != nil {
			tb.Fatal(err)
		}
	}
	return objs
}

// Feed tells a Compiler of objects, as the agent of Node does.
func Feed(tb testing.TB, c *compile.Compiler, objs []api.Object) {
	tb.Helper()
	services := map[policy.Service][]policy.Member{}
	for _, obj := range objs {
		var err error
		switch o := obj.(type) {
		case *api.Tier:
			c.SetTier(policy.TierOf(o))
		case *api.Profile:
			var p *policy.Profile
			p, err = policy.ProfileOf(o)
			c.SetProfile(p)
		case *api.WorkloadEndpoint, *api.HostEndpoint, *api.NetworkSet, *api.GlobalNetworkSet:
			err = feedItem(c, o)
		case *api.EndpointSlice:
			s, _ := policy.ServiceOf(o)
			var behind []policy.Member
			behind, err = policy.Behind(o)
			services[s] = append(services[s], behind...)
			c.SetService(s, services[s])
		default:
			var p *policy.Policy
			if p, err = policy.Of(o); p != nil { // a staged one may be ignored
				c.SetPolicy(p)
			}
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// feedItem tells of something that rules can pick, with the profiles that it has without their being there.
func feedItem(c *compile.Compiler, obj api.Object) error {
	it, err := policy.ItemOf(obj)
	id := obj.Key().String()
	c.SetPeer(id, it)
	for _, name := range it.Parents {
		if implied := policy.Implied(name); implied != nil && !c.HasProfile(name) {
			c.SetProfile(implied)
		}
	}
	l := compile.Local{Labels: it.Labels, Parents: it.Parents}
	node := ""
	switch o := obj.(type) {
	case *api.WorkloadEndpoint:
		l.Interface, l.Profiles, node = o.Spec.InterfaceName, policy.Profiles(o), o.Spec.Node
	case *api.HostEndpoint:
		l.Interface, l.Host, l.Profiles, node = o.Spec.InterfaceName, true, o.Spec.Profiles, o.Spec.Node
	}
	if node == Node {
		c.SetLocal(id, l)
	}
	return err
}

// Chains writes the chains whose names pass, in order.
func Chains(chains map[chain.Key]*chain.Chain, pass func(chain.Key) bool) string {
	var b strings.Builder
	for _, key := range slices.SortedFunc(maps.Keys(chains), chain.Key.Compare) {
		if !pass(key) {
			continue
		}
		fmt.Fprintf(&b, "%s\n", key)
		for _, r := range chains[key].Rules {
			fmt.Fprintf(&b, "\t%s\n", r)
		}
		for _, r := range chains[key].Last {
			fmt.Fprintf(&b, "\t… %s\n", r)
		}
	}
	return b.String()
}

// Sets writes the sets, in order.
func Sets(c *compile.Compiler) string {
	var b strings.Builder
	for _, key := range slices.SortedFunc(c.Sets(), func(a, b policy.SetKey) int { return strings.Compare(a.Name, b.Name) }) {
		fmt.Fprintf(&b, "%s %s\n", key.Name, map[policy.SetKind]string{
			policy.Prefixes: "prefixes", policy.AddressPorts: "addresses with ports", policy.PortNumbers: "ports",
		}[key.Kind])
		for m := range c.Members(key) {
			fmt.Fprintf(&b, "\t%s\n", m)
		}
	}
	return b.String()
}

// Every lets all chains pass.
func Every(chain.Key) bool { return true }
