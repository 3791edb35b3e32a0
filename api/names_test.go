// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"strings"
	"testing"
)

func TestBlockName(t *testing.T) {
	for in, want := range map[string]string{
		"172.17.8.0/24":   "172-17-8-0-24",
		"10.0.0.64/26":    "10-0-0-64-26",
		"fd00:1::800/122": "fd00-1--800-122",
	} {
		if have := BlockName(netip.MustParsePrefix(in)); have != want {
			t.Errorf("BlockName(%s) = %q, want %q", in, have, want)
		}
	}
}

func TestAffinityName(t *testing.T) {
	block := netip.MustParsePrefix("172.17.8.0/24")
	if have, want := AffinityName("node-1", block), "node-1-172-17-8-0-24"; have != want {
		t.Errorf("AffinityName = %q, want %q", have, want)
	}
	if have, want := AffinityName("node-1", netip.MustParsePrefix("fd00:1::800/122")), "node-1-fd00-1--800-122"; have != want {
		t.Errorf("AffinityName = %q, want %q", have, want)
	}
	long := strings.Repeat("a", 63) + "." + strings.Repeat("b", 180)
	one, two := AffinityName(long+"1", block), AffinityName(long+"2", block)
	if one == two || !isSubdomain(one) {
		t.Errorf("names of long nodes: %q and %q, want different and valid ones", one, two)
	}
}

func TestWorkloadEndpointName(t *testing.T) {
	tests := []struct{ node, orchestrator, pod, endpoint, want string }{
		{"node1", "k8s", "web-0", "eth0", "node1-k8s-web--0-eth0"},
		{"node-1.example.org", "k8s", "a--b", "eth0", "node--1.example.org-k8s-a----b-eth0"},
		{"n", "cni", "0123abcd", "net1", "n-cni-0123abcd-net1"},
		{"n", "cni", "Pod_A", "eth0", "n-cni-pod-a-eth0-889a965052190f47"},
	}
	for _, tt := range tests {
		have := WorkloadEndpointName(tt.node, tt.orchestrator, tt.pod, tt.endpoint)
		if have != tt.want {
			t.Errorf("WorkloadEndpointName(%s, %s, %s, %s) = %q, want %q", tt.node, tt.orchestrator, tt.pod, tt.endpoint, have, tt.want)
		}
	}
}

func TestWorkloadEndpointNameIsAlwaysValidAndUnique(t *testing.T) {
	seen := map[string]string{}
	for _, node := range []string{"n", "n-k8s", "n-", strings.Repeat("n", 253)} {
		for _, pod := range []string{"a", "A", "a_", "a-", "a.", "a..b", "_", "-", "ä", strings.Repeat("x", 300)} {
			name := WorkloadEndpointName(node, "k8s", pod, "eth0")
			if !isSubdomain(name) {
				t.Errorf("node %q pod %q: name %q is not a DNS-1123 subdomain", node, pod, name)
			}
			if other, taken := seen[name]; taken {
				t.Errorf("node %q pod %q has the same name as %s: %q", node, pod, other, name)
			}
			seen[name] = node + " " + pod
		}
	}
}

func TestLookupKind(t *testing.T) {
	for in, want := range map[string]Kind{
		"IPPool": KindIPPool, "ippools": KindIPPool, "POOL": KindIPPool, "bgpconfig": KindBGPConfiguration,
		"wep": KindWorkloadEndpoint, "nodes": KindNode, "blockAffinities": KindBlockAffinity,
		"NetworkPolicy": KindNetworkPolicy, "np": KindNetworkPolicy, "policies": KindNetworkPolicy, "gnp": KindGlobalNetworkPolicy,
		"netset": KindNetworkSet, "hep": KindHostEndpoint, "pro": KindProfile, "tiers": KindTier,
		"KubernetesNetworkPolicy": KindKubernetesNetworkPolicy, "knp": KindKubernetesNetworkPolicy, "cnp": KindClusterNetworkPolicy, "endpointslices": KindEndpointSlice,
	} {
		info, err := LookupKind(in)
		if err != nil || info.Kind != want {
			t.Errorf("LookupKind(%q) = %v, %v, want %s", in, info.Kind, err, want)
		}
	}
	_, err := LookupKind("IPAMHandle")
	if err == nil || !strings.HasPrefix(err.Error(), `kind "IPAMHandle" is not supported by korat: use one of BGPConfiguration, BGPPeer,`) {
		t.Errorf("unsupported kind: %v", err)
	}
}

func TestEveryKindIsComplete(t *testing.T) {
	names := map[string]Kind{}
	for _, kind := range Kinds() {
		obj := New(kind)
		if obj == nil {
			t.Fatalf("New(%s) = nil", kind)
		}
		obj.SetName("x")
		if k := obj.Key(); k != (Key{kind, "", "x"}) {
			t.Errorf("key of %s: %v", kind, k)
		}
		info, _ := kind.Info()
		obj.SetNamespace("ns")
		if got := obj.Key().Namespace != ""; got != info.Namespaced {
			t.Errorf("%s: key has a namespace: %v, want %v", kind, got, info.Namespaced)
		}
		for _, name := range append(strings.Fields(info.Aliases), info.Singular, info.Plural) {
			if other, taken := names[name]; taken {
				t.Errorf("%q means both %s and %s", name, kind, other)
			}
			names[name] = kind
		}
		snap := Snapshot{}.With(obj)
		if have, ok := snap.Get(obj.Key()); !ok || have != obj {
			t.Errorf("Snapshot.With(%s) is not there: %v", kind, have)
		}
		for o := range snap.Objects(kind) {
			snap = snap.Without(o.Key())
		}
		if _, ok := snap.Get(obj.Key()); ok {
			t.Errorf("Snapshot.Without(%s) left it there", kind)
		}
	}
	if New("IPAMHandle") != nil {
		t.Error(`New("IPAMHandle") is not nil`)
	}
}
