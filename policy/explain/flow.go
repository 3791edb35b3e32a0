// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"

	"korat/api"
	"korat/policy"
)

// Flow is the first packet of a connection.
type Flow struct {
	From, To End
	Protocol policy.Protocol
	// The ports count if the protocol has some.
	SourcePort, DestinationPort uint16
	// ICMP counts if the protocol is ICMP or ICMPv6.
	ICMP policy.ICMPType
	// Leaves is the interface by which the packet leaves the node of From, and Enters that by which it comes to the node
	// of To. They matter for nodes with host endpoints; if empty they are guessed.
	Leaves, Enters string
}

// End is one end of a flow. With a Node and an Interface it is the pod there; with a Node, and perhaps one of its own
// interfaces, the node itself; with an Address alone, a host outside of the cluster.
type End struct {
	Node, Interface string
	Address         netip.Addr
}

// Resolve gives the end that has the address: a pod, a node, or a host outside.
func (w *World) Resolve(addr netip.Addr) End {
	addr = addr.Unmap()
	for i := range w.parts.Endpoints {
		if ep := &w.parts.Endpoints[i]; !ep.Host && ep.has(addr) {
			return End{ep.Node, ep.Interface, addr}
		}
	}
	for _, n := range w.parts.Nodes {
		for _, a := range n.Addresses {
			if a.Unmap() == addr {
				return End{Node: n.Name, Address: addr}
			}
		}
	}
	return End{Address: addr}
}

// Named gives the ends that a name stands for, one for each address: a pod with a namespace, a node without. It is empty
// if there is none.
func (w *World) Named(namespace, name string) []End {
	var ends []End
	if namespace == "" {
		for _, n := range w.parts.Nodes {
			for _, addr := range n.Addresses {
				if n.Name == name {
					ends = append(ends, End{Node: name, Address: addr.Unmap()})
				}
			}
		}
		return ends
	}
	for _, ep := range w.Endpoints(namespace, name) {
		for _, p := range ep.Prefixes {
			ends = append(ends, End{ep.Node, ep.Interface, p.Addr()})
		}
	}
	return ends
}

// Describe gives an end's name: "default/web", "node a", or nothing for one outside of the cluster.
func (w *World) Describe(e End) string {
	s := w.locate(e)
	switch s.what {
	case pod:
		return s.pod.String()
	case hostItself:
		return "node " + s.node
	case unknown:
		return "interface " + e.Interface
	default:
		return ""
	}
}

func hasPorts(p policy.Protocol) bool {
	return p == policy.TCP || p == policy.UDP || p == policy.SCTP || p == policy.UDPLite
}

// family is that of the packet.
func (f *Flow) family() api.Family { return api.FamilyOf(f.From.Address) }
