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
	"korat/policy/selector"
)

// cluster is a node with n endpoints, and p policies of which each selects one of g groups of them.
type cluster struct{ n, p, g int }

func (b cluster) String() string { return fmt.Sprintf("%dx%d", b.n, b.p) }

func clusters() []cluster {
	return []cluster{{100, 100, 10}, {500, 500, 50}, {1000, 5000, 100}}
}

// endpoint gives endpoint i, as rules and as policies see it.
func (b cluster) endpoint(i int) (string, policy.Item, compile.Local) {
	it := policy.Item{
		Labels:   map[string]string{"app": fmt.Sprint("a", i%b.g), "role": fmt.Sprint("r", i%7)},
		Parents:  []string{"kns.default"},
		Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 65, byte(i >> 8), byte(i)}), 32)},
	}
	return fmt.Sprint("endpoint", i), it, compile.Local{
		Interface: fmt.Sprintf("cali%05d", i), Labels: it.Labels, Parents: it.Parents, Profiles: it.Parents,
	}
}

// policy gives policy j; another variant has another port.
func (b cluster) policy(j, variant int) *policy.Policy {
	p := &policy.Policy{
		ID: policy.ID{Kind: policy.KindGlobal, Name: fmt.Sprint("policy-", j)}, Tier: policy.TierDefault, Order: float64(100 + j),
		Selector: must(selector.Parse(fmt.Sprintf("app == 'a%d'", j%b.g))), AppliesIngress: true, AppliesEgress: true,
		Egress: []policy.Rule{{Action: api.Allow}},
	}
	for k := range 4 {
		role := must(selector.Parse(fmt.Sprintf("role == 'r%d'", (j+k)%7)))
		p.Ingress = append(p.Ingress, policy.Rule{
			Action: api.Allow, Protocol: policy.TCP, Source: policy.Entity{Selector: &role},
			Destination: policy.Entity{Ports: []policy.PortRange{
				{First: uint16(8000 + j + variant), Last: uint16(8000 + j + variant)}, {First: 9000, Last: uint16(9000 + k + 10)},
			}},
		})
	}
	p.Ingress = append(p.Ingress, policy.Rule{
		Action: api.Allow, Protocol: policy.UDP, Source: policy.Entity{Nets: prefixes("192.0.2.0/24", fmt.Sprintf("198.51.100.%d/32", j%250))},
		Destination: policy.Entity{Ports: []policy.PortRange{{First: 53, Last: 53}}},
	})
	return p
}

func (b cluster) add(c *compile.Compiler, i int) {
	id, it, l := b.endpoint(i)
	c.SetPeer(id, it)
	c.SetLocal(id, l)
}

func (b cluster) compiler() *compile.Compiler {
	c := compile.New(compile.Options{Families: []api.Family{api.IPv4}})
	c.SetProfile(policy.ImpliedProfile("default"))
	for j := range b.p {
		c.SetPolicy(b.policy(j, 0))
	}
	for i := range b.n {
		b.add(c, i)
	}
	c.Update()
	return c
}

// TestSize holds how many rules, chains and sets the benchmark's inputs come to. Felix makes 4,017 rules in 465 chains
// of the first; this must be at most six tenths of that.
func TestSize(t *testing.T) {
	var have []string
	for _, b := range clusters() {
		c := b.compiler()
		have = append(have, b.String()+": "+size(c))
	}
	want := []string{
		"100x100: 1036 rules, 7 sets: filter 1032 rules in 144 chains, raw 4 rules in 3 chains",
		"500x500: 5066 rules, 7 sets: filter 5062 rules in 674 chains, raw 4 rules in 3 chains",
		"1000x5000: 38896 rules, 7 sets: filter 38892 rules in 5334 chains, raw 4 rules in 3 chains",
	}
	if !slices.Equal(want, have) {
		t.Errorf("have:\n%s\nwant:\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
}

func size(c *compile.Compiler) string {
	chains, rules, total := map[chain.Table]int{}, map[chain.Table]int{}, 0
	for key, ch := range c.Chains() {
		chains[key.Table]++
		rules[key.Table] += len(ch.Rules) + len(ch.Last)
		total += len(ch.Rules) + len(ch.Last)
	}
	var parts []string
	for _, table := range slices.Sorted(maps.Keys(chains)) {
		parts = append(parts, fmt.Sprintf("%s %d rules in %d chains", table, rules[table], chains[table]))
	}
	return fmt.Sprintf("%d rules, %d sets: %s", total, len(slices.Collect(c.Sets())), strings.Join(parts, ", "))
}

func BenchmarkFirst(b *testing.B) {
	for _, in := range clusters() {
		b.Run(in.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				in.compiler()
			}
		})
	}
}

// BenchmarkEndpoint adds an endpoint, and removes it.
func BenchmarkEndpoint(b *testing.B) {
	for _, in := range clusters() {
		b.Run(in.String(), func(b *testing.B) {
			c := in.compiler()
			id, _, _ := in.endpoint(in.n)
			b.ReportAllocs()
			for b.Loop() {
				in.add(c, in.n)
				if c.Update().Empty() {
					b.Fatal("no change")
				}
				c.DeleteLocal(id)
				c.DeletePeer(id)
				c.Update()
			}
		})
	}
}

func BenchmarkPolicy(b *testing.B) {
	for _, in := range clusters() {
		b.Run(in.String(), func(b *testing.B) {
			c := in.compiler()
			b.ReportAllocs()
			for i := 1; b.Loop(); i++ {
				c.SetPolicy(in.policy(7, i%2))
				if c.Update().Empty() {
					b.Fatal("no change")
				}
			}
		})
	}
}

// BenchmarkPolicyForAll adds a policy that selects every endpoint, and removes it: each gets another chain.
func BenchmarkPolicyForAll(b *testing.B) {
	for _, in := range clusters() {
		b.Run(in.String(), func(b *testing.B) {
			c := in.compiler()
			p := in.policy(in.p, 0)
			p.Selector = selector.Selector{}
			b.ReportAllocs()
			for b.Loop() {
				c.SetPolicy(p)
				c.Update()
				c.DeletePolicy(p.ID)
				c.Update()
			}
		})
	}
}
