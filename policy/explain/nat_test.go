// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/policy"
)

// What leaves all pools comes by the address of its node, once the policies of that node have seen it; what stays in them does not.
func TestNATOutgoing(t *testing.T) {
	web := podOf("web", "a", "10.0.0.1")
	uplink := Endpoint{Name: "b-eth0", Host: true, Node: "b", Interface: "eth0", Item: policy.Item{Labels: map[string]string{"host": "b"}}}
	onHosts := func(net string) *policy.Policy {
		p := hostPolicy("p", policy.Normal, policy.Rule{Action: api.Allow, Source: policy.Entity{Nets: prefixes(net)}})
		p.Selector = sel(t, "has(host)")
		return p
	}
	node := func(text string) End { return End{Node: "b", Address: netip.MustParseAddr(text)} }
	nodes := []Node{{"a", []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, {"b", []netip.Addr{netip.MustParseAddr("192.0.2.2")}}}
	pods := func(nat bool, cidrs ...string) (all []policy.Pool) {
		for _, p := range prefixes(cidrs...) {
			all = append(all, policy.Pool{Prefix: p, NATOutgoing: nat})
		}
		return all
	}
	const leaves = "Egress of shop/web allowed: kns.shop\n"
	const guess = "note: the flow is taken to go by host endpoint b-eth0 of node b"
	const as = "note: node a gives it its own address, taken to be 192.0.2.1: the pool 10.0.0.0/16 has natOutgoing\n"
	for name, c := range map[string]struct {
		to    End
		from  string
		nodes []Node
		pools []policy.Pool
		want  string
	}{
		"the node's address":         {node("192.0.2.2"), "192.0.2.1/32", nodes, pods(true, "10.0.0.0/16"), leaves + "Ingress of host endpoint b-eth0 allowed: gnp/p\n" + as + guess},
		"the pod's does not count":   {node("192.0.2.2"), "10.0.0.0/16", nodes, pods(true, "10.0.0.0/16"), leaves + "Ingress of host endpoint b-eth0 denied: no rule of tier default matches\n" + as + guess},
		"without NAT it does":        {node("192.0.2.2"), "10.0.0.0/16", nodes, pods(false, "10.0.0.0/16"), leaves + "Ingress of host endpoint b-eth0 allowed: gnp/p\n" + guess},
		"to another pool":            {node("192.0.2.2"), "10.0.0.0/16", nodes, append(pods(true, "10.0.0.0/16"), pods(false, "192.0.2.0/24")...), leaves + "Ingress of host endpoint b-eth0 allowed: gnp/p\n" + guess},
		"outside":                    {at4("8.8.8.8"), "10.0.0.0/16", nodes, pods(true, "10.0.0.0/16"), leaves + "note: node a gives it its own address, taken to be 192.0.2.1: the pool 10.0.0.0/16 has natOutgoing"},
		"a node without an address":  {at4("8.8.8.8"), "10.0.0.0/16", nodes[1:], pods(true, "10.0.0.0/16"), leaves + "note: node a gives it an address of its own, which is not known: the pool 10.0.0.0/16 has natOutgoing"},
		"its own node is not left":   {End{Node: "a", Address: netip.MustParseAddr("192.0.2.1")}, "10.0.0.0/16", nodes, pods(true, "10.0.0.0/16"), leaves + "note: what policies allow a pod to send to its own node, the node's own firewall decides (defaultEndpointToHostAction: Return)"},
		"a pool of the other family": {at4("8.8.8.8"), "10.0.0.0/16", nodes, pods(true, "fd00::/64"), leaves[:len(leaves)-1]},
	} {
		t.Run(name, func(t *testing.T) {
			w := New(Parts{
				Endpoints: []Endpoint{web, uplink}, Nodes: c.nodes, Settings: Settings{Pools: c.pools},
				Policies: []*policy.Policy{onHosts(c.from)},
			})
			got := w.Explain(Flow{From: web.end(), To: c.to, Protocol: policy.TCP, DestinationPort: 80})
			if diff := cmp.Diff(c.want, brief(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
