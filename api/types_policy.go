// SPDX-License-Identifier: Apache-2.0

package api

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Tier is a group of policies that are evaluated together, in the order of the tiers.
type Tier struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              TierSpec `json:"spec,omitempty"`
}

// TierSpec says where the tier stands.
type TierSpec struct {
	// Order is lowest first; a tier without one comes last. Tiers of one order are ordered by their names.
	Order *float64 `json:"order,omitempty"`
	// DefaultAction is what becomes of a packet that policies of the tier apply to, but that none of their
	// rules decided: Deny or Pass [Deny].
	DefaultAction Action `json:"defaultAction,omitempty"`
}

// Profile gives labels, and rules for what no policy applies to. Each namespace has the profile kns.<namespace>.
type Profile struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ProfileSpec `json:"spec,omitempty"`
}

// ProfileSpec has the rules and labels.
type ProfileSpec struct {
	Ingress []Rule `json:"ingress,omitempty"`
	Egress  []Rule `json:"egress,omitempty"`
	// LabelsToApply are inherited by the endpoints that name the profile; their own labels win.
	LabelsToApply map[string]string `json:"labelsToApply,omitempty"`
}

// NetworkPolicy is Calico's policy of one namespace.
type NetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              NetworkPolicySpec `json:"spec,omitempty"`
}

// NetworkPolicySpec says which endpoints of the namespace the rules are for.
type NetworkPolicySpec struct {
	PolicyBase `json:",inline"`
}

// PolicyBase is what namespaced and global policies have in common.
type PolicyBase struct {
	// Tier is the name of the policy's tier ["default"].
	Tier string `json:"tier,omitempty"`
	// Order is lowest first within the tier; a policy without one comes last. Policies of one order are
	// ordered by their names, whatever kinds they are of.
	Order *float64 `json:"order,omitempty"`
	// Selector says by their labels which endpoints the policy applies to; empty is all().
	Selector string `json:"selector,omitempty"`
	// ServiceAccountSelector restricts it further, by the labels of pods' service accounts.
	ServiceAccountSelector string `json:"serviceAccountSelector,omitempty"`
	// Types are Ingress, Egress or both; by default Ingress, unless there are egress rules alone.
	Types []PolicyType `json:"types,omitempty"`
	// Ingress and Egress are the rules, the first that matches decides. At most 1024 each.
	Ingress []Rule `json:"ingress,omitempty"`
	Egress  []Rule `json:"egress,omitempty"`
	// PerformanceHints may have AssumeNeededOnEveryNode, which is accepted and changes nothing here.
	PerformanceHints []string `json:"performanceHints,omitempty"`
}

// GlobalNetworkPolicy is Calico's policy of the whole cluster, for pods and host endpoints.
type GlobalNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              GlobalNetworkPolicySpec `json:"spec,omitempty"`
}

// GlobalNetworkPolicySpec says which endpoints the rules are for.
type GlobalNetworkPolicySpec struct {
	PolicyBase `json:",inline"`
	// NamespaceSelector restricts Selector to pods of namespaces with these labels; "global()" to what is in none.
	NamespaceSelector string `json:"namespaceSelector,omitempty"`
	// DoNotTrack applies the rules to host endpoints before connection tracking, both ways of a flow on their own.
	DoNotTrack bool `json:"doNotTrack,omitempty"`
	// PreDNAT applies the rules to host endpoints before any DNAT; ingress only.
	PreDNAT bool `json:"preDNAT,omitempty"`
	// ApplyOnForward applies the rules to what a host endpoint's host forwards, too.
	ApplyOnForward bool `json:"applyOnForward,omitempty"`
}

// StagedNetworkPolicy is a NetworkPolicy that counts what it would decide, and decides nothing.
type StagedNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              StagedNetworkPolicySpec `json:"spec,omitempty"`
}

// StagedNetworkPolicySpec is that of a NetworkPolicy.
type StagedNetworkPolicySpec struct {
	// StagedAction is Set, Delete, Learn or Ignore [Set]; rules are counted with Set alone.
	StagedAction      string `json:"stagedAction,omitempty"`
	NetworkPolicySpec `json:",inline"`
}

// StagedGlobalNetworkPolicy is a GlobalNetworkPolicy that counts what it would decide, and decides nothing.
type StagedGlobalNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              StagedGlobalNetworkPolicySpec `json:"spec,omitempty"`
}

// StagedGlobalNetworkPolicySpec is that of a GlobalNetworkPolicy.
type StagedGlobalNetworkPolicySpec struct {
	// StagedAction is Set, Delete, Learn or Ignore [Set]; rules are counted with Set alone.
	StagedAction            string `json:"stagedAction,omitempty"`
	GlobalNetworkPolicySpec `json:",inline"`
}

// NetworkSet names prefixes in a namespace. Rules select it by its labels, as if it were an endpoint.
type NetworkSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              NetworkSetSpec `json:"spec,omitempty"`
}

// GlobalNetworkSet is a NetworkSet in no namespace.
type GlobalNetworkSet struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              NetworkSetSpec `json:"spec,omitempty"`
}

// NetworkSetSpec lists prefixes.
type NetworkSetSpec struct {
	// Nets are addresses or CIDRs of either family.
	Nets []string `json:"nets,omitempty"`
}

// HostEndpoint is an interface of a node, to which policies apply.
type HostEndpoint struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              HostEndpointSpec `json:"spec,omitempty"`
}

// HostEndpointSpec says which interface of which node it is.
type HostEndpointSpec struct {
	Node string `json:"node,omitempty"`
	// InterfaceName is the interface's name, or "*" for all of the node's but those of pods. Empty: the
	// interface that has one of ExpectedIPs.
	InterfaceName string         `json:"interfaceName,omitempty"`
	ExpectedIPs   []string       `json:"expectedIPs,omitempty"`
	Profiles      []string       `json:"profiles,omitempty"`
	Ports         []EndpointPort `json:"ports,omitempty"`
}

// EndpointPort names a port of an endpoint, for rules to name.
type EndpointPort struct {
	Name     string   `json:"name"`
	Protocol Protocol `json:"protocol"`
	Port     uint16   `json:"port"`
}
