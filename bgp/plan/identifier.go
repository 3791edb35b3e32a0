// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"crypto/sha256"
	"fmt"
	"net/netip"

	"korat/api"
)

// maxUnicast is the highest first octet of an IPv4 unicast address.
const maxUnicast = 223

// routerID gives a node's BGP identifier: its IPv4 address, or without one a hash of its name, which the
// node keeps over every restart. Any number but 0 would do (RFC 6286); this one is also among the unicast
// addresses, as RFC 4271 wanted it and some speakers still do.
func routerID(node string, ipv4 netip.Addr) netip.Addr {
	if ipv4.Is4() {
		return ipv4
	}
	sum := sha256.Sum256([]byte(node))
	id := [4]byte(sum[:4])
	id[0] = 1 + id[0]%maxUnicast
	return netip.AddrFrom4(id)
}

// compareRouterIDs reports nodes that share an identifier: an internal session between two such is
// refused (RFC 6286, 2.1). Nodes that share an IPv4 address are reported for that.
func (b *builder) compareRouterIDs(own netip.Addr) {
	type owner struct {
		key    string
		hashed bool
	}
	first := map[netip.Addr]owner{own: {"Node/" + b.in.Node, !b.in.Addresses.IPv4.IsValid()}}
	for name, n := range b.in.Snapshot.Nodes.All() {
		if name == b.in.Node || n.Spec.BGP == nil {
			continue
		}
		addr := ipv4Of(n.Spec.BGP)
		if !addr.IsValid() && n.Spec.BGP.IPv6Address == "" {
			continue // no node of ours has no address, and it gets no session
		}
		id := routerID(name, addr)
		have := owner{n.Key().String(), !addr.IsValid()}
		other, dup := first[id]
		switch {
		case !dup:
			first[id] = have
		case other.hashed || have.hashed:
			b.report(fmt.Errorf("%s: its BGP router ID %s is %s's too, so that they get no session with each other: give those without an IPv4 address one, or another name",
				have.key, id, other.key))
		}
	}
}

// ipv4Of gives a node's IPv4 address; invalid if it has none or one that can't be read.
func ipv4Of(s *api.NodeBGPSpec) netip.Addr {
	p, err := netip.ParsePrefix(s.IPv4Address)
	if err != nil {
		addr, _ := netip.ParseAddr(s.IPv4Address)
		return addr
	}
	return p.Addr()
}
