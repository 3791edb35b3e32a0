// SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"net/netip"
	"slices"

	"korat/bgp"
	"korat/felix/kernel"
	"korat/policy"
	"korat/policy/compile"
)

// bgpPort is BGP's (RFC 4271).
const bgpPort = 179

// Lifeline is a connection of TCP without which the agent would not hear that somebody has mended a policy, or the node
// would lose its routes. No policy of a host endpoint ends one.
type Lifeline struct {
	// Peer is at the other end; if it is not valid, anybody.
	Peer netip.Addr
	// PeerPort and OwnPort are where one of the two listens. 0 is none.
	PeerPort, OwnPort uint16
}

// Sessions gives the lifelines of the Plan's peers: either side may have begun the session.
func Sessions(p bgp.Plan) []Lifeline {
	all := make([]Lifeline, 0, len(p.Peers))
	for addr, peer := range p.Peers {
		l := Lifeline{Peer: addr, PeerPort: peer.Port, OwnPort: p.Global.ListenPort}
		if l.PeerPort == 0 {
			l.PeerPort = bgpPort
		}
		if l.OwnPort == 0 {
			l.OwnPort = bgpPort
		}
		all = append(all, l)
	}
	return all
}

// spares says whether the flow is one of the host's own that no policy ends: a Lifeline, or one of a failsafe port.
func (j *judge) spares(f *kernel.Flow) bool {
	from, to := endsOf(f)
	if j.isPod(from) || j.isPod(to) {
		return false
	}
	o, tcp := &j.job.Rules.Options, f.Protocol == policy.TCP
	if _, own := j.own[from]; own {
		s := side{[]netip.Addr{f.Original.Destination, to}, []uint16{f.Original.DestinationPort, f.Reply.SourcePort}, f.Original.SourcePort}
		if s.calls(f.Protocol, o.FailsafeOut) || tcp && (s.answers(f.Protocol, o.FailsafeIn) || slices.ContainsFunc(j.job.Lifelines, s.is)) {
			return true
		}
	}
	if _, own := j.own[to]; own {
		s := side{[]netip.Addr{from}, []uint16{f.Original.SourcePort}, f.Reply.SourcePort}
		return s.answers(f.Protocol, o.FailsafeIn) || tcp && (s.calls(f.Protocol, o.FailsafeOut) || slices.ContainsFunc(j.job.Lifelines, s.is))
	}
	return false
}

func (j *judge) isPod(a netip.Addr) bool {
	_, is := j.pods[a]
	return is
}

// side is a flow as one of the host's own addresses sees it: if a service is called, the peer has two addresses and ports.
// A connection of TCP that is older than the connection tracking is there as its next packet has found it, perhaps the wrong
// way round: so who has begun it does not tell who listens.
type side struct {
	peers     []netip.Addr
	peerPorts []uint16
	ownPort   uint16
}

// is says whether it is the Lifeline.
func (s side) is(l Lifeline) bool {
	return (!l.Peer.IsValid() || slices.Contains(s.peers, l.Peer)) &&
		(l.PeerPort != 0 && slices.Contains(s.peerPorts, l.PeerPort) || l.OwnPort != 0 && s.ownPort == l.OwnPort)
}

// calls says whether the peer's port is one of those that are always open to the host, and answers whether the host's is one that
// is always open to others.
func (s side) calls(p policy.Protocol, open []compile.Failsafe) bool {
	return slices.ContainsFunc(open, func(f compile.Failsafe) bool {
		return f.Protocol == p && slices.Contains(s.peerPorts, f.Port) && s.within(f.Net)
	})
}

func (s side) answers(p policy.Protocol, open []compile.Failsafe) bool {
	return slices.ContainsFunc(open, func(f compile.Failsafe) bool {
		return f.Protocol == p && f.Port == s.ownPort && s.within(f.Net)
	})
}

func (s side) within(net netip.Prefix) bool {
	return !net.IsValid() || slices.ContainsFunc(s.peers, net.Contains)
}
