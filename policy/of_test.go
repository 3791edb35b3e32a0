// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"korat/api"
	"korat/policy"
)

// TestValid runs the scripts in testdata/valid: manifests that Validate accepts, and the model that they become.
func TestValid(t *testing.T) {
	scripts(t, "testdata/valid", func(t *testing.T, obj api.Object) string {
		if err := api.Validate(obj); err != nil {
			t.Errorf("is not valid: %v", err)
		}
		return dump(obj)
	})
}

// TestFaulty runs the scripts in testdata/faulty: manifests that Validate refuses, and what fails closed in their place.
func TestFaulty(t *testing.T) {
	scripts(t, "testdata/faulty", func(t *testing.T, obj api.Object) string {
		if api.Validate(obj) == nil {
			t.Errorf("%s is valid", obj.Key())
		}
		have := dump(obj)
		if !strings.Contains(have, "\nerror: "+obj.Key().String()+": ") {
			t.Errorf("no error names %s:\n%s", obj.Key(), have)
		}
		return have
	})
}

// scripts runs all pairs of manifests and what they become. UPDATE_GOLDEN=1 rewrites the latter.
func scripts(t *testing.T, dir string, run func(*testing.T, api.Object) string) {
	files, err := filepath.Glob(dir + "/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil || len(archive.Files)%2 != 0 {
			t.Fatalf("%s: want pairs of manifests and want: %v", file, err)
		}
		changed := false
		for i := 0; i < len(archive.Files); i += 2 {
			input, want := archive.Files[i], &archive.Files[i+1]
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar")+"/"+input.Name, func(t *testing.T) {
				have := convert(t, input.Data, run)
				if have == string(want.Data) {
					return
				}
				if os.Getenv("UPDATE_GOLDEN") != "" {
					want.Data, changed = []byte(have), true
					return
				}
				t.Errorf("have:\n%s\nwant:\n%s", have, want.Data)
			})
		}
		if changed {
			if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func convert(t *testing.T, manifests []byte, run func(*testing.T, api.Object) string) string {
	objs, err := api.Decode(manifests)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, obj := range objs {
		api.Default(obj)
		all = append(all, run(t, obj))
	}
	return strings.Join(all, "\n")
}

func TestNoPolicy(t *testing.T) {
	pool := &api.IPPool{}
	pool.Name = "pods"
	if p, err := policy.Of(pool); p != nil || err == nil || err.Error() != "IPPool/pods is no policy" {
		t.Errorf("have %v, %v", p, err)
	}
	if _, err := policy.ItemOf(pool); err == nil || err.Error() != "IPPool/pods is nothing that rules can pick" {
		t.Errorf("have %v", err)
	}
}

// TestUnreadable has values that no manifest can have, as objects that a program made.
func TestUnreadable(t *testing.T) {
	tests := []struct{ name, want string }{
		{"a protocol", `NetworkPolicy/shop/p: spec.ingress[0].protocol: "tcp/ip": must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number, 1..255`},
		{"a port of nothing", `NetworkPolicy/shop/p: spec.ingress[1].destination.ports[0]: "0": must be a port, a range of ports or a name`},
		{"a range the wrong way round", `NetworkPolicy/shop/p: spec.ingress[2].destination.ports[0]: "90:80": must be a port, a range of ports or a name`},
		{"a range from 0", `NetworkPolicy/shop/p: spec.ingress[3].destination.ports[0]: "0:80": must be a port, a range of ports or a name`},
	}
	np := &api.NetworkPolicy{}
	np.Namespace, np.Name = "shop", "p"
	tcp, bad := api.ProtocolTCP, api.Protocol("tcp/ip")
	np.Spec.Ingress = []api.Rule{
		{Action: api.Allow, Protocol: &bad},
		{Action: api.Allow, Protocol: &tcp, Destination: api.EntityRule{Ports: []api.Port{{}}}},
		{Action: api.Allow, Protocol: &tcp, Destination: api.EntityRule{Ports: []api.Port{{First: 90, Last: 80}}}},
		{Action: api.Allow, Protocol: &tcp, Destination: api.EntityRule{Ports: []api.Port{{Last: 80}}}},
	}
	p, err := policy.Of(np)
	if err == nil || len(p.Ingress) != 1 || p.Ingress[0].Action != api.Deny {
		t.Fatalf("have %v\n%s", err, dumpPolicy(p))
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(tests) {
		t.Fatalf("have %d errors, want %d: %v", len(lines), len(tests), err)
	}
	for i, test := range tests {
		if lines[i] != test.want {
			t.Errorf("%s: have %s\nwant %s", test.name, lines[i], test.want)
		}
	}

	nowhere := &api.KubernetesNetworkPolicy{}
	nowhere.Name = "p"
	if p, err := policy.Of(nowhere); err == nil || p.Selector.String() != "all()" || len(p.Ingress) != 1 {
		t.Errorf("without a namespace: have %v\n%s", err, dumpPolicy(p))
	}
}

func TestTierOf(t *testing.T) {
	order := 7.0
	moved := &api.Tier{Spec: api.TierSpec{Order: &order, DefaultAction: "Allow"}}
	moved.Name = policy.TierDefault
	if have, want := policy.TierOf(moved), (policy.Tier{Name: policy.TierDefault, Order: policy.OrderDefault, Default: api.Deny}); have != want {
		t.Errorf("have %v, want %v", have, want)
	}
	if have := policy.BuiltInTiers(); !slices.IsSortedFunc(have, policy.Tier.Compare) || len(have) != 3 {
		t.Errorf("built-in tiers out of order: %v", have)
	}
}

// Calico breaks ties by name first: a policy of any kind comes where its name says.
func TestPolicyCompare(t *testing.T) {
	of := func(order float64, kind policy.Kind, namespace, name string) *policy.Policy {
		return &policy.Policy{ID: policy.ID{Kind: kind, Namespace: namespace, Name: name}, Order: order}
	}
	want := []*policy.Policy{
		of(1, policy.KindStagedGlobal, "", "z"),
		of(2, policy.KindNetworkPolicy, "shop", "a"),
		of(2, policy.KindGlobal, "", "b"),
		of(2, policy.KindStagedGlobal, "", "b"),
		of(2, policy.KindKubernetes, "shop", "b"),
		of(2, policy.KindNetworkPolicy, "shop", "b"),
		of(2, policy.KindGlobal, "", "c"),
	}
	have := slices.Clone(want)
	slices.Reverse(have)
	slices.SortFunc(have, (*policy.Policy).Compare)
	for i := range want {
		if have[i] != want[i] {
			t.Errorf("%d: have %v, want %v", i, have[i].ID, want[i].ID)
		}
	}
}

func TestImplied(t *testing.T) {
	tests := []struct{ name, want string }{
		{"kns.shop", `profile kns.shop
  label pcns.kubernetes.io/metadata.name = "shop"
  label pcns.projectcalico.org/name = "shop"
ingress:
  0 Allow
egress:
  0 Allow
`},
		{policy.AccountProfile("shop", "front.end"), `profile ksa.shop.front.end
  label pcsa.projectcalico.org/name = "front.end"
ingress:
egress:
`},
		{"mine", ""},
	}
	for _, test := range tests {
		have := ""
		if p := policy.Implied(test.name); p != nil {
			have = dumpProfile(p)
		}
		if have != test.want {
			t.Errorf("%s: have\n%s\nwant\n%s", test.name, have, test.want)
		}
	}
	if have := policy.ImpliedProfile("shop").Name; have != "kns.shop" {
		t.Errorf("have %s", have)
	}
}
