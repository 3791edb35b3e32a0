// SPDX-License-Identifier: Apache-2.0

// Package endpoint holds the CNI record: what this node knows of a pod's interface that the CNI
// plugin attached here. It is the authority on local pods; the datastore only mirrors it.
package endpoint

import (
	"net/netip"
	"time"
)

// ID names an attachment as the runtime does. (CNI spec: container ID and interface name together
// identify an attachment.)
type ID struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

// String gives "<container>/<interface>".
func (id ID) String() string { return id.ContainerID + "/" + id.IfName }

// Endpoint is one attachment.
type Endpoint struct {
	ID
	// Network is the CNI network's name.
	Network string `json:"network"`
	// Namespace and Pod name the workload; without Kubernetes they are "default" and the container ID.
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	// NetNS is the path of the pod's network namespace at ADD.
	NetNS string `json:"netns"`
	// Interface is the host's side of the pair.
	Interface string `json:"interface"`
	// MAC is the pod's side's hardware address, empty until Ready.
	MAC string `json:"mac,omitempty"`
	// MTU in bytes.
	MTU int `json:"mtu"`
	// Addresses that ipam gave it.
	Addresses []netip.Addr `json:"addresses"`
	// Ready is false between the handing out of addresses and the plugin's word that the pair exists.
	Ready bool `json:"ready"`
	// Since is when the addresses were handed out.
	Since time.Time `json:"since"`
	// Traits are what the runtime said of the pod at ADD.
	Traits Traits `json:"traits,omitzero"`
}

// Handle is the IPAM handle, "<network>.<container ID>.<interface>".
func (e Endpoint) Handle() string { return e.Network + "." + e.ContainerID + "." + e.IfName }

// Alias is what its interface's alias says, before it is shortened. The names in a record that was
// recovered from an alias may be shortened themselves.
func (e Endpoint) Alias() Alias {
	return Alias{ID: e.ID, Namespace: e.Namespace, Pod: e.Pod, Addresses: e.Addresses}
}
