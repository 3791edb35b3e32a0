// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestValidatePolicyOfPrograms has what no manifest can say, but a program can write.
func TestValidatePolicyOfPrograms(t *testing.T) {
	tcp := ProtocolTCP
	ports := func(list ...Port) *NetworkPolicy {
		return &NetworkPolicy{Spec: NetworkPolicySpec{PolicyBase{Ingress: []Rule{{
			Action: Allow, Protocol: &tcp, Destination: EntityRule{Ports: list},
		}}}}}
	}
	names := func(n int) (all []Port) {
		for i := range n {
			all = append(all, Port{Name: fmt.Sprint("p", i)})
		}
		return all
	}
	for name, tc := range map[string]struct {
		obj  Object
		want string
	}{
		"port 0":         {ports(Port{}), `spec.ingress[0].destination.ports[0]: "0": must be 1..65535, a range of them or a name: there is no port 0`},
		"range from 0":   {ports(Port{Last: 9}), `spec.ingress[0].destination.ports[0]: "0:9": must be 1..65535, a range of them or a name: there is no port 0`},
		"range reversed": {ports(Port{First: 9, Last: 8}), `spec.ingress[0].destination.ports[0]: "9:8": must begin with the lower port: use "8:9"`},
		"name and range": {ports(Port{First: 9, Last: 9}, Port{First: 1, Last: 1, Name: "a"}), `spec.ingress[0].destination.ports[1]: "a": must be a name or a range, not both`},
		"bad name":       {ports(Port{Name: "a b"}), `spec.ingress[0].destination.ports[0]: "a b": must be a port's name: at most 128 letters, digits, dots, dashes and underscores, and a letter among them`},
		"order":          {&GlobalNetworkPolicy{Spec: GlobalNetworkPolicySpec{PolicyBase: PolicyBase{Order: new(math.NaN())}}}, `spec.order: NaN: must be a finite number: leave it out to come last`},
		"tier's order":   {&Tier{Spec: TierSpec{Order: new(math.Inf(-1))}}, `spec.order: -Inf: must be a finite number: leave it out to come last`},
		"protocol": {
			&Profile{Spec: ProfileSpec{Egress: []Rule{{Action: Allow, Protocol: new(Protocol("256")), NotProtocol: new(Protocol("tcp"))}}}},
			`spec.egress[0].protocol: "256": must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number, 1..255
spec.egress[0].notProtocol: "tcp": must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number, 1..255`,
		},
		"as many rules as there may be": {&Profile{Spec: ProfileSpec{Ingress: slices.Repeat([]Rule{{Action: Deny}}, 1024)}}, ""},
		"too many rules":                {&Profile{Spec: ProfileSpec{Ingress: make([]Rule, 1025)}}, `spec.ingress: 1025: must be at most 1024 rules: split the policy`},
		"too many nets": {&Profile{Spec: ProfileSpec{Ingress: []Rule{
			{Action: Deny, Source: EntityRule{Nets: slices.Repeat([]string{"192.0.2.1"}, 256)}},
			{Action: Deny, Source: EntityRule{NotNets: slices.Repeat([]string{"192.0.2.1"}, 257)}},
		}}}, `spec.ingress[1].source.notNets: 257: must be at most 256: name them in a NetworkSet or GlobalNetworkSet and select it`},
		"too many pairs of named ports": {&Profile{Spec: ProfileSpec{Ingress: []Rule{
			{Action: Allow, Protocol: &tcp, Source: EntityRule{Ports: names(8)}, Destination: EntityRule{Ports: names(8)}},
			{Action: Allow, Protocol: &tcp, Source: EntityRule{Ports: names(13)}, Destination: EntityRule{Ports: names(5)}},
			{Action: Allow, Protocol: &tcp, Destination: EntityRule{Ports: names(50)}},
		}}}, `spec.ingress[1].destination.ports: 5: must have fewer names beside those of spec.ingress[1].source.ports, of which each pair takes a rule in the kernel: at most 64 pairs: write several rules`},
		"a set has no bound": {&GlobalNetworkSet{Spec: NetworkSetSpec{Nets: slices.Repeat([]string{"192.0.2.1"}, 100_000)}}, ""},
		"a comment as long as it may be": {&Profile{Spec: ProfileSpec{Ingress: []Rule{
			{Action: Deny, Metadata: &RuleMetadata{Annotations: map[string]string{"k": strings.Repeat("v", 253)}}},
		}}}, ""},
		"a comment too long": {&Profile{Spec: ProfileSpec{Ingress: []Rule{
			{Action: Deny, Metadata: &RuleMetadata{Annotations: map[string]string{"key": strings.Repeat("v", 252)}}},
		}}}, fmt.Sprintf(`spec.ingress[0].metadata.annotations[key]: %q: must have at most 251 bytes with this key: a comment in the kernel holds 255`, strings.Repeat("v", 252))},
	} {
		t.Run(name, func(t *testing.T) {
			tc.obj.SetName("x")
			Default(tc.obj)
			have := ""
			if err := Validate(tc.obj); err != nil {
				have = strings.ReplaceAll(err.Error(), tc.obj.Key().String()+": ", "")
			}
			if diff := cmp.Diff(tc.want, have); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestValidateWithoutDefaults has the fields that Default fills in.
func TestValidateWithoutDefaults(t *testing.T) {
	for _, tc := range []struct {
		obj  Object
		want string
	}{
		{&Tier{}, `spec.defaultAction: must be Deny or Pass`},
		{&GlobalNetworkPolicy{}, `spec.tier: must be a tier's name: a DNS-1123 label of at most 63 bytes
spec.types: []: must hold Ingress, Egress or both`},
		{&StagedGlobalNetworkPolicy{Spec: StagedGlobalNetworkPolicySpec{GlobalNetworkPolicySpec: GlobalNetworkPolicySpec{
			PolicyBase: PolicyBase{Tier: "t", Types: []PolicyType{Egress}},
		}}}, `spec.stagedAction: must be Set, Delete, Learn or Ignore`},
	} {
		tc.obj.SetName("x")
		have := strings.ReplaceAll(Validate(tc.obj).Error(), tc.obj.Key().String()+": ", "")
		if diff := cmp.Diff(tc.want, have); diff != "" {
			t.Errorf("%s: %s", tc.obj.Key(), diff)
		}
	}
	for _, name := range []string{"default", "kube-admin", "kube-baseline"} {
		tier := &Tier{}
		tier.Name = name
		if err := Validate(tier); err == nil || !strings.Contains(err.Error(), `spec.order: must be 10`) {
			t.Errorf("%s without an order: %v", name, err)
		}
	}
}

func TestDefaultTypes(t *testing.T) {
	some := []Rule{{Action: Allow}}
	for _, tc := range []struct {
		spec PolicyBase
		want string
	}{
		{PolicyBase{}, "[Ingress]"},
		{PolicyBase{Ingress: some}, "[Ingress]"},
		{PolicyBase{Egress: some}, "[Egress]"},
		{PolicyBase{Ingress: some, Egress: some}, "[Ingress Egress]"},
		{PolicyBase{Types: []PolicyType{Egress}, Ingress: some}, "[Egress]"},
	} {
		policy, staged := &NetworkPolicy{}, &StagedNetworkPolicy{}
		policy.Spec.PolicyBase, staged.Spec.PolicyBase = tc.spec, tc.spec
		Default(policy)
		Default(staged)
		for _, have := range []PolicyBase{policy.Spec.PolicyBase, staged.Spec.PolicyBase} {
			if text := fmt.Sprint(have.Types); text != tc.want || have.Tier != "default" {
				t.Errorf("types %s of tier %q, want %s of default", text, have.Tier, tc.want)
			}
		}
	}
	deletion := &StagedNetworkPolicy{Spec: StagedNetworkPolicySpec{StagedAction: StagedDelete}}
	deletion.Name = "x"
	Default(deletion)
	if err := Validate(deletion); err != nil || deletion.Spec.Tier != "default" {
		t.Errorf("a staged deletion: %+v, %v", deletion.Spec, err)
	}
}

func TestDefaultTiers(t *testing.T) {
	for name, want := range map[string]string{
		"default":       `{"order":1000000,"defaultAction":"Deny"}`,
		"kube-admin":    `{"order":1000,"defaultAction":"Pass"}`,
		"kube-baseline": `{"order":10000000,"defaultAction":"Pass"}`,
		"mine":          `{"defaultAction":"Deny"}`,
	} {
		tier := &Tier{}
		tier.Name = name
		Default(tier)
		if text, err := json.Marshal(tier.Spec); err != nil || string(text) != want {
			t.Errorf("%s: %s, want %s (%v)", name, text, want, err)
		}
		if err := Validate(tier); err != nil {
			t.Error(err)
		}
	}
}

// No failsafe port at all is not the same as none given, also after the datastore had it.
func TestFailsafePortsStayEmpty(t *testing.T) {
	cfg := &FelixConfiguration{}
	if err := json.Unmarshal([]byte(`{"metadata":{"name":"default"},"spec":{"failsafeInboundHostPorts":[]}}`), cfg); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stored := &FelixConfiguration{}
	if err := json.Unmarshal(text, stored); err != nil {
		t.Fatal(err)
	}
	Default(stored)
	if n := len(*stored.Spec.FailsafeInboundHostPorts); n != 0 {
		t.Errorf("%d inbound ports, want none", n)
	}
	if n := len(*stored.Spec.FailsafeOutboundHostPorts); n != 9 {
		t.Errorf("%d outbound ports, want Calico's 9", n)
	}
	if err := Validate(stored); err != nil {
		t.Error(err)
	}
}

func TestValidateDelete(t *testing.T) {
	policies := []Object{
		&NetworkPolicy{Spec: NetworkPolicySpec{PolicyBase{Tier: "a"}}},
		&GlobalNetworkPolicy{Spec: GlobalNetworkPolicySpec{PolicyBase: PolicyBase{Tier: "b"}}},
		&StagedNetworkPolicy{Spec: StagedNetworkPolicySpec{NetworkPolicySpec: NetworkPolicySpec{PolicyBase{Tier: "c"}}}},
		&StagedGlobalNetworkPolicy{Spec: StagedGlobalNetworkPolicySpec{GlobalNetworkPolicySpec: GlobalNetworkPolicySpec{PolicyBase: PolicyBase{Tier: "d"}}}},
		&GlobalNetworkPolicy{Spec: GlobalNetworkPolicySpec{PolicyBase: PolicyBase{Tier: "default"}}},
	}
	var snap Snapshot
	for i, p := range policies {
		p.SetName(fmt.Sprintf("p%d", i))
		Default(p)
		snap = snap.With(p)
	}
	for key, want := range map[Key]string{
		{KindTier, "", "a"}:       "Tier/a: is the tier of NetworkPolicy/default/p0: delete its policies first, or move them to another tier",
		{KindTier, "", "b"}:       "Tier/b: is the tier of GlobalNetworkPolicy/p1: delete its policies first, or move them to another tier",
		{KindTier, "", "c"}:       "Tier/c: is the tier of StagedNetworkPolicy/default/p2: delete its policies first, or move them to another tier",
		{KindTier, "", "d"}:       "Tier/d: is the tier of StagedGlobalNetworkPolicy/p3: delete its policies first, or move them to another tier",
		{KindTier, "", "e"}:       "<nil>",
		{KindTier, "", "default"}: "<nil>",
		{KindProfile, "", "a"}:    "<nil>",
	} {
		if have := fmt.Sprint(ValidateDelete(key, snap)); have != want {
			t.Errorf("have %s\nwant %s", have, want)
		}
	}
}
