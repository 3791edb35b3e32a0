// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"korat/api"
	"korat/policy"
	"korat/policy/selector"
)

// FuzzOf reads any manifests: what is valid has a model, and what is not fails closed.
func FuzzOf(f *testing.F) {
	for _, data := range inputs(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objs, err := api.Decode(data)
		if err != nil {
			return
		}
		for _, obj := range objs {
			api.Default(obj)
			if err := check(obj); err != nil {
				t.Errorf("%s: %v\n%s", obj.Key(), err, dump(obj))
			}
		}
	})
}

// inputs gives the manifests of all scripts.
func inputs(t testing.TB) [][]byte {
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var all [][]byte
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(archive.Files); i += 2 {
			all = append(all, archive.Files[i].Data)
		}
	}
	return all
}

// check says what is wrong with the model of an object, whatever that is.
func check(obj api.Object) error {
	valid := api.Validate(obj) == nil
	switch o := obj.(type) {
	case *api.Tier:
		if d := policy.TierOf(o).Default; d != api.Deny && d != api.Pass {
			return fmt.Errorf("the default action is %s", d)
		}
	case *api.Profile:
		p, err := policy.ProfileOf(o)
		return errors.Join(expected(valid, err), checkRules(p.Ingress), checkRules(p.Egress))
	case *api.WorkloadEndpoint, *api.HostEndpoint, *api.NetworkSet, *api.GlobalNetworkSet:
		item, err := policy.ItemOf(obj)
		if item.Labels[policy.LabelNamespace] != obj.GetNamespace() {
			return fmt.Errorf("has the label of another namespace: %q", item.Labels)
		}
		return errors.Join(expected(valid, err), checkNets(item.Prefixes))
	case *api.NetworkPolicy, *api.GlobalNetworkPolicy, *api.StagedNetworkPolicy, *api.StagedGlobalNetworkPolicy,
		*api.KubernetesNetworkPolicy, *api.ClusterNetworkPolicy:
		p, err := policy.Of(obj)
		if p == nil {
			return expected(valid, err)
		}
		if id := policy.IDOf(obj.Key()); p.ID != id {
			return fmt.Errorf("is %s, not %s", p.ID, id)
		}
		again, _ := policy.Of(obj.DeepCopyObject())
		if diff := cmp.Diff(p, again, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			return fmt.Errorf("is not the same again: %s", diff)
		}
		return errors.Join(expected(valid, err), checkPolicy(p, err))
	}
	return nil
}

// expected refuses an error of what is valid.
func expected(valid bool, err error) error {
	if valid && err != nil {
		return fmt.Errorf("is valid, but: %w", err)
	}
	return nil
}

func checkPolicy(p *policy.Policy, fault error) error {
	if p.Tier == "" {
		return errors.New("has no tier")
	}
	denies, applies := false, false
	for _, d := range []api.PolicyType{api.Ingress, api.Egress} {
		rules := p.Rules(d)
		if !p.Applies(d) && len(rules) > 0 {
			return fmt.Errorf("has rules for %s, where it does not apply", d)
		}
		if err := checkRules(rules); err != nil {
			return err
		}
		applies = applies || p.Applies(d)
		denies = denies || len(rules) == 1 && rules[0].Name == policy.InvalidRule && rules[0].Action == api.Deny
	}
	if fault != nil && applies && !denies {
		return errors.New("has faults, and does not fail closed")
	}
	return checkSelector(&p.Selector)
}

func checkRules(rules []policy.Rule) error {
	for i := range rules {
		r := &rules[i]
		if !slices.Contains([]api.Action{api.Allow, api.Deny, api.Log, api.Pass}, r.Action) {
			return fmt.Errorf("rule %d has action %q", i, r.Action)
		}
		for _, e := range []*policy.Entity{&r.Source, &r.Destination} {
			if err := checkEntity(r, e); err != nil {
				return fmt.Errorf("rule %d: %w", i, err)
			}
		}
		if icmp := r.ICMP != nil || r.NotICMP != nil; icmp && (r.Family != api.IPv4 || r.Protocol != policy.ICMP) &&
			(r.Family != api.IPv6 || r.Protocol != policy.ICMPv6) {
			return fmt.Errorf("rule %d has a type of ICMP, and is %s %s", i, r.Family, r.Protocol)
		}
	}
	return nil
}

func checkEntity(r *policy.Rule, e *policy.Entity) error {
	ports := slices.Concat(e.Ports, e.NotPorts)
	if len(ports)+len(e.NamedPorts)+len(e.NotNamedPorts) > 0 {
		switch r.Protocol {
		case policy.TCP, policy.UDP, policy.SCTP, policy.UDPLite:
		default:
			return fmt.Errorf("protocol %s has no ports", r.Protocol)
		}
	}
	for _, p := range ports {
		if p.First == 0 || p.First > p.Last {
			return fmt.Errorf("ports %s", p)
		}
	}
	if e.Service != nil && (e.Service.Name == "" || e.Service.Namespace == "") {
		return fmt.Errorf("service %v", *e.Service)
	}
	return errors.Join(checkNets(e.Nets), checkNets(e.NotNets), checkSelector(e.Selector), checkSelector(e.NotSelector))
}

func checkNets(nets []netip.Prefix) error {
	for i, net := range nets {
		if !net.IsValid() || net != net.Masked() || net.Addr().Is4In6() || slices.Contains(nets[:i], net) {
			return fmt.Errorf("net %s of %s", net, nets)
		}
	}
	return nil
}

// checkSelector wants the canonical form to be read as the same.
func checkSelector(s *selector.Selector) error {
	if s == nil {
		return nil
	}
	again, err := selector.Parse(s.String())
	if err == nil && !again.Equal(*s) {
		err = fmt.Errorf("%s is not %s", again, s)
	}
	return err
}
