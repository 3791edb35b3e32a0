// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/felix/dataplane"
	"korat/policy/chain"
)

// told is a Filter of node a, with the Snapshot that it has been told of.
type told struct {
	*testing.T
	*Filter
	snap       api.Snapshot
	generation uint64
	filter     dataplane.Filter
}

func newTold(t *testing.T, manifests string) *told {
	w := &told{T: t, Filter: NewFilter("a")}
	w.apply(manifests)
	return w
}

func (w *told) apply(manifests string) {
	w.Helper()
	objs, err := api.Decode([]byte(manifests))
	if err != nil {
		w.Fatal(err)
	}
	for _, obj := range objs {
		api.Default(obj)
		if err := api.Validate(obj); err != nil {
			w.Fatal(err)
		}
		w.snap = w.snap.With(obj)
		w.Changed(w.snap, map[api.Key]struct{}{obj.Key(): {}})
	}
}

func (w *told) remove(key api.Key) {
	w.snap = w.snap.Without(key)
	w.Changed(w.snap, map[api.Key]struct{}{key: {}})
}

// links gives the host its interfaces: "eth0 192.0.2.1 2001:db8::1, eth1".
func (w *told) links(text string) {
	host := dataplane.Host{Links: map[string]dataplane.HostLink{}}
	for _, link := range strings.Split(text, ",") {
		words := strings.Fields(link)
		var l dataplane.HostLink
		for _, addr := range words[1:] {
			l.Addresses = append(l.Addresses, netip.MustParsePrefix(addr+"/24"))
		}
		host.Links[words[0]] = l
	}
	w.generation++
	w.Host(host, w.generation)
}

// chain gives the rules of a chain of IPv4, as of now, with "chain of n rules" for a name that is a hash.
func (w *told) chain(table chain.Table, name string) string {
	w.filter = w.Update()
	c := w.filter.Chains[chain.Key{Family: api.IPv4, Table: table, Name: name}]
	if c == nil {
		return ""
	}
	var lines []string
	for _, r := range c.Rules {
		lines = append(lines, r.String())
	}
	return strings.Join(lines, "\n")
}

// policed gives the interfaces that have host endpoints, with the policies that are led to.
func (w *told) policed() string {
	var all []string
	for line := range strings.Lines(w.chain(chain.Filter, "cali-from-host-endpoint")) {
		condition, target, leads := strings.Cut(strings.TrimSpace(line), "→ goto ")
		if !leads {
			continue
		}
		var to []string
		for _, r := range w.filter.Chains[chain.Key{Family: api.IPv4, Table: chain.Filter, Name: target}].Rules {
			if name, is := strings.CutPrefix(r.Action.Chain(), "cali-p"); is {
				to = append(to, "p"+name)
			}
		}
		if condition = strings.TrimSpace(strings.TrimPrefix(condition, "in ")); condition == "" {
			condition = "*"
		}
		all = append(all, condition+": "+strings.Join(to, " "))
	}
	return strings.Join(append(all, w.Problems()...), "\n")
}

const hostPolicies = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: up}
spec: {selector: up == 'yes', ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: other}
spec: {selector: has(other), ingress: [{action: Allow, protocol: TCP, destination: {ports: [81]}}]}
`

func hostEndpointText(name, spec string, labels string) string {
	return "\n---\napiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: " + name + ", labels: {" + labels + "}}\nspec: {" + spec + "}\n"
}

func TestHostEndpoints(t *testing.T) {
	const up, other = "up: 'yes'", "other: 'yes'"
	tests := map[string]struct{ endpoints, links, want string }{
		"none": {"", "eth0 192.0.2.1", ""},
		"named, and one for all": {
			hostEndpointText("e", "node: a, interfaceName: eth0", up) + hostEndpointText("all", "node: a, interfaceName: '*'", other),
			"eth0 192.0.2.1", "eth0: pi-gnp/up\n*: pi-gnp/other",
		},
		"of another node":                 {hostEndpointText("e", "node: b, interfaceName: eth0", up), "eth0 192.0.2.1", ""},
		"an interface that is not there":  {hostEndpointText("e", "node: a, interfaceName: eth7", up), "eth0 192.0.2.1", "eth7: pi-gnp/up"},
		"expectedIPs say nothing of it":   {hostEndpointText("e", "node: a, interfaceName: eth1, expectedIPs: [192.0.2.1]", up), "eth0 192.0.2.1", "eth1: pi-gnp/up"},
		"by address":                      {hostEndpointText("e", "node: a, expectedIPs: [198.51.100.1, 192.0.2.1]", up), "eth0 192.0.2.1, eth1 203.0.113.1", "eth0: pi-gnp/up"},
		"by an address of IPv6":           {hostEndpointText("e", "node: a, expectedIPs: ['2001:db8::1']", up), "eth0 192.0.2.1, eth1 203.0.113.1 2001:db8::1", "eth1: pi-gnp/up"},
		"several by their addresses":      {hostEndpointText("e", "node: a, expectedIPs: [192.0.2.1, 203.0.113.1]", up), "eth0 192.0.2.1, eth1 203.0.113.1", "eth0: pi-gnp/up\neth1: pi-gnp/up"},
		"by the address of several":       {hostEndpointText("e", "node: a, expectedIPs: [192.0.2.1]", up), "eth0 192.0.2.1, eth1 192.0.2.1", "eth0: pi-gnp/up\neth1: pi-gnp/up"},
		"not the loopback, nor a pod's":   {hostEndpointText("e", "node: a, expectedIPs: [192.0.2.1]", up), "lo 192.0.2.1, cali1 192.0.2.1, eth0 192.0.2.1", "eth0: pi-gnp/up"},
		"another address of the same net": {hostEndpointText("e", "node: a, expectedIPs: [192.0.2.2]", up), "eth0 192.0.2.1", "policy: HostEndpoint/e: no interface of this node has one of its expectedIPs: it is not in force"},
		"who names it comes first": {
			hostEndpointText("a", "node: a, expectedIPs: [192.0.2.1]", other) + hostEndpointText("b", "node: a, interfaceName: eth0", up), "eth0 192.0.2.1",
			"eth0: pi-gnp/up\npolicy: HostEndpoint/a: interface eth0 is that of HostEndpoint/b already, which is the one that counts: remove one of them",
		},
		"then the first": {
			hostEndpointText("b", "node: a, interfaceName: eth0", other) + hostEndpointText("a", "node: a, interfaceName: eth0", up), "eth0 192.0.2.1",
			"eth0: pi-gnp/up\npolicy: HostEndpoint/b: interface eth0 is that of HostEndpoint/a already, which is the one that counts: remove one of them",
		},
		"without policies everything is closed": {hostEndpointText("e", "node: a, interfaceName: eth0", ""), "eth0 192.0.2.1", "eth0: "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newTold(t, hostPolicies+tt.endpoints)
			w.links(tt.links)
			if have := w.policed(); have != tt.want {
				t.Errorf("have:\n%s\nwant:\n%s", have, tt.want)
			}
		})
	}
}

// The interface follows the address, and labels what people say. In the end there is nothing left of it.
func TestHostEndpointMoves(t *testing.T) {
	w := newTold(t, hostPolicies)
	w.links("eth0 192.0.2.1, eth1 203.0.113.1")
	w.Update()
	empty := len(w.Update().Chains)
	w.apply(hostEndpointText("e", "node: a, expectedIPs: [192.0.2.1]", "up: 'yes'"))
	want := func(text string) {
		t.Helper()
		if have := w.policed(); have != text {
			t.Errorf("have:\n%s\nwant:\n%s", have, text)
		}
	}
	want("eth0: pi-gnp/up")
	w.links("eth0, eth1 192.0.2.1")
	want("eth1: pi-gnp/up")
	w.links("eth0, eth1")
	want("policy: HostEndpoint/e: no interface of this node has one of its expectedIPs: it is not in force")
	w.links("eth0 192.0.2.1, eth1")
	w.apply(hostEndpointText("e", "node: a, expectedIPs: [192.0.2.1]", "other: 'yes'"))
	want("eth0: pi-gnp/other")
	w.apply(hostEndpointText("e", "node: b, expectedIPs: [192.0.2.1]", "other: 'yes'"))
	want("")
	w.apply(hostEndpointText("e", "node: a, interfaceName: '*'", "other: 'yes'"))
	want("*: pi-gnp/other")
	w.remove(api.Key{Kind: api.KindHostEndpoint, Name: "e"})
	want("")
	if now := len(w.filter.Chains); now != empty || len(w.Problems()) > 0 {
		t.Errorf("%d chains, want %d; problems: %v", now, empty, w.Problems())
	}
}

// Calico's profile for host endpoints is there without an object, and another one with an object.
func TestHostEndpointProfile(t *testing.T) {
	w := newTold(t, hostEndpointText("e", "node: a, interfaceName: eth0, profiles: [projectcalico-default-allow]", ""))
	ends := func() string {
		to, _ := strings.CutPrefix(w.chain(chain.Filter, "cali-from-host-endpoint"), "in eth0 → goto ")
		rules := strings.Split(w.chain(chain.Filter, to), "\n")
		return rules[len(rules)-1]
	}
	if have := ends(); !strings.HasSuffix(have, "→ ACCEPT") {
		t.Errorf("without an object: %s", have)
	}
	w.apply("apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: projectcalico-default-allow}\nspec: {}\n")
	if have := ends(); !strings.HasSuffix(have, "→ DROP") {
		t.Errorf("with an object that allows nothing: %s", have)
	}
	w.remove(api.Key{Kind: api.KindProfile, Name: "projectcalico-default-allow"})
	if have := ends(); !strings.HasSuffix(have, "→ ACCEPT") {
		t.Errorf("without the object again: %s", have)
	}
}

// Host endpoints of all nodes are something that rules can pick.
func TestHostEndpointsArePeers(t *testing.T) {
	w := newTold(t, hostPolicies+hostEndpointText("mine", "node: a, interfaceName: eth0", "up: 'yes'")+
		hostEndpointText("theirs", "node: b, interfaceName: eth0, expectedIPs: [192.0.2.2]", "role: client")+`
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: from-clients}
spec: {selector: up == 'yes', ingress: [{action: Allow, source: {selector: role == 'client'}}]}
`)
	w.Update()
	f := w.Update()
	var all []string
	for key := range f.Sets.Sets() {
		for m := range f.Sets.Members(key) {
			all = append(all, m.String())
		}
	}
	if !slices.Equal(all, []string{"192.0.2.2/32"}) {
		t.Errorf("members: %v", all)
	}
}

// The kernel's log has FelixConfiguration's prefix.
func TestLogPrefix(t *testing.T) {
	w := newTold(t, hostEndpointText("mine", "node: a, interfaceName: eth0", "up: 'yes'")+`
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: up}
spec: {selector: up == 'yes', ingress: [{action: Log}]}
`)
	want := func(prefix string) {
		t.Helper()
		if have := w.chain(chain.Filter, "cali-pi-gnp/up"); !strings.HasSuffix(have, `"`+prefix+`: "`) {
			t.Errorf("have %s, want %s", have, prefix)
		}
	}
	want("calico-packet")
	w.apply("apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: {logPrefix: firewall}\n")
	want("firewall")
	w.remove(api.Key{Kind: api.KindFelixConfiguration, Name: "default"})
	want("calico-packet")
}

// What is for services and nobody's is dropped as FelixConfiguration says.
func TestServiceLoops(t *testing.T) {
	w := newTold(t, "")
	for spec, want := range map[string][2]string{
		"{}": {},
		`{serviceCIDRs: [10.96.0.0/12, "fd00:96::/112"]}`: {"dst 10.96.0.0/12 → goto cali-drop-service", "→ DROP"},
		"{serviceCIDRs: [10.96.0.0/12, 192.0.2.7/32], serviceLoopPrevention: Reject}": {
			"dst 10.96.0.0/12 → goto cali-drop-service\ndst 192.0.2.7/32 → goto cali-drop-service", "→ REJECT",
		},
		"{serviceCIDRs: [10.96.0.0/12], serviceLoopPrevention: Disabled}": {},
	} {
		w.apply("apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\nspec: " + spec + "\n")
		have, end := w.chain(chain.Filter, "cali-cidr-block"), w.chain(chain.Filter, "cali-drop-service")
		if have != want[0] || (end == "") != (want[1] == "") || !strings.HasSuffix(end, want[1]) {
			t.Errorf("%s: have %q and %q, want %q", spec, have, end, want)
		}
	}
}
