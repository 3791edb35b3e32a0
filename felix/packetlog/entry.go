// SPDX-License-Identifier: Apache-2.0

package packetlog

import (
	"net/netip"
	"time"

	"korat/api"
	"korat/policy"
)

// Entry is a packet that a rule reported, or says how many more there were.
type Entry struct {
	Time    time.Time `json:"time"`
	Verdict Verdict   `json:"verdict"`
	Packet
	Decided
	// In and Out are the interfaces that it came by and leaves by.
	In  string `json:"in,omitempty"`
	Out string `json:"out,omitempty"`
	// Lost is how many could not be told of: they came too fast. Then there is nothing else.
	Lost uint64 `json:"lost,omitempty"`
}

// Verdict is why a packet was reported.
type Verdict string

// The verdicts. Of what is staged it is told, and that is all.
const (
	Denied Verdict = "denied"
	Logged Verdict = "logged"
	Staged Verdict = "staged"
	Lost   Verdict = "lost"
)

// Packet is what was seen of the packet.
type Packet struct {
	From            End    `json:"from,omitzero"`
	To              End    `json:"to,omitzero"`
	Protocol        string `json:"protocol,omitempty"`
	SourcePort      uint16 `json:"sourcePort,omitempty"`
	DestinationPort uint16 `json:"destinationPort,omitempty"`
	ICMP            *ICMP  `json:"icmp,omitempty"`
	// Length is the packet's, with its IP header.
	Length int `json:"length,omitempty"`
}

// End is who sends or receives: "namespace/pod", "node b", or nothing for one outside of the cluster.
type End struct {
	Name    string     `json:"name,omitempty"`
	Address netip.Addr `json:"address"`
}

// ICMP is a message's type and code.
type ICMP struct {
	Type uint8 `json:"type"`
	Code uint8 `json:"code"`
}

// Decided is what decided: a rule, or with nothing but Why a default.
type Decided struct {
	// Direction is that of the endpoint.
	Direction api.PolicyType `json:"direction,omitempty"`
	Policy    *policy.ID     `json:"policy,omitempty"`
	// Rule is the index of the object's rule in its direction, and Name what the object calls it.
	Rule *int   `json:"rule,omitempty"`
	Name string `json:"name,omitempty"`
	// Action is the rule's: of a staged one it is what it would do.
	Action api.Action `json:"action,omitempty"`
	// Why tells of a default.
	Why string `json:"why,omitempty"`
}
