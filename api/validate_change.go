// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ValidateChange checks what Validate cannot see: that a change from old to obj leaves immutable
// fields alone, and that obj goes together with the other objects of the Snapshot. old is nil when
// obj is new. Both objects must be valid by themselves.
func ValidateChange(old, obj Object, snap Snapshot) error {
	c := &checker{key: obj.Key()}
	if old != nil && old.Key() != obj.Key() {
		return fmt.Errorf("%s: cannot replace %s: kind, namespace and name are immutable", obj.Key(), old.Key())
	}
	switch o := obj.(type) {
	case *IPPool:
		if was, ok := old.(*IPPool); ok {
			c.immutable("spec.cidr", was.Spec.CIDR, o.Spec.CIDR)
			c.immutable("spec.blockSize", was.Spec.BlockSize, o.Spec.BlockSize)
		} else {
			c.poolOverHosts(o, snap)
		}
		c.poolOverlap(o, snap)
		c.poolOverServices(o, snap)
	case *Node:
		c.nodeAddressTaken(o, snap)
		was, _ := old.(*Node)
		c.nodeInPool(o, was, snap)
	case *BGPPeer:
		c.peerTwice(o, snap)
	case *FelixConfiguration:
		c.serviceRanges(o, snap)
	case *BlockAffinity:
		if was, ok := old.(*BlockAffinity); ok {
			c.immutable("spec.cidr", was.Spec.CIDR, o.Spec.CIDR)
			c.immutable("spec.node", was.Spec.Node, o.Spec.Node)
		}
	case *IPAMBlock:
		if was, ok := old.(*IPAMBlock); ok {
			c.immutable("spec.cidr", was.Spec.CIDR, o.Spec.CIDR)
		}
	default:
		c.policyChange(obj, snap)
	}
	return errors.Join(c.errs...)
}

func (c *checker) immutable(field string, was, is any) {
	if was != is {
		c.fail(field, is, "is immutable and was %v: delete the %s and create a new one", was, c.key.Kind)
	}
}

func (c *checker) poolOverlap(pool *IPPool, snap Snapshot) {
	p, err := netip.ParsePrefix(pool.Spec.CIDR)
	if err != nil {
		return
	}
	for _, other := range snap.IPPools.All() {
		if other.Name == pool.Name {
			continue
		}
		if q, err := netip.ParsePrefix(other.Spec.CIDR); err == nil && p.Overlaps(q) {
			c.fail("spec.cidr", pool.Spec.CIDR, "overlaps %s (%s): use a range that no other pool has", other.Key(), q)
		}
	}
}

// poolOverHosts refuses a new pool that has addresses of nodes. One that is there may still be changed, to
// disable it.
func (c *checker) poolOverHosts(pool *IPPool, snap Snapshot) {
	p, err := netip.ParsePrefix(pool.Spec.CIDR)
	if err != nil {
		return
	}
	for _, node := range snap.Nodes.All() {
		for _, r := range node.Spec.Ranges() {
			if p.Overlaps(r) {
				c.fail("spec.cidr", pool.Spec.CIDR, "overlaps %s of %s: use a range that no host has, such as %q", r, node.Key(), examplePool(p))
				return // the other nodes are likely to be in the same subnet
			}
		}
	}
}

// nodeInPool refuses addresses that a pool has. What an existing Node had before may stay.
func (c *checker) nodeInPool(node, was *Node, snap Snapshot) {
	var had []netip.Prefix
	if was != nil {
		had = was.Spec.Ranges()
	}
	for _, r := range node.Spec.Ranges() {
		for _, pool := range snap.IPPools.All() {
			p, err := netip.ParsePrefix(pool.Spec.CIDR)
			if err != nil || !p.Overlaps(r) || slices.Contains(had, r) {
				continue
			}
			field, value := "spec.addresses", any(r.Addr())
			for _, own := range node.Spec.BGPAddresses().All() {
				if own.Masked() == r {
					field, value = bgpField(own.Addr()), own.String()
				}
			}
			c.fail(field, value, "its subnet overlaps %s (%s): give the node another address, or replace that IPPool by one with a range that no host has", pool.Key(), p)
		}
	}
}

// bgpField names the field of the address's family.
func bgpField(addr netip.Addr) string {
	if addr.Is4() {
		return "spec.bgp.ipv4Address"
	}
	return "spec.bgp.ipv6Address"
}

func (c *checker) nodeAddressTaken(node *Node, snap Snapshot) {
	for _, own := range node.Spec.BGPAddresses().All() {
		for _, other := range snap.Nodes.All() {
			if other.Name != node.Name && other.Spec.BGPAddresses().Has(own.Addr()) {
				c.fail(bgpField(own.Addr()), own.String(), "is held by %s: give each node its own address, or delete that Node if it is gone", other.Key())
			}
		}
	}
}

// BGPAddresses gives the node's own addresses. A field that can't be read counts as empty.
func (s *NodeSpec) BGPAddresses() Addresses {
	var a Addresses
	if s.BGP == nil {
		return a
	}
	if p, err := netip.ParsePrefix(s.BGP.IPv4Address); err == nil && IPv4.Has(p.Addr()) {
		a.IPv4 = p
	}
	if p, err := netip.ParsePrefix(s.BGP.IPv6Address); err == nil && IPv6.Has(p.Addr()) {
		a.IPv6 = p
	}
	return a
}

// Ranges gives what the node's addresses belong to: the subnets of its BGP addresses, and what of its other addresses
// is outside of those. Fields that can't be read are left out.
func (s *NodeSpec) Ranges() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range s.BGPAddresses().All() {
		if p.Bits() > 0 {
			all = append(all, p.Masked())
		}
	}
	for _, a := range s.Addresses {
		p, err := a.prefix()
		if err == nil && !slices.ContainsFunc(all, p.Overlaps) {
			all = append(all, p)
		}
	}
	return all
}

// prefix gives the address alone, without the length that Calico writes to one of type CalicoNodeIP.
func (a NodeAddress) prefix() (netip.Prefix, error) {
	text, _, _ := strings.Cut(a.Address, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

// peerTwice refuses a second session of the same nodes with the same neighbour.
func (c *checker) peerTwice(peer *BGPPeer, snap Snapshot) {
	addr, err := peer.Spec.Address()
	if err != nil {
		return
	}
	for _, other := range snap.BGPPeers.All() {
		a, err := other.Spec.Address()
		if err == nil && a.Addr() == addr.Addr() && other.Spec.Node == peer.Spec.Node && other.Name != peer.Name {
			c.fail("spec.peerIP", peer.Spec.PeerIP, "is already the peer of %s with the same spec.node: change that one instead", other.Key())
		}
	}
}
