// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
)

// feed tells a Compiler of objects; the endpoints of node n1 are the local ones.
func feed(c *compile.Compiler, objs []api.Object) {
	named := map[string]bool{}
	for _, obj := range objs {
		switch o := obj.(type) {
		case *api.Tier:
			c.SetTier(policy.TierOf(o))
		case *api.Profile:
			named[o.Name] = true
			c.SetProfile(must(policy.ProfileOf(o)))
		case *api.WorkloadEndpoint, *api.HostEndpoint, *api.NetworkSet, *api.GlobalNetworkSet:
			it := must(policy.ItemOf(o))
			id := o.Key().String()
			c.SetPeer(id, it)
			local(c, id, o, it)
			for _, name := range it.Parents {
				if implied := policy.Implied(name); implied != nil && !named[name] {
					named[name] = true
					c.SetProfile(implied)
				}
			}
		default:
			if p := must(policy.Of(o)); p != nil { // a staged one may be ignored
				c.SetPolicy(p)
			}
		}
	}
}

func local(c *compile.Compiler, id string, obj api.Object, it policy.Item) {
	l := compile.Local{Labels: it.Labels, Parents: it.Parents}
	switch o := obj.(type) {
	case *api.WorkloadEndpoint:
		if l.Interface, l.Profiles = o.Spec.InterfaceName, policy.Profiles(o); o.Spec.Node != "n1" {
			return
		}
	case *api.HostEndpoint:
		if l.Interface, l.Host, l.Profiles = o.Spec.InterfaceName, true, o.Spec.Profiles; o.Spec.Node != "n1" {
			return
		}
	default:
		return
	}
	c.SetLocal(id, l)
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range texts {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// must takes no error.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// objects decodes manifests.
func objects(t *testing.T, manifests []byte) []api.Object {
	objs, err := api.Decode(manifests)
	if err != nil {
		t.Fatal(err)
	}
	for _, obj := range objs {
		api.Default(obj)
		if err := api.Validate(obj); err != nil {
			t.Fatal(err)
		}
	}
	return objs
}

// text writes the chains whose names pass, in order.
func text(chains map[chain.Key]*chain.Chain, pass func(chain.Key) bool) string {
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

// setText writes the sets, in order.
func setText(c *compile.Compiler) string {
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

// dump writes everything.
func dump(c *compile.Compiler) string {
	return text(c.Chains(), func(chain.Key) bool { return true }) + setText(c)
}
