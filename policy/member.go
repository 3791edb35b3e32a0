// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"korat/api"
)

// SetKind is what the members of a set are.
type SetKind uint8

// The kinds of sets, in the kernel hash:net, hash:ip,port and bitmap:port.
const (
	Prefixes SetKind = iota
	AddressPorts
	PortNumbers
)

// SetKey names a set in the kernel. Sets of the two families with one content have names of their own:
// "cali40…" and "cali60…".
type SetKey struct {
	Name   string
	Family api.Family
	Kind   SetKind
}

// SetOrder is when members come to a set and go, seen from the chains that look into it and change with it.
type SetOrder uint8

const (
	// AddedFirst is that members come before the chains change, and go after.
	AddedFirst SetOrder = iota
	// RemovedFirst is that members go before the chains change, and come after.
	RemovedFirst
	// AtOnce is that a packet finds all chains and all such sets as they were, or all as they will be: chains look into
	// a copy while the set itself changes. It costs what the set holds.
	AtOnce
)

// MaxCopied is how many members copies for AtOnce have together, at most, unless there is no other way.
const MaxCopied = 1 << 14

// Copy gives the key of a set's copy: "cali40S:…" for "cali40s:…".
func (k SetKey) Copy() SetKey {
	prefix, content, _ := strings.Cut(k.Name, ":")
	kind := min(len("cali40"), len(prefix))
	k.Name = prefix[:kind] + strings.ToUpper(prefix[kind:]) + ":" + content
	return k
}

// Member is one entry of a set: a prefix, an address (as a prefix of one) with protocol and port, or a port.
type Member struct {
	Prefix   netip.Prefix
	Protocol Protocol
	Port     uint16
}

// Compare orders by prefix, then protocol, then port.
func (m Member) Compare(other Member) int {
	return cmp.Or(m.Prefix.Compare(other.Prefix), cmp.Compare(m.Protocol, other.Protocol), cmp.Compare(m.Port, other.Port))
}

// String gives "10.0.0.0/24", "10.0.0.1,6:8080" or "8080".
func (m Member) String() string {
	switch {
	case !m.Prefix.IsValid():
		return fmt.Sprint(m.Port)
	case m.Protocol == 0:
		return m.Prefix.String()
	}
	return fmt.Sprintf("%s,%d:%d", m.Prefix.Addr(), m.Protocol, m.Port)
}
