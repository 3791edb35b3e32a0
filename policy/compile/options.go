// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"iter"
	"net/netip"
	"strings"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// Options are what chains depend on besides policies and endpoints. They are never changed once given.
type Options struct {
	// Families are those that the node has chains for.
	Families []api.Family
	// InterfacePrefix begins the names of all interfaces of pods ["cali"].
	InterfacePrefix string
	// Groups says that the kernel can match the group of an interface: rules then lead from groups to chains, and each
	// interface is to have the one that Group gives.
	Groups bool
	// ToHost is what becomes of what pods send to their own node, once policies allow it [ToHostRules].
	ToHost ToHost
	// Reject answers packets that are denied; else they are dropped.
	Reject bool
	// LogPrefix begins what rules with the action Log write to the kernel's log, before a colon ["calico-packet"].
	LogPrefix string
	// VXLANPort is the UDP port that pods may not send to, lest they speak to tunnels [4789].
	VXLANPort uint16
	// ServiceCIDRs are where no packet is forwarded to: no DNAT has taken it, and it would be sent around in a loop. With
	// RejectLoops its sender is told.
	ServiceCIDRs []netip.Prefix
	RejectLoops  bool
	// FailsafeIn and FailsafeOut are the ports of host endpoints that no policy closes.
	FailsafeIn, FailsafeOut []Failsafe
	// Pools are the ranges of pods' addresses, each once.
	Pools []policy.Pool
}

// ToHost says who decides on a packet from a pod to its own node, once the pod's policies allow it.
type ToHost uint8

// The host's own rules, or nobody.
const (
	ToHostRules ToHost = iota
	ToHostDrop
	ToHostAccept
)

// Failsafe is a port that is open for everybody, or for Net's addresses if it is valid.
type Failsafe struct {
	Protocol policy.Protocol
	Port     uint16
	Net      netip.Prefix
}

const (
	defaultPrefix    = "cali"
	defaultVXLANPort = 4789
	// defaultLogPrefix is Felix's.
	defaultLogPrefix = "calico-packet"
)

// defaulted fills in what is not set.
func (o Options) defaulted() Options {
	if o.InterfacePrefix == "" {
		o.InterfacePrefix = defaultPrefix
	}
	if o.VXLANPort == 0 {
		o.VXLANPort = defaultVXLANPort
	}
	if o.LogPrefix == "" {
		o.LogPrefix = defaultLogPrefix
	}
	return o
}

// ofPods says whether an interface may be a pod's, by a name that a rule can be for alone.
func (o Options) ofPods(name string) bool {
	return len(name) > len(o.InterfacePrefix) && strings.HasPrefix(name, o.InterfacePrefix) && !strings.HasSuffix(name, "+")
}

// slots gives those that there are lists and chains for.
func (o Options) slots() iter.Seq[slot] {
	return func(yield func(slot) bool) {
		for _, f := range o.Families {
			for _, d := range directions() {
				if !yield(slot{f, d}) {
					return
				}
			}
		}
	}
}

func allSlots() iter.Seq[slot] { return Options{Families: api.Families()}.slots() }

// deny is how packets are denied. The REJECT target is for filter alone.
func (o Options) deny(t chain.Table) chain.Action {
	if o.Reject && t == chain.Filter {
		return chain.Action{Verb: chain.Reject}
	}
	return drop
}
