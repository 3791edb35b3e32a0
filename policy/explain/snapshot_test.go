// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/policy"
)

const manifests = `
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: a}
spec:
  bgp: {ipv4Address: 192.0.2.1/24, ipv6Address: "fd01::1/64"}
  addresses: [{address: 198.51.100.1, type: InternalIP}]
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: a-k8s-web-eth0, namespace: shop, labels: {role: web}}
spec:
  {node: a, pod: web, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.0.0.1/32], serviceAccountName: front,
   ports: [{name: http, protocol: TCP, port: 8080}]}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: a-k8s-web-net1, namespace: shop}
spec: {node: a, pod: web, endpoint: net1, interfaceName: cali2, ipNetworks: ["fd00::1/128"], profiles: [mine]}
---
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: mine}
spec:
  egress: [{action: Allow}]
---
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: ksa.shop.front}
spec:
  labelsToApply: {pcsa.trust: high}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: office, labels: {place: office}}
spec: {nets: [203.0.113.0/24]}
---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: partners, namespace: shop, labels: {place: partners}}
spec: {nets: [203.0.113.7/32]}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: uplink, labels: {host: a}}
spec: {node: a, interfaceName: eth0, expectedIPs: [192.0.2.1], profiles: [mine]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: hosts}
spec:
  order: 5
  selector: has(host)
  types: [Ingress]
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [443]}}]
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: early}
spec:
  selector: has(host)
  types: [Ingress]
  preDNAT: true
  applyOnForward: true
  ingress: [{action: Deny, protocol: TCP, destination: {ports: [23]}}]
---
apiVersion: projectcalico.org/v3
kind: StagedGlobalNetworkPolicy
metadata: {name: soon}
spec: {selector: has(host), types: [Egress]}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  order: 7.5
  serviceAccountSelector: trust == 'high'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: place == 'partners'}, destination: {ports: [http]}}
---
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec:
  defaultEndpointToHostAction: Drop
  serviceCIDRs: [198.18.0.0/15, "fd96::/64"]
  failsafeInboundHostPorts: [{port: 22, net: 203.0.113.0/24}, {protocol: UDP, port: 68, net: 203.0.113.9}]
`

// snapshotOf gives what the manifests say.
func snapshotOf(t *testing.T, text string) api.Snapshot {
	t.Helper()
	objs, err := api.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	snap := api.Snapshot{InSync: true}
	for _, obj := range objs {
		api.Default(obj)
		if err := api.Validate(obj); err != nil {
			t.Error(err)
		}
		snap = snap.With(obj)
	}
	return snap
}

func TestSnapshot(t *testing.T) {
	w, err := Of(snapshotOf(t, manifests))
	if err != nil {
		t.Fatal(err)
	}
	const guess = "\nnote: the flow is taken to go by host endpoint uplink of node a"
	const closed = " denied: no rule of tier default matches"
	for _, c := range []struct {
		from, to string
		proto    policy.Protocol
		port     uint16
		want     string
	}{
		{"203.0.113.7", "10.0.0.1", policy.TCP, 8080, "preDNAT Ingress of host endpoint uplink allowed: no rule of this stage matches; the later stages decide\n" +
			"forward Ingress of host endpoint uplink allowed: no policy with applyOnForward applies: what the host forwards is allowed\nIngress of shop/web allowed: np/shop/web" + guess},
		{"203.0.113.8", "192.0.2.1", policy.TCP, 443, "preDNAT Ingress of host endpoint uplink allowed: no rule of this stage matches; the later stages decide\n" +
			"Ingress of host endpoint uplink allowed: gnp/hosts" + guess},
		{"203.0.113.8", "192.0.2.1", policy.TCP, 23, "preDNAT Ingress of host endpoint uplink denied: gnp/early" + guess},
		{"203.0.113.8", "198.51.100.1", policy.TCP, 22, "Ingress of host endpoint uplink allowed: the port is one of the failsafe ports, which no policy closes" + guess},
		{"203.0.114.8", "192.0.2.1", policy.TCP, 22, "preDNAT Ingress of host endpoint uplink allowed: no rule of this stage matches; the later stages decide\nIngress of host endpoint uplink" + closed + guess},
		{"203.0.113.9", "192.0.2.1", policy.UDP, 68, "Ingress of host endpoint uplink allowed: the port is one of the failsafe ports, which no policy closes" + guess},
		{"192.0.2.1", "203.0.113.8", policy.UDP, 53, "Egress of host endpoint uplink allowed: the port is one of the failsafe ports, which no policy closes" + guess},
		{"192.0.2.1", "203.0.113.8", policy.TCP, 80, "Egress of host endpoint uplink allowed: mine" + guess},
		{"10.0.0.1", "192.0.2.1", policy.TCP, 80, "Egress of shop/web allowed: kns.shop\nIngress of node a denied: FelixConfiguration's defaultEndpointToHostAction is Drop"},
		{"10.0.0.1", "198.19.0.1", policy.TCP, 80, "Egress of shop/web allowed: kns.shop\nforward Egress of host endpoint uplink allowed: no policy with applyOnForward applies: what the host forwards is allowed\n" +
			"forward Egress of node a denied: 198.19.0.1 is in 198.18.0.0/15, which FelixConfiguration's serviceCIDRs have, and is no endpoint's: no service is known there" + guess},
		{"fd00::1", "fd02::1", policy.TCP, 80, "Egress of shop/web/net1 allowed: mine\nforward Egress of host endpoint uplink allowed: no policy with applyOnForward applies: what the host forwards is allowed" + guess},
	} {
		from, to := w.Resolve(netip.MustParseAddr(c.from)), w.Resolve(netip.MustParseAddr(c.to))
		briefly(t, w, Flow{From: from, To: to, Protocol: c.proto, SourcePort: 50000, DestinationPort: c.port}, c.want)
	}
}

func TestOrder(t *testing.T) {
	w, err := Of(snapshotOf(t, manifests))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, name := range [][2]string{{"shop", "web"}, {"shop", "web/net1"}, {"", "uplink"}, {"shop", "absent"}} {
		for _, ep := range w.Endpoints(name[0], name[1]) {
			o := w.Order(ep)
			fmt.Fprintln(&b, o.Endpoint, "on", o.Node, o.Labels, o.Profiles)
			for _, tiers := range [][]OrderedTier{o.Ingress, o.Egress} {
				for _, tier := range tiers {
					for _, p := range tier.Policies {
						fmt.Fprintln(&b, " ", tier.Tier, tier.Stage, p.Policy, p.Selector, p.Rules, tier.Default)
					}
				}
			}
		}
	}
	want := `
shop/web on a map[pcns.kubernetes.io/metadata.name:shop pcns.projectcalico.org/name:shop pcsa.projectcalico.org/name:front pcsa.trust:high projectcalico.org/namespace:shop projectcalico.org/orchestrator:k8s projectcalico.org/serviceaccount:front role:web] [kns.shop ksa.shop.front]
  default  np/shop/web projectcalico.org/namespace == "shop" && pcsa.trust == "high" 1 Deny
shop/web/net1 on a map[pcns.kubernetes.io/metadata.name:shop pcns.projectcalico.org/name:shop projectcalico.org/namespace:shop projectcalico.org/orchestrator:k8s] [mine]
host endpoint uplink on a map[host:a] [mine]
  default preDNAT gnp/early has(host) 1 Pass
  default  gnp/hosts has(host) 1 Deny
  default  sgnp/soon has(host) 0 Pass
`
	if diff := cmp.Diff(strings.TrimLeft(want, "\n"), b.String()); diff != "" {
		t.Error(diff)
	}
}

// What was stored unchecked denies, and is told of.
func TestFaults(t *testing.T) {
	snap := snapshotOf(t, manifests)
	have, _ := snap.NetworkPolicies.Get("shop/web")
	bad := have.DeepCopy()
	bad.Spec.Ingress[0].Source.Selector = "place =="
	w, err := Of(snap.With(bad))
	if err == nil || !strings.Contains(err.Error(), "NetworkPolicy/shop/web: spec.ingress[0].source.selector") {
		t.Errorf("error %v", err)
	}
	flow := Flow{From: w.Resolve(netip.MustParseAddr("203.0.113.7")), To: w.Resolve(netip.MustParseAddr("10.0.0.1")), Protocol: policy.TCP, DestinationPort: 8080, Enters: "eth1"}
	briefly(t, w, flow, "Ingress of shop/web denied: np/shop/web")
}

func TestNames(t *testing.T) {
	w, err := Of(snapshotOf(t, manifests))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[[2]string]string{
		{"shop", "web"}:      "[{a cali1 10.0.0.1}] shop/web",
		{"shop", "web/net1"}: "[{a cali2 fd00::1}] shop/web/net1",
		{"", "a"}:            "[{a  192.0.2.1} {a  fd01::1} {a  198.51.100.1}] node a",
		{"", "b"}:            "[] ",
		{"shop", "a"}:        "[] ",
	} {
		ends := w.Named(name[0], name[1])
		described := ""
		if len(ends) > 0 {
			described = w.Describe(ends[0])
		}
		if have := fmt.Sprint(ends, " ", described); have != want {
			t.Errorf("%v: have %s, want %s", name, have, want)
		}
	}
	if have := w.Describe(End{Node: "a", Interface: "cali9"}) + "|" + w.Describe(at4("192.0.2.9")); have != "interface cali9|" {
		t.Error(have)
	}
}
