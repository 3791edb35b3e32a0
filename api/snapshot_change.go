// SPDX-License-Identifier: Apache-2.0

package api

import "iter"

// TableName is the name under which a Table holds the object: "name" or "namespace/name".
func (k Key) TableName() string {
	if k.Namespace == "" {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// With gives the Snapshot with the object set in its kind's table.
func (s Snapshot) With(obj Object) Snapshot {
	name := obj.Key().TableName()
	switch o := obj.(type) {
	case *IPPool:
		s.IPPools = s.IPPools.With(name, o)
	case *BGPConfiguration:
		s.BGPConfigurations = s.BGPConfigurations.With(name, o)
	case *BGPPeer:
		s.BGPPeers = s.BGPPeers.With(name, o)
	case *Node:
		s.Nodes = s.Nodes.With(name, o)
	case *WorkloadEndpoint:
		s.WorkloadEndpoints = s.WorkloadEndpoints.With(name, o)
	case *IPAMConfiguration:
		s.IPAMConfigurations = s.IPAMConfigurations.With(name, o)
	case *IPReservation:
		s.IPReservations = s.IPReservations.With(name, o)
	case *BlockAffinity:
		s.BlockAffinities = s.BlockAffinities.With(name, o)
	case *IPAMBlock:
		s.IPAMBlocks = s.IPAMBlocks.With(name, o)
	case *ClusterInformation:
		s.ClusterInformations = s.ClusterInformations.With(name, o)
	case *FelixConfiguration:
		s.FelixConfigurations = s.FelixConfigurations.With(name, o)
	case *Tier:
		s.Tiers = s.Tiers.With(name, o)
	case *Profile:
		s.Profiles = s.Profiles.With(name, o)
	case *NetworkPolicy:
		s.NetworkPolicies = s.NetworkPolicies.With(name, o)
	case *GlobalNetworkPolicy:
		s.GlobalNetworkPolicies = s.GlobalNetworkPolicies.With(name, o)
	case *StagedNetworkPolicy:
		s.StagedNetworkPolicies = s.StagedNetworkPolicies.With(name, o)
	case *StagedGlobalNetworkPolicy:
		s.StagedGlobalNetworkPolicies = s.StagedGlobalNetworkPolicies.With(name, o)
	case *NetworkSet:
		s.NetworkSets = s.NetworkSets.With(name, o)
	case *GlobalNetworkSet:
		s.GlobalNetworkSets = s.GlobalNetworkSets.With(name, o)
	case *HostEndpoint:
		s.HostEndpoints = s.HostEndpoints.With(name, o)
	case *KubernetesNetworkPolicy:
		s.KubernetesNetworkPolicies = s.KubernetesNetworkPolicies.With(name, o)
	case *ClusterNetworkPolicy:
		s.ClusterNetworkPolicies = s.ClusterNetworkPolicies.With(name, o)
	case *EndpointSlice:
		s.EndpointSlices = s.EndpointSlices.With(name, o)
	}
	return s
}

// Without gives the Snapshot without the object.
func (s Snapshot) Without(key Key) Snapshot {
	name := key.TableName()
	switch key.Kind {
	case KindIPPool:
		s.IPPools = s.IPPools.Without(name)
	case KindBGPConfiguration:
		s.BGPConfigurations = s.BGPConfigurations.Without(name)
	case KindBGPPeer:
		s.BGPPeers = s.BGPPeers.Without(name)
	case KindNode:
		s.Nodes = s.Nodes.Without(name)
	case KindWorkloadEndpoint:
		s.WorkloadEndpoints = s.WorkloadEndpoints.Without(name)
	case KindIPAMConfiguration:
		s.IPAMConfigurations = s.IPAMConfigurations.Without(name)
	case KindIPReservation:
		s.IPReservations = s.IPReservations.Without(name)
	case KindBlockAffinity:
		s.BlockAffinities = s.BlockAffinities.Without(name)
	case KindIPAMBlock:
		s.IPAMBlocks = s.IPAMBlocks.Without(name)
	case KindClusterInformation:
		s.ClusterInformations = s.ClusterInformations.Without(name)
	case KindFelixConfiguration:
		s.FelixConfigurations = s.FelixConfigurations.Without(name)
	case KindTier:
		s.Tiers = s.Tiers.Without(name)
	case KindProfile:
		s.Profiles = s.Profiles.Without(name)
	case KindNetworkPolicy:
		s.NetworkPolicies = s.NetworkPolicies.Without(name)
	case KindGlobalNetworkPolicy:
		s.GlobalNetworkPolicies = s.GlobalNetworkPolicies.Without(name)
	case KindStagedNetworkPolicy:
		s.StagedNetworkPolicies = s.StagedNetworkPolicies.Without(name)
	case KindStagedGlobalNetworkPolicy:
		s.StagedGlobalNetworkPolicies = s.StagedGlobalNetworkPolicies.Without(name)
	case KindNetworkSet:
		s.NetworkSets = s.NetworkSets.Without(name)
	case KindGlobalNetworkSet:
		s.GlobalNetworkSets = s.GlobalNetworkSets.Without(name)
	case KindHostEndpoint:
		s.HostEndpoints = s.HostEndpoints.Without(name)
	case KindKubernetesNetworkPolicy:
		s.KubernetesNetworkPolicies = s.KubernetesNetworkPolicies.Without(name)
	case KindClusterNetworkPolicy:
		s.ClusterNetworkPolicies = s.ClusterNetworkPolicies.Without(name)
	case KindEndpointSlice:
		s.EndpointSlices = s.EndpointSlices.Without(name)
	}
	return s
}

// objectTable is a Table of whatever kind.
type objectTable interface {
	object(name string) (Object, bool)
	objects() iter.Seq[Object]
}

func (t Table[T]) object(name string) (Object, bool) {
	obj, ok := t.Get(name)
	if !ok {
		return nil, false
	}
	return obj, true
}

func (t Table[T]) objects() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for _, obj := range t.All() {
			if !yield(obj) {
				return
			}
		}
	}
}

// table gives the kind's table; an unsupported kind has an empty one.
func (s Snapshot) table(kind Kind) objectTable {
	switch kind {
	case KindIPPool:
		return s.IPPools
	case KindBGPConfiguration:
		return s.BGPConfigurations
	case KindBGPPeer:
		return s.BGPPeers
	case KindNode:
		return s.Nodes
	case KindWorkloadEndpoint:
		return s.WorkloadEndpoints
	case KindIPAMConfiguration:
		return s.IPAMConfigurations
	case KindIPReservation:
		return s.IPReservations
	case KindBlockAffinity:
		return s.BlockAffinities
	case KindIPAMBlock:
		return s.IPAMBlocks
	case KindClusterInformation:
		return s.ClusterInformations
	case KindFelixConfiguration:
		return s.FelixConfigurations
	case KindTier:
		return s.Tiers
	case KindProfile:
		return s.Profiles
	case KindNetworkPolicy:
		return s.NetworkPolicies
	case KindGlobalNetworkPolicy:
		return s.GlobalNetworkPolicies
	case KindStagedNetworkPolicy:
		return s.StagedNetworkPolicies
	case KindStagedGlobalNetworkPolicy:
		return s.StagedGlobalNetworkPolicies
	case KindNetworkSet:
		return s.NetworkSets
	case KindGlobalNetworkSet:
		return s.GlobalNetworkSets
	case KindHostEndpoint:
		return s.HostEndpoints
	case KindKubernetesNetworkPolicy:
		return s.KubernetesNetworkPolicies
	case KindClusterNetworkPolicy:
		return s.ClusterNetworkPolicies
	case KindEndpointSlice:
		return s.EndpointSlices
	}
	return Table[Object]{}
}

// Get returns the object with the given key.
func (s Snapshot) Get(key Key) (Object, bool) { return s.table(key.Kind).object(key.TableName()) }

// Objects yields every object of a kind, in the Table's order.
func (s Snapshot) Objects(kind Kind) iter.Seq[Object] { return s.table(kind).objects() }
