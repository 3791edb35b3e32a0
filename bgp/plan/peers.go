// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"korat/api"
	"korat/bgp"
)

// bgpPort is BGP's well-known TCP port, which a BGPPeer without a port means.
const bgpPort = 179

// peers gives every session: a BGPPeer's settings win over the mesh's for the same address.
func (b *builder) peers() map[netip.Addr]bgp.Peer {
	nodes := b.nodeAddresses()
	peers := map[netip.Addr]bgp.Peer{}
	if b.inMesh() {
		restart := b.seconds("BGPConfiguration/default: spec.nodeMeshMaxRestartTime", b.cfg.restartTime, api.DefaultRestartTime, maxRestartTime)
		for addr, n := range nodes {
			peers[addr] = b.meshPeer(addr, n, restart)
		}
	}
	maps.Copy(peers, b.configuredPeers(nodes))
	for _, addr := range slices.SortedFunc(maps.Keys(b.in.Held), netip.Addr.Compare) {
		if p, ok := peers[addr]; ok {
			b.report(fmt.Errorf("%s peer %s (%s) is held down: %s", p.Kind, p.Name, addr, b.in.Held[addr]))
			delete(peers, addr)
		}
	}
	return peers
}

func (b *builder) inMesh() bool {
	n, ok := b.in.Snapshot.Nodes.Get(b.in.Node)
	return b.cfg.mesh && (!ok || n.Spec.BGP != nil)
}

// nodeAddresses gives the addresses of the other nodes that speak BGP, of each family that this node has
// as well: a session is between two addresses of one family. Of two nodes with one address the first by
// name stays, so that the session does not change with the order of events.
func (b *builder) nodeAddresses() map[netip.Addr]*api.Node {
	nodes := map[netip.Addr]*api.Node{}
	for name, n := range b.in.Snapshot.Nodes.All() {
		if name == b.in.Node || n.Spec.BGP == nil {
			continue
		}
		b.addNode(nodes, n, n.Spec.BGP.IPv4Address, "spec.bgp.ipv4Address", b.in.Addresses.IPv4)
		b.addNode(nodes, n, n.Spec.BGP.IPv6Address, "spec.bgp.ipv6Address", b.in.Addresses.IPv6)
	}
	return nodes
}

// addNode adds a node's address of one family, of which own is this node's.
func (b *builder) addNode(nodes map[netip.Addr]*api.Node, n *api.Node, value, field string, own netip.Prefix) {
	if value == "" || !own.IsValid() {
		return
	}
	addr, err := nodeAddress(value, own.Addr())
	if err != nil {
		b.report(fmt.Errorf("%s: %s: %w; no session to it", n.Key(), field, err))
		return
	}
	if addr == own.Addr() {
		b.report(fmt.Errorf("%s: %s %s is Node/%s's too; no session between them: give one of them another address", n.Key(), field, addr, b.in.Node))
		return
	}
	if first, dup := nodes[addr]; dup {
		b.report(fmt.Errorf("%s: %s %s is %s's too; only the latter gets a session: give one of them another address", n.Key(), field, addr, first.Key()))
		return
	}
	nodes[addr] = n
}

// nodeAddress parses a node's address of the family that own has.
func nodeAddress(s string, own netip.Addr) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if p, perr := netip.ParsePrefix(s); perr == nil {
		addr, err = p.Addr(), nil
	}
	switch {
	case err != nil && own.Is4():
		return netip.Addr{}, fmt.Errorf("%q is not an address with its subnet's length, as in 192.0.2.1/24", s)
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%q is not an address with its subnet's length, as in 2001:db8::1/64", s)
	case addr.Is4() && own.Is6():
		return netip.Addr{}, fmt.Errorf("%s is IPv4: set it as spec.bgp.ipv4Address", addr)
	case addr.Is6() && own.Is4():
		return netip.Addr{}, fmt.Errorf("%s is IPv6: set it as spec.bgp.ipv6Address", addr)
	}
	return addr, usable(addr)
}

// usable refuses what can't be a neighbour's address.
func usable(addr netip.Addr) error {
	switch {
	case addr.Is4In6():
		return fmt.Errorf("%s is an IPv4 address in IPv6's form: write %s", addr, addr.Unmap())
	case addr.Is6() && addr.IsLinkLocalUnicast():
		return fmt.Errorf("%s is link-local, which is not supported: use an address of a wider scope", addr)
	case addr.IsUnspecified(), addr.IsMulticast(), addr == netip.IPv6Loopback(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is no host's address", addr)
	}
	return nil
}

func (b *builder) meshPeer(addr netip.Addr, n *api.Node, restart time.Duration) bgp.Peer {
	as := b.cfg.as
	if n.Spec.BGP.ASNumber != nil {
		as = uint32(*n.Spec.BGP.ASNumber)
	}
	return bgp.Peer{
		Name: n.Name, Kind: bgp.MeshPeer,
		Address: addr, Port: b.cfg.port, AS: as,
		LocalAddress: b.in.Addresses.For(addr),
		Passive:      b.passive(addr),
		HoldTime:     3 * api.DefaultKeepalive,
		Keepalive:    api.DefaultKeepalive,
		RestartTime:  restart,
	}
}

// passive decides which end of a session between two nodes connects: the lower address, as a
// number. Both ends reach the same verdict, so their connections never collide (RFC 4271, 6.8).
func (b *builder) passive(neighbour netip.Addr) bool {
	return neighbour.Less(b.in.Addresses.For(neighbour))
}

// configuredPeers gives the sessions of BGPPeer objects. For one address a node specific peer wins
// over a global one, then the first by name.
func (b *builder) configuredPeers(nodes map[netip.Addr]*api.Node) map[netip.Addr]bgp.Peer {
	peers := map[netip.Addr]bgp.Peer{}
	for _, node := range []string{b.in.Node, ""} {
		for name, o := range b.in.Snapshot.BGPPeers.All() {
			if o.Spec.Node != node {
				continue
			}
			p, err := b.configuredPeer(name, o.Spec, nodes)
			switch {
			case err != nil:
				b.report(fmt.Errorf("BGPPeer/%s: %w; no session to it", name, err))
			case p.LocalAddress.IsValid():
				b.addPeer(peers, p)
			}
		}
	}
	return peers
}

// addPeer adds a session unless its address has one already.
func (b *builder) addPeer(peers map[netip.Addr]bgp.Peer, p bgp.Peer) {
	first, dup := peers[p.Address]
	switch {
	case b.in.Addresses.Has(p.Address): // a global peer that is this node: the other nodes' peer
	case !dup:
		peers[p.Address] = p
	case first.Kind == p.Kind:
		b.report(fmt.Errorf("BGPPeer/%s: spec.peerIP %s is BGPPeer/%s's too, whose settings are used: delete one of them", p.Name, p.Address, first.Name))
	}
}

// configuredPeer gives the session of a BGPPeer. Without a local address it is one that this node can't
// have: a global peer may be meant for nodes of the other family.
func (b *builder) configuredPeer(name string, s api.BGPPeerSpec, nodes map[netip.Addr]*api.Node) (bgp.Peer, error) {
	addr, port, err := peerAddress(s.PeerIP)
	if err != nil {
		return bgp.Peer{}, fmt.Errorf("spec.peerIP: %w", err)
	}
	if s.ASNumber == 0 {
		return bgp.Peer{}, errors.New("spec.asNumber is 0: set the neighbour's AS number")
	}
	if s.Node != "" && b.in.Addresses.Has(addr) {
		return bgp.Peer{}, fmt.Errorf("spec.peerIP %s is this node's own address", addr)
	}
	if s.Node != "" && !b.in.Addresses.For(addr).IsValid() {
		return bgp.Peer{}, fmt.Errorf("spec.peerIP %s is %s, of which this node has no address: %s", addr, api.FamilyOf(addr), remedy(addr))
	}
	_, isNode := nodes[addr]
	if port == 0 {
		port = bgpPort
		if isNode {
			port = b.cfg.port
		}
	}
	field := "BGPPeer/" + name + ": spec."
	keepalive := b.seconds(field+"keepaliveTime", s.KeepaliveTime, api.DefaultKeepalive, maxHoldTime/3)
	p := bgp.Peer{
		Name: name, Kind: bgp.GlobalPeer,
		Address: addr, Port: port, AS: uint32(s.ASNumber),
		LocalAddress: b.in.Addresses.For(addr),
		Passive:      isNode && b.passive(addr),
		HoldTime:     3 * keepalive,
		Keepalive:    keepalive,
		RestartTime:  b.seconds(field+"maxRestartTime", s.MaxRestartTime, api.DefaultRestartTime, maxRestartTime),
	}
	if s.Node != "" {
		p.Kind = bgp.NodePeer
	}
	return p, nil
}

// peerAddress parses "192.0.2.1", "192.0.2.1:1179", "2001:db8::1" or "[2001:db8::1]:1179"; the port is 0
// when there is none.
func peerAddress(s string) (netip.Addr, uint16, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		if ap.Port() == 0 {
			return netip.Addr{}, 0, fmt.Errorf("%q has port 0: leave the port out for 179", s)
		}
		return ap.Addr(), ap.Port(), usable(ap.Addr())
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("%q is neither an address (192.0.2.1, 2001:db8::1) nor one with a port (192.0.2.1:179, [2001:db8::1]:179)", s)
	}
	return addr, 0, usable(addr)
}
