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
	case *Node:
		c.nodeAddressTaken(o, snap)
		was, _ := old.(*Node)
		c.nodeInPool(o, was, snap)
	case *BGPPeer:
		c.peerTwice(o, snap)
	case *BlockAffinity:
		if was, ok := old.(*BlockAffinity); ok {
			c.immutable("spec.cidr", was.Spec.CIDR, o.Spec.CIDR)
			c.immutable("spec.node", was.Spec.Node, o.Spec.Node)
		}
	case *IPAMBlock:
		if was, ok := old.(*IPAMBlock); ok {
			c.immutable("spec.cidr", was.Spec.CIDR, o.Spec.CIDR)
		}
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
				c.fail("spec.cidr", pool.Spec.CIDR, "overlaps %s of %s: use a range that no host has, such as %q", r, node.Key(), "172.17.0.0/16")
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
			if node.Spec.BGP != nil && node.Spec.BGP.inside(r) {
				field, value = "spec.bgp.ipv4Address", node.Spec.BGP.IPv4Address
			}
			c.fail(field, value, "its subnet overlaps %s (%s): give the node another address, or replace that IPPool by one with a range that no host has", pool.Key(), p)
		}
	}
}

// inside says whether the range is the subnet of the BGP address.
func (s *NodeBGPSpec) inside(r netip.Prefix) bool {
	p, err := netip.ParsePrefix(s.IPv4Address)
	return err == nil && p.Masked() == r
}

func (c *checker) nodeAddressTaken(node *Node, snap Snapshot) {
	addr, ok := node.Spec.address()
	if !ok {
		return
	}
	for _, other := range snap.Nodes.All() {
		if a, ok := other.Spec.address(); ok && a == addr && other.Name != node.Name {
			c.fail("spec.bgp.ipv4Address", node.Spec.BGP.IPv4Address, "is held by %s: give each node its own address, or delete that Node if it is gone", other.Key())
		}
	}
}

// Ranges gives what the node's addresses belong to: the subnet of its BGP address, and what of its other addresses is
// outside of that. Fields that can't be read are left out.
func (s *NodeSpec) Ranges() []netip.Prefix {
	var all []netip.Prefix
	if s.BGP != nil {
		if p, err := netip.ParsePrefix(s.BGP.IPv4Address); err == nil && p.Bits() > 0 {
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

// address gives the node's BGP address, if it has one.
func (s *NodeSpec) address() (netip.Addr, bool) {
	if s.BGP == nil {
		return netip.Addr{}, false
	}
	p, err := netip.ParsePrefix(s.BGP.IPv4Address)
	return p.Addr(), err == nil
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
