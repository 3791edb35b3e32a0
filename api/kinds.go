// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The supported kinds. A kind's name here is unique; its manifest's may not be.
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

	KindTier                      Kind = "Tier"
	KindProfile                   Kind = "Profile"
	KindNetworkPolicy             Kind = "NetworkPolicy"
	KindGlobalNetworkPolicy       Kind = "GlobalNetworkPolicy"
	KindStagedNetworkPolicy       Kind = "StagedNetworkPolicy"
	KindStagedGlobalNetworkPolicy Kind = "StagedGlobalNetworkPolicy"
	KindNetworkSet                Kind = "NetworkSet"
	KindGlobalNetworkSet          Kind = "GlobalNetworkSet"
	KindHostEndpoint              Kind = "HostEndpoint"
	// KindKubernetesNetworkPolicy is the NetworkPolicy of networking.k8s.io/v1.
	KindKubernetesNetworkPolicy Kind = "KubernetesNetworkPolicy"
	KindClusterNetworkPolicy    Kind = "ClusterNetworkPolicy"
	// KindEndpointSlice is that of discovery.k8s.io/v1.
	KindEndpointSlice Kind = "EndpointSlice"
)

// KindInfo describes one kind.
//
// +kubebuilder:object:generate=false
type KindInfo struct {
	Kind Kind
	// APIVersion and Manifest are a manifest's apiVersion and kind. Together they are unique.
	APIVersion, Manifest string
	// Namespaced kinds have a namespace in their key.
	Namespaced bool
	// Singleton kinds have one object, named "default".
	Singleton bool
	// Singular and Plural are what a person types, in lower case.
	Singular, Plural string
	// Aliases are calicoctl's short forms, separated by spaces.
	Aliases string
}

// kindTable lists every supported kind in the order in which a set of manifests should be applied:
// what others refer to comes first.
func kindTable() [23]KindInfo {
	return [...]KindInfo{
		{KindClusterInformation, GroupVersion, "ClusterInformation", false, true, "clusterinformation", "clusterinformations", "clusterinfo clusterinfos"},
		{KindFelixConfiguration, GroupVersion, "FelixConfiguration", false, true, "felixconfiguration", "felixconfigurations", "felixconfig felixconfigs"},
		{KindBGPConfiguration, GroupVersion, "BGPConfiguration", false, true, "bgpconfiguration", "bgpconfigurations", "bgpconfig bgpconfigs"},
		{KindIPAMConfiguration, GroupVersion, "IPAMConfiguration", false, true, "ipamconfiguration", "ipamconfigurations", "ipamconfig ipamconfigs"},
		{KindNode, GroupVersion, "Node", false, false, "node", "nodes", "no nos"},
		{KindBGPPeer, GroupVersion, "BGPPeer", false, false, "bgppeer", "bgppeers", "bgpp bgpps bp bps"},
		{KindIPPool, GroupVersion, "IPPool", false, false, "ippool", "ippools", "ipp ipps pool pools"},
		{KindIPReservation, GroupVersion, "IPReservation", false, false, "ipreservation", "ipreservations", "reservation reservations"},
		{KindIPAMBlock, GroupVersion, "IPAMBlock", false, false, "ipamblock", "ipamblocks", "block blocks"},
		{KindBlockAffinity, GroupVersion, "BlockAffinity", false, false, "blockaffinity", "blockaffinities", "affinity affinities"},
		{KindTier, GroupVersion, "Tier", false, false, "tier", "tiers", ""},
		{KindProfile, GroupVersion, "Profile", false, false, "profile", "profiles", "pro pros"},
		{KindNetworkSet, GroupVersion, "NetworkSet", true, false, "networkset", "networksets", "netset netsets"},
		{KindGlobalNetworkSet, GroupVersion, "GlobalNetworkSet", false, false, "globalnetworkset", "globalnetworksets", "gnetset gnetsets"},
		{KindEndpointSlice, "discovery.k8s.io/v1", "EndpointSlice", true, false, "endpointslice", "endpointslices", "eps"},
		{KindNetworkPolicy, GroupVersion, "NetworkPolicy", true, false, "networkpolicy", "networkpolicies", "policy policies np pol pols"},
		{KindGlobalNetworkPolicy, GroupVersion, "GlobalNetworkPolicy", false, false, "globalnetworkpolicy", "globalnetworkpolicies", "gnp gnps"},
		{KindStagedNetworkPolicy, GroupVersion, "StagedNetworkPolicy", true, false, "stagednetworkpolicy", "stagednetworkpolicies", "stagedpolicy stagedpolicies snp snps spol spols"},
		{KindStagedGlobalNetworkPolicy, GroupVersion, "StagedGlobalNetworkPolicy", false, false, "stagedglobalnetworkpolicy", "stagedglobalnetworkpolicies", "sgnp sgnps"},
		{KindKubernetesNetworkPolicy, "networking.k8s.io/v1", "NetworkPolicy", true, false, "kubernetesnetworkpolicy", "kubernetesnetworkpolicies", "knp knps"},
		{KindClusterNetworkPolicy, "policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", false, false, "clusternetworkpolicy", "clusternetworkpolicies", "cnp cnps"},
		{KindHostEndpoint, GroupVersion, "HostEndpoint", false, false, "hostendpoint", "hostendpoints", "hep heps"},
		{KindWorkloadEndpoint, GroupVersion, "WorkloadEndpoint", true, false, "workloadendpoint", "workloadendpoints", "wep weps"},
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
		if low == info.Singular || low == info.Plural || slices.Contains(strings.Fields(info.Aliases), low) {
			return info, nil
		}
	}
	return KindInfo{}, fmt.Errorf("kind %q is not supported by korat: use one of %s", name, supportedKinds())
}

// supportedKinds gives the kinds' names in alphabetical order, for error messages.
func supportedKinds() string {
	var names []string
	for _, info := range kindTable() {
		names = append(names, string(info.Kind))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// manifestKind finds the kind that manifests with this apiVersion and kind are of.
func manifestKind(apiVersion, kind string) (KindInfo, bool) {
	for _, info := range kindTable() {
		if info.APIVersion == apiVersion && info.Manifest == kind {
			return info, true
		}
	}
	return KindInfo{}, false
}

// apiVersions lists those that manifests with this kind may have.
func apiVersions(kind string) []string {
	var versions []string
	for _, info := range kindTable() {
		if info.Manifest == kind {
			versions = append(versions, info.APIVersion)
		}
	}
	return versions
}

// supportedManifests gives what a manifest's kind may be in alphabetical order, for error messages.
func supportedManifests() string {
	var names []string
	for _, info := range kindTable() {
		names = append(names, info.Manifest)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// New gives an empty object of a kind with its manifest's apiVersion and kind set, or nil if the kind is not
// supported.
func New(kind Kind) Object {
	obj := new(Snapshot).table(kind).zero()
	if obj != nil {
		SetType(obj)
	}
	return obj
}

// SetType gives the object the apiVersion and kind of its manifest.
func SetType(obj Object) {
	info, _ := obj.Key().Kind.Info()
	obj.GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(info.APIVersion, info.Manifest))
}
