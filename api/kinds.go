// SPDX-License-Identifier: Apache-2.0

package api

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
