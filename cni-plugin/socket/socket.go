// SPDX-License-Identifier: Apache-2.0

// Package socket is the agent's root-only Unix socket: its messages, its client (used by the CNI
// plugin and koratctl) and its server (used by korat-node). One connection carries one exchange, as
// JSON values one after the other: a request and its reply, an attachment's conversation, or a stream.
//
// An attachment is a conversation on one connection: Request{Add} → Reply{Endpoint}, then the
// plugin makes the interface, then Request{Ready} → Reply{}, sent when the pod's routes are in the
// kernel. If the connection ends before Ready is answered, the server undoes the attachment, unless it
// existed before. After an agent's crash the plugin may connect again and repeat the whole
// conversation: Add of a known attachment returns the same addresses.
//
// A stream is Request{Flows} → Reply{}, and then a Reply for each thing that there is to tell, until the client hangs
// up. There are few at a time, and who does not read loses the connection.
//
// A DEL that no agent answers is left in the queue, a directory beside the socket: Queue writes to it,
// and the server carries out what it finds there, before its first connection and ever after.
//
// The package imports nothing but the standard library and felix/endpoint, because the plugin's
// start-up time is part of every pod's.
package socket

import (
	"encoding/json"
	"net/netip"

	"korat/felix/endpoint"
)

// DefaultPath is where the agent listens.
const DefaultPath = "/run/korat/agent.sock"

// Verb says what a Request asks for.
type Verb string

// The verbs. Status answers "is the agent ready to attach pods"; NodeStatus is koratctl's and has
// its answer in Reply.Status.
const (
	VerbAdd        Verb = "ADD"
	VerbReady      Verb = "READY"
	VerbDel        Verb = "DEL"
	VerbCheck      Verb = "CHECK"
	VerbStatus     Verb = "STATUS"
	VerbNodeStatus Verb = "NODE-STATUS"
	// VerbGC asks which attachments of the network are not among the valid ones. It removes nothing:
	// the plugin removes their interfaces and sends a Del for each.
	VerbGC Verb = "GC"
	// VerbLocate is koratctl's: where the rules are that Question names, and what they have counted.
	VerbLocate Verb = "LOCATE"
	// VerbFlows is koratctl's, and asks for a stream: of the packets that rules report from now on.
	VerbFlows Verb = "FLOWS"
)

// Request is one message to the agent.
type Request struct {
	Verb Verb `json:"verb"`
	// ID, Network, NetNS, Namespace and Pod are as in endpoint.Endpoint. (Add; ID alone for the others.)
	endpoint.ID
	Network   string `json:"network,omitempty"`
	NetNS     string `json:"netns,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	// NodeName is the network configuration's nodename; when set it must be the agent's own.
	NodeName string `json:"nodeName,omitempty"`
	// MTU overrides the agent's; 0 leaves it to the agent.
	MTU int `json:"mtu,omitempty"`
	Wish
	// Traits are what policies know the pod by. (Add)
	Traits endpoint.Traits `json:"traits,omitzero"`
	// MAC of the pod's side. (Ready)
	MAC string `json:"mac,omitempty"`
	Query
}

// Query is what is asked about.
type Query struct {
	// Valid are the attachments that the runtime still knows. (GC)
	Valid []endpoint.ID `json:"valid,omitempty"`
	// Question has the shape of felix.Question. (Locate)
	Question json.RawMessage `json:"question,omitempty"`
}

// Wish is which addresses a pod asks for. (Add)
type Wish struct {
	// Families asks for one address of each of these families.
	Families []Family `json:"families,omitempty"`
	// Addresses are those that the pod is to have of their families; the agent chooses the others'.
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// Family asks for an address of one family.
type Family struct {
	// Version is 4 or 6.
	Version int `json:"version"`
	// Pools are those that it may come from, by name or CIDR; none means any.
	Pools []string `json:"pools,omitempty"`
}

// Reply is the answer to one Request.
type Reply struct {
	Error    *Error             `json:"error,omitempty"`
	Endpoint *endpoint.Endpoint `json:"endpoint,omitempty"`
	// Status is the answer to NodeStatus, in the shape of felix.NodeStatus, that to Locate, in the shape of felix.Located,
	// and of Flows a
	// felix.ReportedPacket.
	Status json.RawMessage `json:"status,omitempty"`
	// Stale is the answer to GC.
	Stale []endpoint.Endpoint `json:"stale,omitempty"`
	// Unsure is of an Error that was given without waiting for what becomes of the Request. It is the Server's.
	Unsure bool `json:"-"`
}

// Error is a failure as the CNI specification (section 5) reports it.
type Error struct {
	Code    uint   `json:"code"`
	Message string `json:"msg"`
	Details string `json:"details,omitempty"`
}

// Error gives message and details.
func (e *Error) Error() string {
	if e.Details == "" {
		return e.Message
	}
	return e.Message + ": " + e.Details
}

// The error codes in use: the CNI specification's well-known ones, and ours from 100 on.
const (
	CodeUnsupportedField = 2
	CodeUnknownContainer = 3
	CodeInvalidEnv       = 4
	CodeIOFailure        = 5
	CodeDecodingFailure  = 6
	CodeInvalidConfig    = 7
	// CodeTryAgainLater asks the runtime to retry: the agent is absent or not ready.
	CodeTryAgainLater = 11
	// CodeNotAvailable is STATUS's: ADD cannot be served. (CNI spec 1.1, section 2, STATUS)
	CodeNotAvailable = 50
	CodeInternal     = 100
	// CodeNoAddress: no free address in the usable pools, or the asked one is taken.
	CodeNoAddress = 101
)
