// SPDX-License-Identifier: Apache-2.0

package api

// Action is what becomes of a packet.
type Action string

// The actions. Log lets the evaluation go on; Pass ends the tier's.
const (
	Allow Action = "Allow"
	Deny  Action = "Deny"
	Log   Action = "Log"
	Pass  Action = "Pass"
)

// PolicyType is a direction, as the endpoint sees it.
type PolicyType string

// The directions.
const (
	Ingress PolicyType = "Ingress"
	Egress  PolicyType = "Egress"
)

// Rule matches packets, and says what becomes of them. What is not set restricts nothing.
type Rule struct {
	Action Action `json:"action"`
	// IPVersion is 4 or 6.
	IPVersion *int `json:"ipVersion,omitempty"`
	// Protocol is a name (TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite) or a number, 1..255.
	Protocol    *Protocol `json:"protocol,omitempty"`
	NotProtocol *Protocol `json:"notProtocol,omitempty"`
	// ICMP needs protocol ICMP or ICMPv6.
	ICMP        *ICMP         `json:"icmp,omitempty"`
	NotICMP     *ICMP         `json:"notICMP,omitempty"`
	Source      EntityRule    `json:"source,omitempty"`
	Destination EntityRule    `json:"destination,omitempty"`
	Metadata    *RuleMetadata `json:"metadata,omitempty"`
}

// RuleMetadata has no meaning for the packets.
type RuleMetadata struct {
	// Annotations become comments of the kernel's rules.
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ICMP is a kind of ICMP message. A code needs a type.
type ICMP struct {
	Type *int `json:"type,omitempty"`
	Code *int `json:"code,omitempty"`
}

// EntityRule matches one end of a flow. What is set must all match.
type EntityRule struct {
	// Nets are addresses or CIDRs, at most 256; one of them must match, and none of NotNets.
	Nets    []string `json:"nets,omitempty"`
	NotNets []string `json:"notNets,omitempty"`
	// Selector picks endpoints and network sets: in a NetworkPolicy those of its namespace, unless there is a
	// NamespaceSelector.
	Selector    string `json:"selector,omitempty"`
	NotSelector string `json:"notSelector,omitempty"`
	// NamespaceSelector picks namespaces by their labels; "global()" is what is in none.
	NamespaceSelector string `json:"namespaceSelector,omitempty"`
	// Ports are numbers, ranges ("8000:8010") and names, at most 50; they need a protocol that has ports.
	Ports           []Port               `json:"ports,omitempty"`
	NotPorts        []Port               `json:"notPorts,omitempty"`
	ServiceAccounts *ServiceAccountMatch `json:"serviceAccounts,omitempty"`
	Services        *ServiceMatch        `json:"services,omitempty"`
}

// ServiceAccountMatch picks pods by their service accounts. Both must match if both are set.
type ServiceAccountMatch struct {
	Names    []string `json:"names,omitempty"`
	Selector string   `json:"selector,omitempty"`
}

// ServiceMatch picks the endpoints of a Kubernetes service, by its EndpointSlices.
type ServiceMatch struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"`
}

// Protocol is an IP protocol by its name or number, e.g. "TCP" or "47". In JSON a number may be one.
type Protocol string

// Port is a port, a range of ports or the name of one. In JSON it is a number, "8000:8010" or a name.
type Port struct {
	// First and Last are the range, equal for one port; 0 if there is a Name.
	First, Last uint16
	Name        string
}
