// SPDX-License-Identifier: Apache-2.0

// Package podnet is the pod's side of the network: the veth pair, and inside the pod's network
// namespace its addresses, routes and gateway neighbours. Besides felix/kernel it is the only package
// that touches the kernel. It neither chooses addresses nor writes the host's routes and sysctls.
//
// The CNI plugin calls it. Open create_linux.go first.
package podnet

import (
	"errors"
	"net/netip"

	"korat/felix/endpoint"
)

// HostMAC is the hardware address of the host's side of every pair. (As Calico's.)
const HostMAC = "ee:ee:ee:ee:ee:ee"

// Pair is a pod's veth pair and what belongs to it inside the pod, as wanted.
type Pair struct {
	// ID names container and interface inside the pod.
	endpoint.ID
	Namespace string
	Pod       string
	// NetNS is the path of the pod's network namespace.
	NetNS string
	// Interface is the host's side.
	Interface string
	// MAC of the pod's side; empty for a random one (Create) or any (Check).
	MAC string
	// MTU of both sides; 0 for the kernel's default (Create) or any (Check).
	MTU int
	// Addresses of the pod's side, each as a prefix of its own (/32, /128). The pod has a gateway of their
	// families, and nothing of another.
	Addresses []netip.Addr
	// Forwarding says whether the pod may forward packets. Check leaves it to whoever set it.
	Forwarding bool
}

// Alias gives the alias that marks the host's side as the pair's.
func (p Pair) Alias() endpoint.Alias {
	return endpoint.Alias{ID: p.ID, Namespace: p.Namespace, Pod: p.Pod, Addresses: p.Addresses}
}

// Later is what plugins that came after us made of the pod's side; zero values are what we made.
type Later struct {
	// MAC that replaced ours. The kernel emptied the interface's neighbour table when it was set, so
	// the gateway's entry is not expected.
	MAC string
	MTU int
	// AnyMTU is set when nobody says what became of the MTU: results have it from CNI 1.1.0 on.
	AnyMTU bool
}

// Made is what Create found or made.
type Made struct {
	// MAC of the pod's side.
	MAC string
	// New is false when the very pair existed already.
	New bool
}

// The errors that callers branch on.
var (
	// ErrNoNetNS: nothing is there.
	ErrNoNetNS = errors.New("no such network namespace")
	// ErrNotNetNS: something is there that is no network namespace.
	ErrNotNetNS = errors.New("not a network namespace")
	// ErrOwnNetNS: it is the one that the caller is in.
	ErrOwnNetNS = errors.New("the host's own network namespace")
	// ErrTaken: an interface that is not korat's has a name that the pair needs.
	ErrTaken = errors.New("interface is not korat's")
)
