// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"korat/policy"
)

// idLength is the length of a rule's ID: 96 bits in base64url.
const idLength = 16

// NewRule gives the rule with its ID, which does not depend on the order of the conditions.
func NewRule(comment string, action Action, conditions ...Condition) Rule {
	r := Rule{Conditions: conditions, Action: action, Comment: comment}
	all := r.conditions()
	slices.Sort(all)
	sum := sha256.Sum256([]byte(r.line(all)))
	r.ID = base64.RawURLEncoding.EncodeToString(sum[:])[:idLength]
	return r
}

// String gives the rule in one line, everything that matters for its ID included:
// "in cali+; ctstate RELATED,ESTABLISHED → ACCEPT # comment".
func (r Rule) String() string { return r.line(r.conditions()) }

func (r Rule) conditions() []string {
	all := make([]string, len(r.Conditions))
	for i, c := range r.Conditions {
		all[i] = c.String()
	}
	return all
}

func (r Rule) line(conditions []string) string {
	text := strings.Join(conditions, "; ") + " → " + r.Action.String()
	if r.Comment != "" {
		text += " # " + r.Comment
	}
	return text
}

// Condition is one thing that must be true of a packet. Its String tells everything that it says.
type Condition interface {
	fmt.Stringer
	condition()
}

// The conditions. Not inverts one.
type (
	// In is the interface that a packet came by; a name that ends in "+" is a prefix.
	In string
	// Out is the interface that it leaves by, likewise.
	Out string
	// LinkGroup matches the bits of Mask in the group of the interface that a packet came by, of side Source, or leaves by.
	LinkGroup struct {
		Side        Side
		Value, Mask uint32
	}
	// Proto is the IP protocol.
	Proto struct {
		Not    bool
		Number policy.Protocol
	}
	// Net matches an address.
	Net struct {
		Side   Side
		Not    bool
		Prefix netip.Prefix
	}
	// InSet matches an address, or an address with its port, against a set.
	InSet struct {
		Side Side
		Not  bool
		// Set is the set's name; Port says that its members have ports.
		Set  string
		Port bool
	}
	// Ports matches a port against at most 15 numbers, where a range counts as two. It needs a Proto.
	Ports struct {
		Side   Side
		Not    bool
		Ranges []policy.PortRange
	}
	// ICMP matches a type and code. It needs a Proto.
	ICMP struct {
		Not bool
		policy.ICMPType
	}
	// Mark matches the bits of Mask in the packet's mark.
	Mark struct {
		Not         bool
		Value, Mask uint32
	}
	// ConnMark matches the bits of Mask in the mark of the packet's connection.
	ConnMark struct {
		Not         bool
		Value, Mask uint32
	}
	// CTState matches the connection tracking's states: NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED, DNAT, SNAT.
	CTState struct {
		Not    bool
		States string
	}
	// AddrType matches LOCAL, BROADCAST, … of an address.
	AddrType struct {
		Side Side
		Not  bool
		Type string
	}
	// Spoofed is true of a packet that its sender's address has no route back by the interface that it came by
	// (the rpfilter match, inverted). In raw and mangle PREROUTING only.
	Spoofed struct{}
	// Rate is true of at most so many packets in a second.
	Rate struct{ PerSecond, Burst int }
)

// Side is an end of a flow.
type Side uint8

// The sides.
const (
	Source Side = iota
	Destination
)

// String gives "src" or "dst".
func (s Side) String() string {
	if s == Source {
		return "src"
	}
	return "dst"
}

// Verb is what an Action does.
type Verb uint8

// The verbs. Jump comes back after the other chain's end; after a Goto its end is this one's too.
const (
	Accept Verb = iota
	Drop
	Reject
	Return
	Jump
	Goto
	SetMark
	NoTrack
	// Report sends the packet to group Group of the kernel's packet log (NFLOG), with Text as its prefix.
	Report
	// KernelLog writes a line that begins with Text to the kernel's log.
	KernelLog
	Masquerade
)

// Action is what is done with a packet.
type Action struct {
	Verb Verb
	// Text is the other chain's name, or a log's prefix.
	Text string
	// Value and Mask are of SetMark: the mark's bits of Mask become those of Value.
	Value, Mask uint32
	// Group is of Report.
	Group uint16
}

// Chain is the chain that it leads to, or empty.
func (a Action) Chain() string {
	if a.Verb == Jump || a.Verb == Goto {
		return a.Text
	}
	return ""
}
