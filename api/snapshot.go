// SPDX-License-Identifier: Apache-2.0

package api

import "iter"

// Snapshot is one immutable picture of the datastore. Copying it is cheap: the tables share
// their structure with the Snapshots before and after.
//
// +kubebuilder:object:generate=false
type Snapshot struct {
	// InSync is true once every kind has been listed; nothing may be written before.
	InSync bool

	RoutingTables
	PolicyTables
}

// RoutingTables hold who is where, and how it is reached.
//
// +kubebuilder:object:generate=false
type RoutingTables struct {
	IPPools             Table[*IPPool]
	BGPConfigurations   Table[*BGPConfiguration]
	BGPPeers            Table[*BGPPeer]
	Nodes               Table[*Node]
	WorkloadEndpoints   Table[*WorkloadEndpoint]
	IPAMConfigurations  Table[*IPAMConfiguration]
	IPReservations      Table[*IPReservation]
	BlockAffinities     Table[*BlockAffinity]
	IPAMBlocks          Table[*IPAMBlock]
	ClusterInformations Table[*ClusterInformation]
	FelixConfigurations Table[*FelixConfiguration]
}

// PolicyTables hold who may speak with whom.
//
// +kubebuilder:object:generate=false
type PolicyTables struct {
	Tiers                       Table[*Tier]
	Profiles                    Table[*Profile]
	NetworkPolicies             Table[*NetworkPolicy]
	GlobalNetworkPolicies       Table[*GlobalNetworkPolicy]
	StagedNetworkPolicies       Table[*StagedNetworkPolicy]
	StagedGlobalNetworkPolicies Table[*StagedGlobalNetworkPolicy]
	NetworkSets                 Table[*NetworkSet]
	GlobalNetworkSets           Table[*GlobalNetworkSet]
	HostEndpoints               Table[*HostEndpoint]
	KubernetesNetworkPolicies   Table[*KubernetesNetworkPolicy]
	ClusterNetworkPolicies      Table[*ClusterNetworkPolicy]
	EndpointSlices              Table[*EndpointSlice]
}

// DatastoreReady is false while ClusterInformation says that nobody may write, as for a migration.
func (s Snapshot) DatastoreReady() bool {
	info, ok := s.ClusterInformations.Get(DefaultName)
	return !ok || info.Spec.DatastoreReady == nil || *info.Spec.DatastoreReady
}

// longestBlockName is the longest name that an IPAMBlock has: that of an IPv6 prefix without zeros.
const longestBlockName = len("ffff-ffff-ffff-ffff-ffff-ffff-ffff-ffff-128")

// AffinitiesOf yields a node's BlockAffinities, in order of their names. It finds them by their names,
// so that it costs the same in a cluster of any size; one that is not named as AffinityName says is not
// among them.
func (s Snapshot) AffinitiesOf(node string) iter.Seq2[string, *BlockAffinity] {
	named := s.BlockAffinities.Under(node + "-")
	if len(node)+1+longestBlockName > maxNameLength {
		named = s.BlockAffinities.All() // names that would be too long are shortened
	}
	return func(yield func(string, *BlockAffinity) bool) {
		for name, aff := range named {
			// Another node's name may begin as this one's.
			if aff.Spec.Node == node && !yield(name, aff) {
				return
			}
		}
	}
}
