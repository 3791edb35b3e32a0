// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/compile"
	"korat/policy/policytest"
	"korat/policy/selector"
)

const orderManifests = `
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: n1-k8s-web-eth0, namespace: a, labels: {app: web}}
spec: {node: n1, pod: web, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.0.0.1/32]}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: n2-k8s-client-eth0, namespace: a, labels: {app: client}}
spec: {node: n2, pod: client, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.0.0.2/32]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web}
spec:
  selector: app == 'web'
  ingress:
  - {action: Deny, source: {selector: has(denied)}}
  - {action: Deny, source: {notSelector: has(known)}}
  - {action: Allow, source: {selector: app == 'client'}}
  - {action: Allow, source: {selector: has(friend)}}
  - {action: Allow, source: {notSelector: has(stranger)}}
  - {action: Pass, source: {selector: has(passed)}}
`

// TestOrder has orders of sets for changes of one thing or two.
func TestOrder(t *testing.T) {
	labels := func(text string) map[string]string {
		all := map[string]string{}
		for _, word := range strings.Fields(text) {
			key, value, _ := strings.Cut(word, "=")
			all[key] = value
		}
		return all
	}
	item := func(text string) policy.Item {
		return policy.Item{Labels: labels(text), Prefixes: prefixes("10.0.0.9/32")}
	}
	names := setNames(t)
	const id, client = "somebody", "WorkloadEndpoint/a/n2-k8s-client-eth0"
	for name, tc := range map[string]struct {
		before, change func(*compile.Compiler)
		want           string
	}{
		"allowed when it comes": {
			nil, func(c *compile.Compiler) { c.SetPeer(id, item("app=client friend")) },
			"app == \"client\": added first, has(friend): added first",
		},
		"denied by what it comes with": {
			nil, func(c *compile.Compiler) { c.SetPeer(id, item("denied stranger")) },
			"has(denied): added first, has(stranger): added first",
		},
		"allowed and denied": {
			nil, func(c *compile.Compiler) { c.SetPeer(id, item("denied friend")) },
			"has(denied): at once, has(friend): at once",
		},
		"passed, whatever that means": {
			nil, func(c *compile.Compiler) { c.SetPeer(id, item("passed")) }, "has(passed): at once",
		},
		"no longer allowed": {
			func(c *compile.Compiler) { c.SetPeer(id, item("friend app=client")) },
			func(c *compile.Compiler) { c.SetPeer(id, item("")) },
			"app == \"client\": added first, has(friend): added first",
		},
		"allowed by another label": {
			func(c *compile.Compiler) { c.SetPeer(id, item("friend")) },
			func(c *compile.Compiler) { c.SetPeer(id, item("app=client")) },
			"app == \"client\": at once, has(friend): at once",
		},
		"one comes and another goes": {
			nil,
			func(c *compile.Compiler) { c.SetPeer(id, item("friend")); c.DeletePeer(client) },
			"app == \"client\": added first, has(friend): added first",
		},
		"one comes where another was": {
			func(c *compile.Compiler) { c.SetPeer(id, item("friend")) },
			func(c *compile.Compiler) { c.DeletePeer(id); c.SetPeer("other", item("app=client")) },
			"app == \"client\": at once, has(friend): at once",
		},
		"one comes where another's network was": {
			func(c *compile.Compiler) {
				c.SetPeer("network", policy.Item{Labels: labels("known"), Prefixes: prefixes("10.0.0.0/24")})
			},
			func(c *compile.Compiler) { c.DeletePeer("network"); c.SetPeer(id, item("friend")) },
			"has(friend): at once, has(known): at once",
		},
		"a network comes where another was": {
			func(c *compile.Compiler) { c.SetPeer(id, item("friend")) },
			func(c *compile.Compiler) {
				c.DeletePeer(id)
				c.SetPeer("network", policy.Item{Labels: labels("known"), Prefixes: prefixes("10.0.0.0/24")})
			},
			"has(friend): at once, has(known): at once",
		},
		"a network comes beside another": {
			func(c *compile.Compiler) {
				c.SetPeer("network", policy.Item{Labels: labels("known"), Prefixes: prefixes("10.0.1.0/24")})
			},
			func(c *compile.Compiler) { c.DeletePeer("network"); c.SetPeer(id, item("friend")) },
			"has(friend): added first, has(known): added first",
		},
		"allowed, with rules that become others": {
			func(c *compile.Compiler) { c.SetPeer(id, item("")) },
			func(c *compile.Compiler) {
				c.SetPeer(id, item("friend"))
				c.SetLocal("WorkloadEndpoint/a/n1-k8s-web-eth0", compile.Local{Interface: "cali1", Labels: labels("app=other")})
				c.SetLocal("second", compile.Local{Interface: "cali2", Labels: labels("app=web")})
			},
			"has(friend): at once",
		},
		"too many to be copied": {
			func(c *compile.Compiler) {
				it := policy.Item{Labels: labels("friend")}
				for i := range policy.MaxCopied {
					it.Prefixes = append(it.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 32))
				}
				c.SetPeer("crowd", it)
			},
			func(c *compile.Compiler) { c.SetPeer(id, item("friend denied passed")) },
			"has(denied): added first, has(friend): removed first, has(passed): at once",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := compile.New(compile.Options{Families: []api.Family{api.IPv4}})
			policytest.Feed(t, c, policytest.Objects(t, []byte(orderManifests)))
			c.SetLocal("second", compile.Local{Interface: "cali2", Labels: labels("app=web")})
			if tc.before != nil {
				tc.before(c)
			}
			c.Update()
			tc.change(c)
			var have []string
			for key, change := range c.Update().Sets {
				if !change.New && !change.Gone {
					order := map[policy.SetOrder]string{policy.AddedFirst: "added first", policy.RemovedFirst: "removed first", policy.AtOnce: "at once"}
					have = append(have, fmt.Sprintf("%s: %s", names[key.Name], order[change.Order]))
				}
			}
			slices.Sort(have)
			if text := strings.Join(have, ", "); text != tc.want {
				t.Errorf("have %s\nwant %s", text, tc.want)
			}
		})
	}
}

// setNames gives the selectors of sets by their names.
func setNames(t *testing.T) map[string]string {
	names := map[string]string{}
	for _, text := range []string{"app == \"client\"", "has(denied)", "has(known)", "has(friend)", "has(stranger)", "has(passed)"} {
		c := compile.New(compile.Options{Families: []api.Family{api.IPv4}})
		c.SetLocal("web", compile.Local{Interface: "cali1"})
		sel := must(selector.Parse(text))
		c.SetPolicy(&policy.Policy{
			ID: policy.ID{Kind: policy.KindGlobal, Name: "p"}, Tier: policy.TierDefault, AppliesIngress: true,
			Ingress: []policy.Rule{{Action: api.Allow, Source: policy.Entity{Selector: &sel}}},
		})
		c.Update()
		for key := range c.Sets() {
			names[key.Name] = text
		}
	}
	return names
}
