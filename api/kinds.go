// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The supported kinds.
const (
	KindIPPool             Kind = "IPPool"
	KindBGPConfiguration   Kind = "BGPConfiguration"
	KindBGPPeer            Kind = "BGPPeer"
	KindNode               Kind = "Node"
	KindWorkloadEndpoint   Kind = "WorkloadEndpoint"
	KindIPAMConfiguration  Kind = "IPAMConfiguration"
	KindIPReservation      Kind = "IPReservation"
	KindBlockAffinity      Kind = "BlockAffinity"
	KindIPAMBlock          Kind = "IPAMBlock"
	KindClusterInformation Kind = "ClusterInformation"
	KindFelixConfiguration Kind = "FelixConfiguration"
)

// KindInfo describes one kind.
//
// +kubebuilder:object:generate=false
type KindInfo struct {
	Kind Kind
	// Namespaced kinds have a namespace in their key.
	Namespaced bool
	// Singleton kinds have one object, named "default".
	Singleton bool
	// Singular and Plural are what a person types, in lower case; Aliases are calicoctl's short forms.
	Singular, Plural string
	Aliases          []string
}

// kindTable lists every supported kind in the order in which a set of manifests should be applied:
// what others refer to comes first.
func kindTable() []KindInfo {
	return []KindInfo{
		{KindClusterInformation, false, true, "clusterinformation", "clusterinformations", []string{"clusterinfo", "clusterinfos"}},
		{KindFelixConfiguration, false, true, "felixconfiguration", "felixconfigurations", []string{"felixconfig", "felixconfigs"}},
		{KindBGPConfiguration, false, true, "bgpconfiguration", "bgpconfigurations", []string{"bgpconfig", "bgpconfigs"}},
		{KindIPAMConfiguration, false, true, "ipamconfiguration", "ipamconfigurations", []string{"ipamconfig", "ipamconfigs"}},
		{KindNode, false, false, "node", "nodes", []string{"no", "nos"}},
		{KindBGPPeer, false, false, "bgppeer", "bgppeers", []string{"bgpp", "bgpps", "bp", "bps"}},
		{KindIPPool, false, false, "ippool", "ippools", []string{"ipp", "ipps", "pool", "pools"}},
		{KindIPReservation, false, false, "ipreservation", "ipreservations", []string{"reservation", "reservations"}},
		{KindIPAMBlock, false, false, "ipamblock", "ipamblocks", []string{"block", "blocks"}},
		{KindBlockAffinity, false, false, "blockaffinity", "blockaffinities", []string{"affinity", "affinities"}},
		{KindWorkloadEndpoint, true, false, "workloadendpoint", "workloadendpoints", []string{"wep", "weps"}},
	}
}

// Kinds lists every supported kind, those that others refer to first.
func Kinds() []Kind {
	table := kindTable()
	kinds := make([]Kind, len(table))
	for i, info := range table {
		kinds[i] = info.Kind
	}
	return kinds
}

// Info describes the kind; ok is false if it is not supported.
func (k Kind) Info() (info KindInfo, ok bool) {
	for _, info := range kindTable() {
		if info.Kind == k {
			return info, true
		}
	}
	return KindInfo{}, false
}

// LookupKind finds the kind that a person means: its name, singular, plural or an alias, in any case.
func LookupKind(name string) (KindInfo, error) {
	low := strings.ToLower(name)
	for _, info := range kindTable() {
		if low == info.Singular || low == info.Plural || slices.Contains(info.Aliases, low) {
			return info, nil
		}
	}
	return KindInfo{}, fmt.Errorf("kind %q is not supported by korat: use one of %s", name, supportedKinds())
}

// supportedKinds gives the kinds' names in alphabetical order, for error messages.
func supportedKinds() string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, string(k))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// New gives an empty object of a kind with its apiVersion and kind set, or nil if the kind is not supported.
func New(kind Kind) Object {
	meta := metav1.TypeMeta{APIVersion: GroupVersion, Kind: string(kind)}
	switch kind {
	case KindIPPool:
		return &IPPool{TypeMeta: meta}
	case KindBGPConfiguration:
		return &BGPConfiguration{TypeMeta: meta}
	case KindBGPPeer:
		return &BGPPeer{TypeMeta: meta}
	case KindNode:
		return &Node{TypeMeta: meta}
	case KindWorkloadEndpoint:
		return &WorkloadEndpoint{TypeMeta: meta}
	case KindIPAMConfiguration:
		return &IPAMConfiguration{TypeMeta: meta}
	case KindIPReservation:
		return &IPReservation{TypeMeta: meta}
	case KindBlockAffinity:
		return &BlockAffinity{TypeMeta: meta}
	case KindIPAMBlock:
		return &IPAMBlock{TypeMeta: meta}
	case KindClusterInformation:
		return &ClusterInformation{TypeMeta: meta}
	case KindFelixConfiguration:
		return &FelixConfiguration{TypeMeta: meta}
	}
	return nil
}
