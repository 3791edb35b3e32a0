// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"strconv"

	"korat/api"
	"korat/policy/selector"
)

// Of gives the Policy that an object of one of the kinds of policies is. It is nil without an error if the object
// asks for nothing: a staged one whose action is not Set.
//
// An error names the object and each field that cannot be understood; it means that the object was not validated, or
// by another version. The Policy that comes with it is to be used all the same, in the place of the object: it fails
// closed. In a direction with a fault in its rules it denies everything; with a fault elsewhere it does so in every
// direction that it applies in. What is wrong in a selector does not narrow which endpoints it is for: they are all
// of the namespace, or all there are. One of which nothing is known comes before all others.
func Of(obj api.Object) (*Policy, error) {
	c := &conversion{key: obj.Key()}
	var p *Policy
	switch o := obj.(type) {
	case *api.NetworkPolicy:
		p = c.namespaced(&o.Spec, KindNetworkPolicy)
	case *api.GlobalNetworkPolicy:
		p = c.global(&o.Spec, KindGlobal)
	case *api.StagedNetworkPolicy:
		p = c.staged(o.Spec.StagedAction, c.namespaced(&o.Spec.NetworkPolicySpec, KindStagedNetworkPolicy))
	case *api.StagedGlobalNetworkPolicy:
		p = c.staged(o.Spec.StagedAction, c.global(&o.Spec.GlobalNetworkPolicySpec, KindStagedGlobal))
	case *api.KubernetesNetworkPolicy:
		p = c.kubernetes(&o.Spec)
	case *api.ClusterNetworkPolicy:
		p = c.cluster(&o.Spec)
	default:
		return nil, fmt.Errorf("%s is no policy", c.key)
	}
	if p == nil {
		return nil, nil
	}
	if c.unread(obj); api.Unreadable(obj) != "" {
		p.AppliesIngress, p.AppliesEgress = true, true
	}
	if api.Hollow(obj) && p.ID.Kind != KindKubernetes { // whose place is always the same
		p.Tier = unknownTier
		if p.ID.Kind == KindGlobal {
			p.Stage = Forward
		}
	}
	if c.faulty {
		c.faultyIngress, c.faultyEgress = true, true
	}
	if c.faultyIngress && p.AppliesIngress {
		p.Ingress = denied()
	}
	if c.faultyEgress && p.AppliesEgress {
		p.Egress = denied()
	}
	return p, errors.Join(c.errs...)
}

// IDOf gives the ID of the Policy that an object of a kind of policies is.
func IDOf(key api.Key) ID {
	return ID{Kind: map[api.Kind]Kind{
		api.KindNetworkPolicy: KindNetworkPolicy, api.KindGlobalNetworkPolicy: KindGlobal,
		api.KindStagedNetworkPolicy: KindStagedNetworkPolicy, api.KindStagedGlobalNetworkPolicy: KindStagedGlobal,
		api.KindKubernetesNetworkPolicy: KindKubernetes, api.KindClusterNetworkPolicy: KindCluster,
	}[key.Kind], Namespace: key.Namespace, Name: key.Name}
}

// InvalidRule is the name of the rule that stands for those of an object with faults.
const InvalidRule = "invalid"

func denied() []Rule { return []Rule{{Name: InvalidRule, Action: api.Deny}} }

// A conversion reads one object and notes what is wrong with it.
type conversion struct {
	key  api.Key
	errs []error
	// direction is set while rules are read.
	direction api.PolicyType
	// Where the faults are: in the rules of a direction, or elsewhere.
	faultyIngress, faultyEgress, faulty bool
}

func (c *conversion) fail(field string, value any, remedy string, args ...any) {
	c.errs = append(c.errs, &api.FieldError{Object: c.key, Field: field, Value: value, Remedy: fmt.Sprintf(remedy, args...)})
	switch c.direction {
	case api.Ingress:
		c.faultyIngress = true
	case api.Egress:
		c.faultyEgress = true
	default:
		c.faulty = true
	}
}

// id is that of the object.
func (c *conversion) id(kind Kind) ID { return ID{kind, c.key.Namespace, c.key.Name} }

// within reads a direction's rules.
func (c *conversion) within(d api.PolicyType, read func() []Rule) []Rule {
	c.direction = d
	defer func() { c.direction = "" }()
	return read()
}

// expanded reads the n rules of a direction, which each become as many as it takes.
func (c *conversion) expanded(d api.PolicyType, n int, read func(i int) expansion) []Rule {
	return c.within(d, func() (rules []Rule) {
		for i := range n {
			x := read(i)
			rules = append(rules, x.rules(d)...)
		}
		return rules
	})
}

// types says in which directions a policy applies.
func (c *conversion) types(field string, types []api.PolicyType) (ingress, egress bool) {
	for i, t := range types {
		switch t {
		case api.Ingress:
			ingress = true
		case api.Egress:
			egress = true
		default:
			c.fail(index(field, i), string(t), "must be Ingress or Egress")
			return true, true
		}
	}
	return ingress, egress
}

// built gives what takes a Selector; one that was not possible becomes all(), so that it narrows nothing.
func (c *conversion) built(field string, value any) func(selector.Selector, error) selector.Selector {
	return func(s selector.Selector, err error) selector.Selector {
		if err != nil {
			c.fail(field, value, "%v", err)
			return selector.All()
		}
		return s
	}
}

func index(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }
