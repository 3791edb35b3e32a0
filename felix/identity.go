// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"korat/api"
	"korat/felix/autodetect"
	"korat/felix/dataplane"
)

// Identity says who this node is and how it finds its address.
type Identity struct {
	// Node is the node's name.
	Node string
	// Address fixes the node's address; invalid means that Method chooses.
	Address netip.Addr
	Method  autodetect.Method
}

// choose picks the node's address: the configured one; else the one that its Node object already
// has, as long as some interface carries it, be that link up or down (an address that works is never
// changed silently, and a flap of the uplink must not move the node to another); else the method's choice.
func (id Identity) choose(ctx context.Context, snap api.Snapshot, host dataplane.Host) (autodetect.Choice, error) {
	if id.Address.IsValid() {
		if c, ok := autodetect.Find(host, id.Address); ok {
			return c, nil
		}
		return autodetect.Choice{}, fmt.Errorf("address %s given by --ip is on no running interface", id.Address)
	}
	if addr, ok := nodeAddress(snap, id.Node); ok {
		if c, ok := autodetect.FindAny(host, addr); ok {
			return c, nil
		}
	}
	return id.Method.Choose(host, func(dest netip.Addr) (netip.Addr, error) { return sourceFor(ctx, dest) })
}

// conflict reports another node that holds addr.
func (id Identity) conflict(snap api.Snapshot, addr netip.Addr) error {
	for name := range snap.Nodes.All() {
		if other, ok := nodeAddress(snap, name); ok && name != id.Node && other == addr {
			return fmt.Errorf("address %s is held by node %q in the datastore: delete that Node if it is gone, or give this node another address with --ip", addr, name)
		}
	}
	return nil
}

// register gives the Node object as it should be, derived from the stored one, or nil if it is so.
func (id Identity) register(snap api.Snapshot, addr netip.Prefix) *api.Node {
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
	node.Spec.BGP.IPv4Address = addr.String()
	want := api.NodeAddress{Address: addr.Addr().String(), Type: "InternalIP"}
	node.Spec.Addresses = slices.DeleteFunc(node.Spec.Addresses, func(a api.NodeAddress) bool { return a.Type == want.Type })
	node.Spec.Addresses = append(node.Spec.Addresses, want)
	slices.SortFunc(node.Spec.Addresses, func(a, b api.NodeAddress) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Address, b.Address))
	})
	if exists && was.Spec.BGP != nil && was.Spec.BGP.IPv4Address == node.Spec.BGP.IPv4Address && slices.Equal(was.Spec.Addresses, node.Spec.Addresses) {
		return nil
	}
	api.Default(node)
	return node
}

func nodeAddress(snap api.Snapshot, name string) (netip.Addr, bool) {
	node, ok := snap.Nodes.Get(name)
	if !ok || node.Spec.BGP == nil {
		return netip.Addr{}, false
	}
	p, err := netip.ParsePrefix(node.Spec.BGP.IPv4Address)
	return p.Addr(), err == nil
}

// sourceFor asks the kernel which address it would send from. A connected UDP socket sends nothing.
func sourceFor(ctx context.Context, dest netip.Addr) (netip.Addr, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp4", netip.AddrPortFrom(dest, 9).String())
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
