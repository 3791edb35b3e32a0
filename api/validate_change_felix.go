// SPDX-License-Identifier: Apache-2.0

package api

import "net/netip"

// serviceRanges refuses ranges of services that have addresses of pods or nodes: nobody would be forwarded there.
func (c *checker) serviceRanges(f *FelixConfiguration, snap Snapshot) {
	for i, cidr := range f.Spec.ServiceCIDRs {
		p, err := netip.ParsePrefix(cidr)
		if err != nil {
			continue
		}
		at := index("spec.serviceCIDRs", i)
		for _, pool := range snap.IPPools.All() {
			if q, err := netip.ParsePrefix(pool.Spec.CIDR); err == nil && p.Overlaps(q) {
				c.fail(at, cidr, "overlaps %s (%s), whose pods could not be reached: name the ranges that services alone have", pool.Key(), q)
			}
		}
		for _, node := range snap.Nodes.All() {
			if addr, has := node.Spec.addressIn(p); has {
				c.fail(at, cidr, "has %s of %s, which could not be reached: name the ranges that services alone have", addr, node.Key())
				break // the other nodes are likely to be there, too
			}
		}
	}
}

// addressIn gives an address of the node that is in a prefix. Its subnet may be there: load balancers' often are.
func (s *NodeSpec) addressIn(p netip.Prefix) (addr netip.Addr, has bool) {
	for _, own := range s.BGPAddresses().All() {
		if p.Contains(own.Addr()) {
			return own.Addr(), true
		}
	}
	for _, a := range s.Addresses {
		if own, err := a.prefix(); err == nil && p.Contains(own.Addr()) {
			return own.Addr(), true
		}
	}
	return addr, false
}

// poolOverServices refuses a pool with addresses of services, to which nothing is forwarded.
func (c *checker) poolOverServices(pool *IPPool, snap Snapshot) {
	p, err := netip.ParsePrefix(pool.Spec.CIDR)
	felix, exists := snap.FelixConfigurations.Get(DefaultName)
	if err != nil || !exists {
		return
	}
	for _, cidr := range felix.Spec.ServiceCIDRs {
		if q, err := netip.ParsePrefix(cidr); err == nil && p.Overlaps(q) {
			c.fail("spec.cidr", pool.Spec.CIDR, "overlaps %s in spec.serviceCIDRs of %s: use a range that no service has, or correct that one", q, felix.Key())
		}
	}
}
