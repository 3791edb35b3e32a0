// SPDX-License-Identifier: Apache-2.0

package api

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPPool is a range that pods get addresses from, cut into blocks of Spec.BlockSize.
type IPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              IPPoolSpec `json:"spec,omitempty"`
}

// IPPoolSpec describes the range and how it is used.
type IPPoolSpec struct {
	// CIDR is the range, without host bits, e.g. "172.17.0.0/16" or "fd00:10:244::/48". Immutable.
	CIDR string `json:"cidr"`
	// BlockSize is the prefix length of the blocks: 20..32 for IPv4 [26], 116..128 for IPv6 [122]. Immutable.
	BlockSize int `json:"blockSize,omitempty"`
	// IPIPMode and VXLANMode must be Never until tunnels are supported.
	IPIPMode  string `json:"ipipMode,omitempty"`
	VXLANMode string `json:"vxlanMode,omitempty"`
	// NATOutgoing says that what the pool's pods send to addresses outside of all pools gets the address of their node.
	NATOutgoing bool `json:"natOutgoing,omitempty"`
	// Disabled stops new assignments; existing addresses stay routed.
	Disabled bool `json:"disabled,omitempty"`
	// DisableBGPExport keeps the pool's blocks from being advertised.
	DisableBGPExport bool `json:"disableBGPExport,omitempty"`
	// NodeSelector says by their labels which nodes get addresses from the pool [all()].
	NodeSelector string `json:"nodeSelector,omitempty"`
	// NamespaceSelector must be "all()" until selectors of namespaces are supported.
	NamespaceSelector string `json:"namespaceSelector,omitempty"`
	// AllowedUses are Workload, Tunnel or both. A pool without Workload gives pods nothing.
	AllowedUses []string `json:"allowedUses,omitempty"`
	// AssignmentMode Manual keeps the pool for requests that name it or one of its addresses [Automatic].
	AssignmentMode string `json:"assignmentMode,omitempty"`
}

// BGPConfiguration holds the cluster's BGP settings; its only supported name is "default".
type BGPConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              BGPConfigurationSpec `json:"spec,omitempty"`
}

// BGPConfigurationSpec is the subset of Calico's that korat supports.
type BGPConfigurationSpec struct {
	// LogSeverityScreen is accepted for Calico's manifests and must be empty or Info.
	LogSeverityScreen string `json:"logSeverityScreen,omitempty"`
	// NodeToNodeMeshEnabled makes every node a peer of every other [true].
	NodeToNodeMeshEnabled *bool `json:"nodeToNodeMeshEnabled,omitempty"`
	// ASNumber is the AS of nodes that set none of their own [64512].
	ASNumber *ASNumber `json:"asNumber,omitempty"`
	// ListenPort is the TCP port on which every node's speaker listens [179].
	ListenPort uint16 `json:"listenPort,omitempty"`
	// BindMode is None (listen on every address) or NodeIP (on the node's own) [None].
	BindMode string `json:"bindMode,omitempty"`
	// NodeMeshMaxRestartTime is the graceful-restart time of mesh sessions [120s].
	NodeMeshMaxRestartTime *metav1.Duration `json:"nodeMeshMaxRestartTime,omitempty"`
}

// BGPPeer is a session that is configured by hand, beside the mesh.
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              BGPPeerSpec `json:"spec,omitempty"`
}

// BGPPeerSpec is the subset of Calico's that korat supports.
type BGPPeerSpec struct {
	// Node limits the peer to one node; empty means every node.
	Node string `json:"node,omitempty"`
	// NodeSelector must be empty or "all()", which mean the same, until selectors are supported.
	NodeSelector string `json:"nodeSelector,omitempty"`
	// PeerIP is the neighbour's address, with an optional port: "192.0.2.1", "192.0.2.1:1179", "fd00::1" or
	// "[fd00::1]:1179". The session carries the routes of the address's own family.
	PeerIP string `json:"peerIP"`
	// ASNumber is the neighbour's AS.
	ASNumber ASNumber `json:"asNumber"`
	// MaxRestartTime is the graceful-restart time [120s].
	MaxRestartTime *metav1.Duration `json:"maxRestartTime,omitempty"`
	// KeepaliveTime is the keepalive interval; the hold time is three times it [30s].
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`
	// KeepOriginalNextHop must be false until other next hops are supported.
	KeepOriginalNextHop bool `json:"keepOriginalNextHop,omitempty"`
	// SourceAddress must be empty or UseNodeIP, which mean the same.
	SourceAddress string `json:"sourceAddress,omitempty"`
}

// Node is one host of the cluster.
type Node struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              NodeSpec `json:"spec,omitempty"`
}

// NodeSpec says how the node is reached.
type NodeSpec struct {
	// BGP is nil on a node that takes no part in the mesh.
	BGP *NodeBGPSpec `json:"bgp,omitempty"`
	// Addresses lists what the node is reached at.
	Addresses []NodeAddress `json:"addresses,omitempty"`
	// OrchRefs say what the node is called elsewhere. They are kept for those who read them.
	OrchRefs []OrchRef `json:"orchRefs,omitempty"`
}

// OrchRef is the node's name in an orchestrator.
type OrchRef struct {
	NodeName     string `json:"nodeName,omitempty"`
	Orchestrator string `json:"orchestrator"`
}

// NodeBGPSpec is the node's side of its BGP sessions.
type NodeBGPSpec struct {
	// ASNumber overrides BGPConfiguration's.
	ASNumber *ASNumber `json:"asNumber,omitempty"`
	// IPv4Address and IPv6Address are the node's addresses with their subnets' lengths, e.g.
	// "192.168.100.100/24" and "fd00:192:168::100/64". A node has at least one of them.
	IPv4Address string `json:"ipv4Address,omitempty"`
	IPv6Address string `json:"ipv6Address,omitempty"`
}

// NodeAddress is one address of a node. One of type CalicoNodeIP may have its subnet's length, as Calico
// writes it; the others have none.
type NodeAddress struct {
	Address string `json:"address"`
	Type    string `json:"type,omitempty"`
}

// WorkloadEndpoint is one interface of one pod. The agent writes it; users read it.
type WorkloadEndpoint struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              WorkloadEndpointSpec `json:"spec,omitempty"`
}

// WorkloadEndpointSpec says where the pod is and what it is called there.
type WorkloadEndpointSpec struct {
	Orchestrator string `json:"orchestrator,omitempty"`
	Workload     string `json:"workload,omitempty"`
	Node         string `json:"node"`
	ContainerID  string `json:"containerID,omitempty"`
	Pod          string `json:"pod,omitempty"`
	// Endpoint is the interface's name inside the pod, e.g. "eth0".
	Endpoint string `json:"endpoint"`
	// IPNetworks are the pod's addresses as /32 (or /128) prefixes.
	IPNetworks []string `json:"ipNetworks"`
	// InterfaceName is the host's side, e.g. "cali0ef24b1b5c5".
	InterfaceName string `json:"interfaceName"`
	MAC           string `json:"mac,omitempty"`
	// ServiceAccountName is the pod's service account, for rules to name.
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
	// Profiles are the names of the profiles whose labels and rules it has: kns.<namespace> if it has none.
	Profiles []string `json:"profiles,omitempty"`
	// Ports are the pod's named ports.
	Ports []EndpointPort `json:"ports,omitempty"`
}

// IPAMConfiguration is the singleton "default" with the cluster's address management settings.
type IPAMConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              IPAMConfigurationSpec `json:"spec,omitempty"`
}

// IPAMConfigurationSpec is the subset of Calico's that korat supports.
type IPAMConfigurationSpec struct {
	// StrictAffinity keeps nodes from using other nodes' blocks. If false, a node that can claim no more
	// blocks borrows single addresses [true].
	StrictAffinity *bool `json:"strictAffinity,omitempty"`
	// IPCooldownSeconds is how long a released address stays unassigned, 0..1200 [30].
	IPCooldownSeconds *int `json:"ipCooldownSeconds,omitempty"`
	// AutoAllocateBlocks false keeps nodes from claiming blocks; those that they have stay in use [true].
	AutoAllocateBlocks *bool `json:"autoAllocateBlocks,omitempty"`
	// MaxBlocksPerHost keeps a node that has as many blocks, of both families, from claiming more; 0 is no limit.
	MaxBlocksPerHost int `json:"maxBlocksPerHost,omitempty"`
}

// IPReservation names addresses that are never assigned automatically.
type IPReservation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              IPReservationSpec `json:"spec,omitempty"`
}

// IPReservationSpec lists the reserved ranges.
type IPReservationSpec struct {
	ReservedCIDRs []string `json:"reservedCIDRs,omitempty"`
}

// BlockAffinity says which node owns a block. Its name is "<node>-<cidr with dashes>".
type BlockAffinity struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              BlockAffinitySpec `json:"spec,omitempty"`
}

// The states of a block's affinity. A pending block is neither used nor advertised.
const (
	AffinityPending         = "pending"
	AffinityConfirmed       = "confirmed"
	AffinityPendingDeletion = "pendingDeletion"
)

// BlockAffinitySpec is the claim of one node on one block.
type BlockAffinitySpec struct {
	State string `json:"state"`
	Node  string `json:"node"`
	// Type is "host".
	Type string `json:"type,omitempty"`
	CIDR string `json:"cidr"`
}

// IPAMBlock records the assignments in one block. Its name is the CIDR with dashes for dots,
// colons and slash, e.g. "172-17-8-0-24".
type IPAMBlock struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              IPAMBlockSpec `json:"spec,omitempty"`
}

// IPAMBlockSpec has Calico's shape: ordinals are offsets from the block's first address.
type IPAMBlockSpec struct {
	CIDR string `json:"cidr"`
	// Affinity is "host:<node>".
	Affinity *string `json:"affinity,omitempty"`
	// Allocations has one entry for each ordinal: nil when free, else an index into Attributes.
	Allocations []*int `json:"allocations"`
	// Unallocated lists the free ordinals, longest idle first.
	Unallocated []int `json:"unallocated"`
	// Attributes says who holds the allocated ordinals.
	Attributes []AllocationAttribute `json:"attributes"`
	// SequenceNumber grows with each write of the block.
	SequenceNumber uint64 `json:"sequenceNumber"`
	// SequenceNumberForAllocation keeps, by ordinal, the sequence number at its assignment.
	SequenceNumberForAllocation map[string]uint64 `json:"sequenceNumberForAllocation,omitempty"`
}

// AllocationAttribute says who holds an address.
type AllocationAttribute struct {
	HandleID string `json:"handle_id,omitempty"`
	// ActiveOwnerAttrs has the keys namespace, pod, node and timestamp.
	ActiveOwnerAttrs map[string]string `json:"secondary,omitempty"`
	// ReleasedAt is when the address was released. It is assigned to nobody any more, but not free yet: it
	// cools down.
	ReleasedAt *metav1.Time `json:"releasedAt,omitempty"`
}

// ClusterInformation is the singleton "default".
type ClusterInformation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ClusterInformationSpec `json:"spec,omitempty"`
}

// ClusterInformationSpec identifies the cluster.
type ClusterInformationSpec struct {
	ClusterGUID string `json:"clusterGUID,omitempty"`
	ClusterType string `json:"clusterType,omitempty"`
	// CalicoVersion keeps Calico's field name; it holds korat's version.
	CalicoVersion string `json:"calicoVersion,omitempty"`
	// DatastoreReady false keeps every agent from writing.
	DatastoreReady *bool `json:"datastoreReady,omitempty"`
}
