// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"korat/api"
)

// nodeAddressType is the type of the addresses that an agent lists in its Node.
const nodeAddressType = "InternalIP"

// register gives the Node object as it should be, derived from the stored one, or nil if it is so. A family that
// the node has no address of has none there.
func (id Identity) register(snap api.Snapshot, own api.Addresses) *api.Node {
	node, exists := snap.Nodes.Get(id.Node)
	if exists {
		node = node.DeepCopy()
	} else {
		node = &api.Node{}
		node.Name = id.Node
	}
	was := node.DeepCopy()
	if node.Spec.BGP == nil {
		node.Spec.BGP = &api.NodeBGPSpec{}
	}
	bgp := node.Spec.BGP
	bgp.IPv4Address, bgp.IPv6Address = prefixText(own.IPv4), prefixText(own.IPv6)
	node.Spec.Addresses = listed(node.Spec.Addresses, own, was.Spec.BGPAddresses())
	if exists && was.Spec.BGP != nil && was.Spec.BGP.IPv4Address == bgp.IPv4Address && was.Spec.BGP.IPv6Address == bgp.IPv6Address &&
		slices.Equal(was.Spec.Addresses, node.Spec.Addresses) {
		return nil
	}
	api.Default(node)
	return node
}

// prefixText gives nothing for what is invalid.
func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

// listed gives a Node's list with the agent's own addresses instead of those that it had.
func listed(all []api.NodeAddress, own, had api.Addresses) []api.NodeAddress {
	all = slices.DeleteFunc(all, func(a api.NodeAddress) bool {
		addr, err := netip.ParseAddr(a.Address)
		return err == nil && a.Type == nodeAddressType && (own.Has(addr) || had.Has(addr))
	})
	for _, p := range own.All() {
		all = append(all, api.NodeAddress{Address: p.Addr().String(), Type: nodeAddressType})
	}
	slices.SortFunc(all, func(a, b api.NodeAddress) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Address, b.Address))
	})
	return all
}

// registeredAddresses gives what the datastore has a node registered with.
func registeredAddresses(snap api.Snapshot, name string) api.Addresses {
	node, ok := snap.Nodes.Get(name)
	if !ok {
		return api.Addresses{}
	}
	return node.Spec.BGPAddresses()
}

// sourceFor asks the kernel which address it would send from. A connected UDP socket sends nothing.
func sourceFor(ctx context.Context, dest netip.Addr) (netip.Addr, error) {
	dialer := net.Dialer{Control: func(network, _ string, conn syscall.RawConn) error {
		if network == "udp6" {
			return lasting(conn)
		}
		return nil
	}}
	conn, err := dialer.DialContext(ctx, "udp", netip.AddrPortFrom(dest, 9).String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, errors.New("no local address")
	}
	return local.AddrPort().Addr().Unmap(), nil
}

// lasting keeps the kernel from choosing a temporary address (RFC 5014), which many hosts prefer (use_tempaddr).
func lasting(conn syscall.RawConn) error {
	const ipv6AddrPreferences, preferPublic = 72, 2 // linux/in6.h
	var err error
	controlErr := conn.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, ipv6AddrPreferences, preferPublic)
	})
	return errors.Join(controlErr, err)
}
