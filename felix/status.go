// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"korat/bgp"
	"korat/felix/dataplane"
)

// NodeStatus is what `koratctl node status` prints.
type NodeStatus struct {
	Node    string `json:"node"`
	Version string `json:"version"`
	// Address is the node's IPv4 address, and AddressIPv6 its IPv6 one.
	Address     string          `json:"address,omitempty"`
	AddressIPv6 string          `json:"addressIPv6,omitempty"`
	AS          uint32          `json:"as,omitempty"`
	RouterID    string          `json:"routerID,omitempty"`
	Sessions    []SessionStatus `json:"sessions"`
	Routes      []RouteStatus   `json:"routes"`
	Policies    *PolicyStatus   `json:"policies,omitempty"`
	// Problems are the reasons for which the node is not ready, and what it works around.
	Problems []string `json:"problems"`
}

// SessionStatus is one BGP session.
type SessionStatus struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Address string `json:"address"`
	AS      uint32 `json:"as"`
	State   string `json:"state"`
	// Since is when the session was established or lost; nil if never.
	Since *time.Time `json:"since,omitempty"`
	// Reason says why it is down.
	Reason     string `json:"reason,omitempty"`
	Received   uint64 `json:"received"`
	Advertised uint64 `json:"advertised"`
	Flaps      uint32 `json:"flaps"`
}

// RouteStatus is one route that we want in the kernel.
type RouteStatus struct {
	Prefix   string   `json:"prefix"`
	NextHops []string `json:"nextHops"`
	// From is "local pod", "own block", "gateway" or "learned".
	From string `json:"from"`
}

// statusOf captures what the status is made from; most passes are never asked for theirs. Plan and
// State are values that nobody changes later; the sessions' counters are as fresh as the speaker's.
func (a *Agent) statusOf(problems []string, policies PolicyStatus) func() NodeStatus {
	node, version, self, plan, want := a.Node, a.Version, a.world.self, a.world.plan, a.world.want.Routes
	return func() NodeStatus {
		s := NodeStatus{
			Node: node, Version: version, Problems: problems,
			AS: plan.Global.AS, Sessions: sessions(plan, a.Speaker.RIB()), Routes: routes(want), Policies: &policies,
		}
		s.Address, s.AddressIPv6 = prefixText(self.ipv4.Address), prefixText(self.ipv6.Address)
		if plan.Global.RouterID.IsValid() {
			s.RouterID = plan.Global.RouterID.String()
		}
		return s
	}
}

func sessions(p bgp.Plan, rib bgp.RIB) []SessionStatus {
	all := []SessionStatus{}
	for _, addr := range sortedPeers(p) {
		peer, have := p.Peers[addr], rib.Sessions[addr]
		s := SessionStatus{
			Name: peer.Name, Kind: string(peer.Kind), Address: addr.String(), AS: peer.AS,
			State: cmp.Or(have.State, "not configured yet"), Reason: have.Reason,
			Received: have.Received, Advertised: have.Advertised, Flaps: have.Flaps,
		}
		if !rib.Running {
			s.State, s.Reason = "unknown", "the speaker does not answer"
		}
		if !have.Since.IsZero() {
			s.Since = &have.Since
		}
		all = append(all, s)
	}
	return all
}

func sortedPeers(p bgp.Plan) []netip.Addr {
	addrs := make([]netip.Addr, 0, len(p.Peers))
	for addr := range p.Peers {
		addrs = append(addrs, addr)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

func routes(want map[dataplane.RouteKey]dataplane.Route) []RouteStatus {
	keys := make([]dataplane.RouteKey, 0, len(want))
	for key := range want {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(x, y dataplane.RouteKey) int { return x.Prefix.Compare(y.Prefix) })
	all := []RouteStatus{}
	for _, key := range keys {
		r := want[key]
		s := RouteStatus{Prefix: key.Prefix.String(), NextHops: []string{}, From: origin(r, key)}
		for _, h := range r.NextHops {
			text := "dev " + h.Device
			if h.Gateway.IsValid() {
				text = h.Gateway.String() + " " + text
			}
			s.NextHops = append(s.NextHops, text)
		}
		all = append(all, s)
	}
	return all
}

func origin(r dataplane.Route, key dataplane.RouteKey) string {
	switch {
	case r.Learned():
		return "learned"
	case r.Type == dataplane.Blackhole:
		return "own block"
	case key.Prefix.Addr().IsLinkLocalUnicast():
		return "gateway"
	}
	return "local pod"
}
