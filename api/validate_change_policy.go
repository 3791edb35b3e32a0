// SPDX-License-Identifier: Apache-2.0

package api

import "fmt"

// policyChange checks the kinds that policies are made of against the other objects.
func (c *checker) policyChange(obj Object, snap Snapshot) {
	switch o := obj.(type) {
	case *NetworkPolicy:
		c.tierExists(o.Spec.Tier, snap)
	case *GlobalNetworkPolicy:
		c.tierExists(o.Spec.Tier, snap)
	case *StagedNetworkPolicy:
		c.tierExists(o.Spec.Tier, snap)
	case *StagedGlobalNetworkPolicy:
		c.tierExists(o.Spec.Tier, snap)
	case *HostEndpoint:
		c.hostEndpointTwice(o, snap)
	}
}

// tierExists refuses a policy that nothing would evaluate.
func (c *checker) tierExists(tier string, snap Snapshot) {
	_, _, fixed := fixedTier(tier)
	if _, exists := snap.Tiers.Get(tier); !exists && !fixed {
		c.fail("spec.tier", tier, "does not exist: apply a Tier of this name first, or leave the field out for %q", tierDefault)
	}
}

// hostEndpointTwice refuses a second endpoint for one interface, which could only hide the first.
func (c *checker) hostEndpointTwice(h *HostEndpoint, snap Snapshot) {
	if h.Spec.InterfaceName == "" {
		return // what interface it is depends on the node
	}
	for _, other := range snap.HostEndpoints.All() {
		if other.Name != h.Name && other.Spec.Node == h.Spec.Node && other.Spec.InterfaceName == h.Spec.InterfaceName {
			c.fail("spec.interfaceName", h.Spec.InterfaceName, "is already that of %s on the same node: change that one instead", other.Key())
		}
	}
}

// ValidateDelete checks that nothing of the Snapshot needs an object that is to be deleted: without its tier a policy
// would not be evaluated any more.
func ValidateDelete(key Key, snap Snapshot) error {
	if _, _, fixed := fixedTier(key.Name); key.Kind != KindTier || fixed {
		return nil
	}
	if policy, found := snap.policyOf(key.Name); found {
		return fmt.Errorf("%s: is the tier of %s: delete its policies first, or move them to another tier", key, policy)
	}
	return nil
}

// policyOf gives a policy of the tier, if it has any.
func (s Snapshot) policyOf(tier string) (policy Key, found bool) {
	for _, p := range s.NetworkPolicies.All() {
		if p.Spec.Tier == tier {
			return p.Key(), true
		}
	}
	for _, p := range s.GlobalNetworkPolicies.All() {
		if p.Spec.Tier == tier {
			return p.Key(), true
		}
	}
	for _, p := range s.StagedNetworkPolicies.All() {
		if p.Spec.Tier == tier {
			return p.Key(), true
		}
	}
	for _, p := range s.StagedGlobalNetworkPolicies.All() {
		if p.Spec.Tier == tier {
			return p.Key(), true
		}
	}
	return Key{}, false
}
