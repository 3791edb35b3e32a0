// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"net"
	"net/netip"
)

const (
	calicoNodeIP = "CalicoNodeIP"
	sourceNodeIP = "UseNodeIP"
)

func (c *checker) bgpConfiguration(s *BGPConfigurationSpec) {
	c.oneOf("spec.logSeverityScreen", s.LogSeverityScreen, logSeverityInfo)
	if s.NodeToNodeMeshEnabled == nil {
		c.fail("spec.nodeToNodeMeshEnabled", "", "must be true or false")
	}
	if s.ASNumber == nil {
		c.fail("spec.asNumber", "", "must be set, e.g. %d", DefaultASNumber)
	} else {
		c.asNumber("spec.asNumber", *s.ASNumber)
	}
	if s.ListenPort == 0 {
		c.fail("spec.listenPort", s.ListenPort, "must be 1..65535")
	}
	c.oneOf("spec.bindMode", s.BindMode, BindNone, BindNodeIP)
	c.restartTime("spec.nodeMeshMaxRestartTime", s.NodeMeshMaxRestartTime)
}

func (c *checker) bgpPeer(s *BGPPeerSpec) {
	if s.Node != "" {
		c.onNode(s.Node)
	}
	c.unsetOr("spec.nodeSelector", s.NodeSelector, SelectAll)
	if s.Node != "" && s.NodeSelector != "" {
		c.fail("spec.nodeSelector", s.NodeSelector, "must not be set beside spec.node: remove one of them")
	}
	if peer, err := s.Address(); err != nil {
		c.fail("spec.peerIP", s.PeerIP, `must be an address with an optional port 1..65535, such as "192.0.2.1", "192.0.2.1:1179", "fd00::1" or "[fd00::1]:1179"`)
	} else if c.host("spec.peerIP", s.PeerIP, peer.Addr()) && peer.Addr().IsLoopback() {
		c.fail("spec.peerIP", s.PeerIP, "must be a neighbour's address, not loopback")
	}
	c.asNumber("spec.asNumber", s.ASNumber)
	c.restartTime("spec.maxRestartTime", s.MaxRestartTime)
	c.keepalive("spec.keepaliveTime", s.KeepaliveTime)
	c.off("spec.keepOriginalNextHop", s.KeepOriginalNextHop)
	c.unsetOr("spec.sourceAddress", s.SourceAddress, sourceNodeIP)
}

// Address gives the neighbour's address and port; the port is 0 where PeerIP has none.
func (s *BGPPeerSpec) Address() (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(s.PeerIP); err == nil {
		return netip.AddrPortFrom(addr, 0), nil
	}
	peer, err := netip.ParseAddrPort(s.PeerIP)
	if err != nil || peer.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("parse peerIP %q: neither address nor address:port", s.PeerIP)
	}
	return peer, nil
}

func (c *checker) node(s *NodeSpec) {
	if s.BGP != nil {
		if s.BGP.ASNumber != nil {
			c.asNumber("spec.bgp.asNumber", *s.BGP.ASNumber)
		}
		c.bgpAddress("spec.bgp.ipv4Address", s.BGP.IPv4Address, IPv4, "192.168.100.100/24")
		c.bgpAddress("spec.bgp.ipv6Address", s.BGP.IPv6Address, IPv6, "fd00:192:168::100/64")
	}
	for i, a := range s.Addresses {
		c.otherAddress(index("spec.addresses", i), a)
	}
	for i, ref := range s.OrchRefs {
		if ref.Orchestrator == "" {
			c.fail(index("spec.orchRefs", i)+".orchestrator", "", `must be set, e.g. "k8s"`)
		}
	}
}

func (c *checker) otherAddress(field string, a NodeAddress) {
	p, err := a.prefix()
	_, alone := netip.ParseAddr(a.Address)
	_, inSubnet := netip.ParsePrefix(a.Address)
	switch {
	case err == nil && (alone == nil || inSubnet == nil && a.Type == calicoNodeIP):
		c.host(field+".address", a.Address, p.Addr())
	case a.Type == calicoNodeIP:
		c.fail(field+".address", a.Address, `must be an address, with or without prefix length, such as "192.168.100.100/24"`)
	default:
		c.fail(field+".address", a.Address, `must be an address without prefix length, such as "192.168.100.100"`)
	}
	if a.Type != "" {
		c.oneOf(field+".type", a.Type, calicoNodeIP, "InternalIP", "ExternalIP")
	}
}

// bgpAddress checks a node's address with its subnet's length, where it has one.
func (c *checker) bgpAddress(field, value string, family Family, example string) {
	if value == "" {
		return
	}
	p, err := netip.ParsePrefix(value)
	if err != nil || p.Bits() == 0 || !family.Has(p.Addr()) {
		c.fail(field, value, "must be the node's address with its subnet's prefix length, such as %q", example)
		return
	}
	if !c.host(field, value, p.Addr()) {
		return
	}
	if p.Addr().IsLoopback() {
		c.fail(field, value, "must be an address that the other nodes can reach, not loopback")
		return
	}
	// A subnet of two addresses has none that belong to the subnet (RFC 3021, RFC 6164).
	if p.Bits() >= p.Addr().BitLen()-1 {
		return
	}
	switch {
	case p.Addr() == p.Masked().Addr() && p.Addr().Is4():
		c.fail(field, value, "is the network address of its subnet: use the host's own address")
	case p.Addr() == p.Masked().Addr():
		c.fail(field, value, "is the subnet's own, that of all its routers (RFC 4291, section 2.6.1): use the host's own address")
	case p.Addr().Is4() && p.Addr() == lastAddr(p):
		c.fail(field, value, "is the broadcast address of its subnet: use the host's own address")
	}
}

// lastAddr gives the highest address of an IPv4 prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i, m := range net.CIDRMask(p.Bits(), 32) {
		b[i] |= ^m
	}
	return netip.AddrFrom4(b)
}
