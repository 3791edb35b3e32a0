// SPDX-License-Identifier: Apache-2.0

// Package bgp is what this node says to its BGP peers and what it learns from them, as values:
// plan computes a Plan, speaker applies it to GoBGP and reports a RIB, fib turns the RIB into
// routes. Nothing here writes a route to the kernel; that is felix's.
package bgp

import (
	"net/netip"
	"time"
)

// Plan is everything that the speaker should be doing. A session carries the routes of one family, that
// of its addresses.
type Plan struct {
	Global Global
	// Peers by neighbour address.
	Peers map[netip.Addr]Peer
	// Origins are the prefixes that this node originates, with itself as next hop.
	Origins map[netip.Prefix]struct{}
}

// Global is the speaker's own side; a change of it restarts every session.
type Global struct {
	AS uint32
	// RouterID has the form of an IPv4 address, whatever the families.
	RouterID netip.Addr
	// ListenPort is the TCP port; ListenAddresses are empty for all.
	ListenPort      uint16
	ListenAddresses []netip.Addr
}

// PeerKind says where a peer comes from, in Calico's words.
type PeerKind string

// The kinds of peers.
const (
	MeshPeer   PeerKind = "node-to-node mesh"
	NodePeer   PeerKind = "node specific"
	GlobalPeer PeerKind = "global"
)

// Peer is one neighbour. All fields but Name and Kind are part of the session: changing one
// restarts it, and only it.
type Peer struct {
	// Name is the Node's or BGPPeer's name, for people.
	Name string
	Kind PeerKind
	// Address, Port and AS are the neighbour's.
	Address netip.Addr
	Port    uint16
	AS      uint32
	// LocalAddress is what the session comes from.
	LocalAddress netip.Addr
	// Passive means that the neighbour connects to us and we wait.
	Passive bool
	// HoldTime and Keepalive are offered to the neighbour.
	HoldTime  time.Duration
	Keepalive time.Duration
	// RestartTime is how long the neighbour may keep our routes while our speaker restarts (RFC 4724).
	RestartTime time.Duration
}

// Path is one usable way to a prefix: a member of the best path set (several with ECMP).
type Path struct {
	NextHop netip.Addr
	// Peer is the neighbour that sent it; invalid for what we originate.
	Peer netip.Addr
}

// RIB is an immutable picture of what the speaker learned. Read only.
type RIB struct {
	// Paths by prefix; own origins are not among them.
	Paths map[netip.Prefix][]Path
	// Generation is another one whenever Paths has changed.
	Generation uint64
	// Sessions by neighbour address.
	Sessions map[netip.Addr]Session
	// Complete is true once everything that the peers had to tell has arrived: each configured
	// peer has sent End-of-RIB, or the restart timer has run out. Until then nothing may be pruned.
	Complete bool
	// Running says that the speaker answers.
	Running bool
}

// Session is the state of one neighbour.
type Session struct {
	// State is the FSM's: Idle, Connect, Active, OpenSent, OpenConfirm, Established (RFC 4271, 8.2.2).
	State string
	// Since is when it was established or lost; zero if never established.
	Since time.Time
	// Reason says why the session is not established: the last notification, or the TCP error; or why
	// an established one carries no routes.
	Reason string
	// EndOfRIB says that the neighbour has told everything (RFC 4724).
	EndOfRIB bool
	// Received and Advertised count prefixes. Flaps counts losses of an established session.
	Received, Advertised uint64
	Flaps                uint32
}

// Established reports whether the session is up.
func (s Session) Established() bool { return s.State == "Established" }
