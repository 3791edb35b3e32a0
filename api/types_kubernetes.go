// SPDX-License-Identifier: Apache-2.0

package api

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// KubernetesNetworkPolicy is the NetworkPolicy of networking.k8s.io/v1, whole. Its kind here has another name,
// as Calico's own policy has that one.
type KubernetesNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              KubernetesNetworkPolicySpec `json:"spec,omitempty"`
}

// KubernetesNetworkPolicySpec says which pods of the namespace are isolated, and what they may do all the same.
type KubernetesNetworkPolicySpec struct {
	// PodSelector picks the pods; empty picks all of the namespace.
	PodSelector metav1.LabelSelector `json:"podSelector"`
	// PolicyTypes are Ingress, Egress or both; by default Ingress, and Egress if there are egress rules.
	PolicyTypes []PolicyType                  `json:"policyTypes,omitempty"`
	Ingress     []KubernetesPolicyIngressRule `json:"ingress,omitempty"`
	Egress      []KubernetesPolicyEgressRule  `json:"egress,omitempty"`
}

// KubernetesPolicyIngressRule allows what comes from one of From (empty: from anywhere) to one of Ports
// (empty: any).
type KubernetesPolicyIngressRule struct {
	Ports []KubernetesPolicyPort `json:"ports,omitempty"`
	From  []KubernetesPolicyPeer `json:"from,omitempty"`
}

// KubernetesPolicyEgressRule allows what goes to one of To (empty: anywhere) and one of Ports (empty: any).
type KubernetesPolicyEgressRule struct {
	Ports []KubernetesPolicyPort `json:"ports,omitempty"`
	To    []KubernetesPolicyPeer `json:"to,omitempty"`
}

// KubernetesPolicyPort is a port or a range of ports.
type KubernetesPolicyPort struct {
	// Protocol is TCP, UDP or SCTP ["TCP"].
	Protocol *Protocol `json:"protocol,omitempty"`
	// Port is a number or a name, and no range; nil is every port.
	Port *KubernetesPort `json:"port,omitempty"`
	// EndPort makes it a range; it needs a Port that is a number.
	EndPort *int32 `json:"endPort,omitempty"`
}

// KubernetesPort is a port or the name of one. In JSON what is in quotes is a name, even of digits alone, which Kubernetes refuses;
// "8000:8010" is read as a range, which is refused with what to write instead.
type KubernetesPort struct {
	Port `json:",inline"`
}

// KubernetesPolicyPeer is either an IPBlock, or pods picked by the labels of theirs and of their namespaces.
type KubernetesPolicyPeer struct {
	PodSelector       *metav1.LabelSelector `json:"podSelector,omitempty"`
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	IPBlock           *IPBlock              `json:"ipBlock,omitempty"`
}

// IPBlock is a CIDR without some of its parts.
type IPBlock struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except,omitempty"`
}

// EndpointSlice is that of discovery.k8s.io/v1: some of the endpoints of the service that its label
// kubernetes.io/service-name names.
type EndpointSlice struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// AddressType is IPv4 or IPv6.
	AddressType string          `json:"addressType"`
	Endpoints   []SliceEndpoint `json:"endpoints"`
	Ports       []SlicePort     `json:"ports,omitempty"`
}

// LabelServiceName is the label of an EndpointSlice that names its service.
const LabelServiceName = "kubernetes.io/service-name"

// SliceEndpoint is a pod of a service, or another host. What is beside its Addresses says nothing to policies, as with
// Calico: an endpoint that is not ready counts too.
type SliceEndpoint struct {
	Addresses  []string         `json:"addresses"`
	Conditions *SliceConditions `json:"conditions,omitempty"`
	Hostname   *string          `json:"hostname,omitempty"`
	TargetRef  *SliceTarget     `json:"targetRef,omitempty"`
	NodeName   *string          `json:"nodeName,omitempty"`
	Zone       *string          `json:"zone,omitempty"`
	Hints      *SliceHints      `json:"hints,omitempty"`
	// DeprecatedTopology is what v1beta1 had instead of NodeName and Zone.
	DeprecatedTopology map[string]string `json:"deprecatedTopology,omitempty"`
}

// SliceConditions say how an endpoint is.
type SliceConditions struct {
	Ready       *bool `json:"ready,omitempty"`
	Serving     *bool `json:"serving,omitempty"`
	Terminating *bool `json:"terminating,omitempty"`
}

// SliceTarget is the object that an endpoint stands for.
type SliceTarget struct {
	Kind            string `json:"kind,omitempty"`
	Namespace       string `json:"namespace,omitempty"`
	Name            string `json:"name,omitempty"`
	UID             string `json:"uid,omitempty"`
	APIVersion      string `json:"apiVersion,omitempty"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
	FieldPath       string `json:"fieldPath,omitempty"`
}

// SliceHints say for whom an endpoint is.
type SliceHints struct {
	ForZones []SliceHint `json:"forZones,omitempty"`
	ForNodes []SliceHint `json:"forNodes,omitempty"`
}

// SliceHint names a zone or node.
type SliceHint struct {
	Name string `json:"name"`
}

// SlicePort is a port that all endpoints of the slice have.
type SlicePort struct {
	Name *string `json:"name,omitempty"`
	// Protocol is TCP, UDP or SCTP ["TCP"].
	Protocol *Protocol `json:"protocol,omitempty"`
	// Port is 1..65535; without one it is nothing that a rule can match.
	Port        *int32  `json:"port,omitempty"`
	AppProtocol *string `json:"appProtocol,omitempty"`
}

// ClusterNetworkPolicy is that of policy.networking.k8s.io/v1alpha2, the sig-network cluster policy.
type ClusterNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ClusterNetworkPolicySpec `json:"spec,omitempty"`
}

// The values of a ClusterNetworkPolicy's tier, and the one of a rule's action that Calico has another word for.
const (
	ClusterTierAdmin    = "Admin"
	ClusterTierBaseline = "Baseline"
	ClusterActionAccept = "Accept"
)

// ClusterNetworkPolicySpec stands before (tier Admin) or after (Baseline) the namespaces' own policies.
type ClusterNetworkPolicySpec struct {
	// Tier is Admin or Baseline: Calico's tiers kube-admin and kube-baseline.
	Tier string `json:"tier"`
	// Priority is 0..1000, lowest first.
	Priority int32                 `json:"priority"`
	Subject  ClusterPolicySubject  `json:"subject"`
	Ingress  []ClusterPolicyRule   `json:"ingress,omitempty"`
	Egress   []ClusterPolicyEgress `json:"egress,omitempty"`
}

// ClusterPolicySubject picks the pods that the policy is for. One of both must be set.
type ClusterPolicySubject struct {
	Namespaces *metav1.LabelSelector `json:"namespaces,omitempty"`
	Pods       *NamespacedPods       `json:"pods,omitempty"`
}

// NamespacedPods are the pods with certain labels in namespaces with certain labels.
type NamespacedPods struct {
	NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`
	PodSelector       metav1.LabelSelector `json:"podSelector"`
}

// ClusterPolicyRule is an ingress rule.
type ClusterPolicyRule struct {
	Name string `json:"name,omitempty"`
	// Action is Accept, Deny or Pass.
	Action string `json:"action"`
	// From has 1 to 25 peers, one of which must match.
	From []ClusterPolicyPeer `json:"from"`
	// Protocols, if there are any, must have one that matches.
	Protocols []ClusterPolicyProtocol `json:"protocols,omitempty"`
}

// ClusterPolicyEgress is an egress rule.
type ClusterPolicyEgress struct {
	Name string `json:"name,omitempty"`
	// Action is Accept, Deny or Pass.
	Action string `json:"action"`
	// To has 1 to 25 peers, one of which must match.
	To []ClusterPolicyPeer `json:"to"`
	// Protocols, if there are any, must have one that matches.
	Protocols []ClusterPolicyProtocol `json:"protocols,omitempty"`
}

// ClusterPolicyPeer is the other end of a flow. One of its fields must be set; Networks in egress rules only.
type ClusterPolicyPeer struct {
	Namespaces *metav1.LabelSelector `json:"namespaces,omitempty"`
	Pods       *NamespacedPods       `json:"pods,omitempty"`
	// Nodes must not be set: Node objects are no members of sets that rules select. Networks can name their addresses.
	Nodes    *metav1.LabelSelector `json:"nodes,omitempty"`
	Networks []string              `json:"networks,omitempty"`
}

// ClusterPolicyProtocol is one protocol, with its destination port. One of its fields must be set.
type ClusterPolicyProtocol struct {
	TCP  *ClusterPolicyPorts `json:"tcp,omitempty"`
	UDP  *ClusterPolicyPorts `json:"udp,omitempty"`
	SCTP *ClusterPolicyPorts `json:"sctp,omitempty"`
	// DestinationNamedPort is the name of a port of the destination, of whatever protocol that has.
	DestinationNamedPort string `json:"destinationNamedPort,omitempty"`
}

// ClusterPolicyPorts limits a protocol to destination ports.
type ClusterPolicyPorts struct {
	DestinationPort *ClusterPolicyPort `json:"destinationPort,omitempty"`
}

// ClusterPolicyPort is a port or a range of them. One of both must be set.
type ClusterPolicyPort struct {
	Number int32                   `json:"number,omitempty"`
	Range  *ClusterPolicyPortRange `json:"range,omitempty"`
}

// ClusterPolicyPortRange is a range, both ends included.
type ClusterPolicyPortRange struct {
	Start int32 `json:"start"`
	End   int32 `json:"end"`
}
