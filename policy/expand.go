// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	"korat/api"
)

// An expansion is a rule of Kubernetes' kinds, which has any number of peers and of protocols with ports, of either
// of which one must match; none at all match everything.
type expansion struct {
	rule  Rule
	peers []Entity
	ports []protocolPort
}

// A protocolPort is a protocol with its destination port: a range, a name or, if it has neither, every one.
type protocolPort struct {
	protocol Protocol
	ports    PortRange
	name     string
}

// rules gives as few as are equal to it: one for each peer and protocol, where peers that are only prefixes are one.
// Selectors stay apart, as a set for each is shared with other rules, and one of both could not be looked up by label.
func (x expansion) rules(d api.PolicyType) []Rule {
	peers := x.joinedPeers()
	if len(peers) == 0 {
		peers = []Entity{{}}
	}
	var out []Rule
	for _, peer := range peers {
		for _, m := range x.byProtocol() {
			r := x.rule
			r.Protocol = m.Protocol
			if d == api.Ingress {
				r.Source, r.Destination = peer, m.Destination
			} else {
				peer.Ports, peer.NamedPorts = m.Destination.Ports, m.Destination.NamedPorts
				r.Destination = peer
			}
			out = append(out, r)
		}
	}
	return out
}

// joinedPeers gives the peers, each once, with the plain prefixes of all where the first of them was.
func (x expansion) joinedPeers() []Entity {
	var out []Entity
	plain := -1
	for _, peer := range x.peers {
		switch {
		case peer.Selector != nil || len(peer.NotNets) > 0:
			if !slices.ContainsFunc(out, func(o Entity) bool { return samePeer(o, peer) }) {
				out = append(out, peer)
			}
		case plain < 0:
			plain = len(out)
			out = append(out, peer)
		default:
			out[plain].Nets = inOrder(slices.Concat(out[plain].Nets, peer.Nets))
		}
	}
	return out
}

func samePeer(a, b Entity) bool {
	if (a.Selector == nil) != (b.Selector == nil) || a.Selector != nil && !a.Selector.Equal(*b.Selector) {
		return false
	}
	return slices.Equal[[]netip.Prefix](a.Nets, b.Nets) && slices.Equal[[]netip.Prefix](a.NotNets, b.NotNets)
}

// byProtocol gives a match for each protocol, in the order of their numbers, with all the ports of it.
func (x expansion) byProtocol() []Rule {
	if len(x.ports) == 0 {
		return []Rule{{}}
	}
	byProtocol := map[Protocol]*Entity{}
	every := map[Protocol]bool{}
	var out []Rule
	for _, p := range x.ports {
		if byProtocol[p.protocol] == nil {
			byProtocol[p.protocol] = &Entity{}
			out = append(out, Rule{Protocol: p.protocol})
		}
		to := byProtocol[p.protocol]
		switch {
		case p.name != "":
			to.NamedPorts = append(to.NamedPorts, p.name)
		case p.ports.Last != 0:
			to.Ports = append(to.Ports, p.ports)
		default:
			every[p.protocol] = true
		}
	}
	slices.SortFunc(out, func(a, b Rule) int { return int(a.Protocol) - int(b.Protocol) })
	for i := range out {
		if to := byProtocol[out[i].Protocol]; !every[out[i].Protocol] {
			out[i].Destination = Entity{Ports: joined(to.Ports), NamedPorts: unrepeated(to.NamedPorts)}
		}
	}
	return out
}
