// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"math"
	"net/netip"

	"korat/api"
	"korat/policy/selector"
)

// Kind is the kind of a Policy in its short form, as chain names have it.
type Kind string

// The kinds of Policies, and profiles, whose rules are like theirs.
const (
	KindNetworkPolicy       Kind = "np"
	KindGlobal              Kind = "gnp"
	KindKubernetes          Kind = "knp"
	KindCluster             Kind = "cnp"
	KindStagedNetworkPolicy Kind = "snp"
	KindStagedGlobal        Kind = "sgnp"
	KindProfile             Kind = "profile"
)

// ID names a Policy or a profile. Namespace is empty for what is cluster-wide.
type ID struct {
	Kind      Kind   `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String gives "gnp/allow-web" or "np/shop/allow-web"; of a profile the name alone.
func (id ID) String() string {
	switch {
	case id.Kind == KindProfile:
		return id.Name
	case id.Namespace == "":
		return string(id.Kind) + "/" + id.Name
	}
	return string(id.Kind) + "/" + id.Namespace + "/" + id.Name
}

// Compare orders by kind, namespace and name.
func (id ID) Compare(o ID) int {
	return cmp.Or(cmp.Compare(id.Kind, o.Kind), cmp.Compare(id.Namespace, o.Namespace), cmp.Compare(id.Name, o.Name))
}

// The names and orders of the tiers that always exist.
const (
	TierDefault  = "default"
	TierAdmin    = "kube-admin"
	TierBaseline = "kube-baseline"

	OrderAdmin    = 1_000
	OrderDefault  = 1_000_000
	OrderBaseline = 10_000_000
	// OrderKubernetes is the order of every Kubernetes NetworkPolicy within the default tier.
	OrderKubernetes = 1_000
)

// Tier is a group of Policies that are evaluated together.
type Tier struct {
	Name string
	// Order is lowest first; +Inf if the object has none.
	Order float64
	// Default is what becomes of a packet to whose endpoint a Policy of the tier applies in its direction, and
	// that none of the rules decided: api.Deny or api.Pass.
	Default api.Action
}

// Compare orders tiers as they are evaluated.
func (t Tier) Compare(o Tier) int {
	return cmp.Or(cmp.Compare(t.Order, o.Order), cmp.Compare(t.Name, o.Name))
}

// Stage is where on a packet's way a Policy is applied.
type Stage uint8

// The stages. All but Normal concern host endpoints alone; Forward is Normal, and what a host forwards too.
const (
	Normal Stage = iota
	Forward
	PreDNAT
	Untracked
)

// Policy is rules for the endpoints that Selector matches. It is never changed once made, so that two of one
// pointer are equal.
type Policy struct {
	ID   ID
	Tier string
	// Order is lowest first within the tier; +Inf if the object has none.
	Order float64
	// Selector has all restrictions of the object folded in: namespace, service account, namespace's labels.
	Selector selector.Selector
	Stage    Stage
	// Staged Policies are counted and decide nothing.
	Staged bool
	// AppliesIngress and AppliesEgress say in which directions it isolates what it selects.
	AppliesIngress, AppliesEgress bool
	Ingress, Egress               []Rule
}

// Applies says whether the Policy isolates in the direction.
func (p *Policy) Applies(d api.PolicyType) bool {
	if d == api.Ingress {
		return p.AppliesIngress
	}
	return p.AppliesEgress
}

// Rules gives those of the direction.
func (p *Policy) Rules(d api.PolicyType) []Rule {
	if d == api.Ingress {
		return p.Ingress
	}
	return p.Egress
}

// Compare orders Policies of one tier as they are evaluated: by order, then name, whatever kinds they are of, then
// namespace and kind, as Calico does.
func (p *Policy) Compare(o *Policy) int {
	return cmp.Or(cmp.Compare(p.Order, o.Order),
		cmp.Compare(p.ID.Name, o.ID.Name), cmp.Compare(p.ID.Namespace, o.ID.Namespace), cmp.Compare(p.ID.Kind, o.ID.Kind))
}

// Profile is labels, and rules for what no Policy applies to. It is never changed once made.
type Profile struct {
	Name            string
	Labels          map[string]string
	Ingress, Egress []Rule
}

// Rules gives those of the direction.
func (p *Profile) Rules(d api.PolicyType) []Rule {
	if d == api.Ingress {
		return p.Ingress
	}
	return p.Egress
}

// orderOf gives +Inf for no order.
func orderOf(order *float64) float64 {
	if order == nil {
		return math.Inf(1)
	}
	return *order
}

// Protocol is an IP protocol's number; 0 is any.
type Protocol uint8

// The protocols that have names in rules (IANA's numbers).
const (
	ICMP    Protocol = 1
	TCP     Protocol = 6
	UDP     Protocol = 17
	ICMPv6  Protocol = 58
	SCTP    Protocol = 132
	UDPLite Protocol = 136
)

// Rule matches packets, and says what becomes of them. What is zero restricts nothing.
type Rule struct {
	// Name is what the object calls the rule; most have none.
	Name string
	// Index is the place of the object's rule that this is one of, from 0: several Rules may come of one.
	Index  int
	Action api.Action
	// Family is 0 for both.
	Family                api.Family
	Protocol, NotProtocol Protocol
	ICMP, NotICMP         *ICMPType
	Source, Destination   Entity
	// Comments are the annotations of the rule, "key=value", in the order of the keys.
	Comments []string
}

// ICMPType is a type of ICMP messages, and a code of it if Code is not negative.
type ICMPType struct {
	Type uint8
	Code int16
}

// Entity matches one end of a flow. All that is set must match: one of Nets, none of NotNets, a member of
// Selector's and of Service's, no member of NotSelector's, one of Ports or NamedPorts, and none of NotPorts nor
// NotNamedPorts.
type Entity struct {
	Nets, NotNets []netip.Prefix
	// Selector matches the labels of endpoints and network sets, inherited ones too; nil restricts nothing.
	Selector, NotSelector     *selector.Selector
	Service                   *Service
	Ports, NotPorts           []PortRange
	NamedPorts, NotNamedPorts []string
}

// Service is a Kubernetes service: its endpoints' addresses, with their ports where it is a destination.
type Service struct{ Namespace, Name string }

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }
