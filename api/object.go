// SPDX-License-Identifier: Apache-2.0

package api

// Key implements Object.
func (o *IPPool) Key() Key { return Key{KindIPPool, "", o.Name} }

// DeepCopyObject implements Object.
func (o *IPPool) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *BGPConfiguration) Key() Key { return Key{KindBGPConfiguration, "", o.Name} }

// DeepCopyObject implements Object.
func (o *BGPConfiguration) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *BGPPeer) Key() Key { return Key{KindBGPPeer, "", o.Name} }

// DeepCopyObject implements Object.
func (o *BGPPeer) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *Node) Key() Key { return Key{KindNode, "", o.Name} }

// DeepCopyObject implements Object.
func (o *Node) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *WorkloadEndpoint) Key() Key { return Key{KindWorkloadEndpoint, o.Namespace, o.Name} }

// DeepCopyObject implements Object.
func (o *WorkloadEndpoint) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *IPAMConfiguration) Key() Key { return Key{KindIPAMConfiguration, "", o.Name} }

// DeepCopyObject implements Object.
func (o *IPAMConfiguration) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *IPReservation) Key() Key { return Key{KindIPReservation, "", o.Name} }

// DeepCopyObject implements Object.
func (o *IPReservation) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *BlockAffinity) Key() Key { return Key{KindBlockAffinity, "", o.Name} }

// DeepCopyObject implements Object.
func (o *BlockAffinity) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *IPAMBlock) Key() Key { return Key{KindIPAMBlock, "", o.Name} }

// DeepCopyObject implements Object.
func (o *IPAMBlock) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *ClusterInformation) Key() Key { return Key{KindClusterInformation, "", o.Name} }

// DeepCopyObject implements Object.
func (o *ClusterInformation) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *FelixConfiguration) Key() Key { return Key{KindFelixConfiguration, "", o.Name} }

// DeepCopyObject implements Object.
func (o *FelixConfiguration) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *Tier) Key() Key { return Key{KindTier, "", o.Name} }

// DeepCopyObject implements Object.
func (o *Tier) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *Profile) Key() Key { return Key{KindProfile, "", o.Name} }

// DeepCopyObject implements Object.
func (o *Profile) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *NetworkPolicy) Key() Key { return Key{KindNetworkPolicy, o.Namespace, o.Name} }

// DeepCopyObject implements Object.
func (o *NetworkPolicy) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *GlobalNetworkPolicy) Key() Key { return Key{KindGlobalNetworkPolicy, "", o.Name} }

// DeepCopyObject implements Object.
func (o *GlobalNetworkPolicy) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *StagedNetworkPolicy) Key() Key { return Key{KindStagedNetworkPolicy, o.Namespace, o.Name} }

// DeepCopyObject implements Object.
func (o *StagedNetworkPolicy) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *StagedGlobalNetworkPolicy) Key() Key { return Key{KindStagedGlobalNetworkPolicy, "", o.Name} }

// DeepCopyObject implements Object.
func (o *StagedGlobalNetworkPolicy) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *NetworkSet) Key() Key { return Key{KindNetworkSet, o.Namespace, o.Name} }

// DeepCopyObject implements Object.
func (o *NetworkSet) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *GlobalNetworkSet) Key() Key { return Key{KindGlobalNetworkSet, "", o.Name} }

// DeepCopyObject implements Object.
func (o *GlobalNetworkSet) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *HostEndpoint) Key() Key { return Key{KindHostEndpoint, "", o.Name} }

// DeepCopyObject implements Object.
func (o *HostEndpoint) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *KubernetesNetworkPolicy) Key() Key {
	return Key{KindKubernetesNetworkPolicy, o.Namespace, o.Name}
}

// DeepCopyObject implements Object.
func (o *KubernetesNetworkPolicy) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *ClusterNetworkPolicy) Key() Key { return Key{KindClusterNetworkPolicy, "", o.Name} }

// DeepCopyObject implements Object.
func (o *ClusterNetworkPolicy) DeepCopyObject() Object { return o.DeepCopy() }

// Key implements Object.
func (o *EndpointSlice) Key() Key { return Key{KindEndpointSlice, o.Namespace, o.Name} }

// DeepCopyObject implements Object.
func (o *EndpointSlice) DeepCopyObject() Object { return o.DeepCopy() }
