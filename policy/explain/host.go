// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"net/netip"
	"slices"

	"korat/api"
	"korat/policy"
)

// cross is the way from one node to another, or from and to the outside, with the host endpoints on it.
func (j *journey) cross() {
	from, to, f := j.from, j.to, j.flow
	if ep := j.hostEndpoint(from, f.Leaves, f.From.Address); ep != nil {
		if from.what == hostItself {
			j.leaveHost(ep)
		} else {
			j.add(j.check(ep, api.Egress, Forwarded))
		}
	}
	j.masquerade()
	if ep := j.hostEndpoint(to, f.Enters, f.To.Address); ep != nil {
		j.enterHost(ep, to.what != hostItself)
	}
}

// masquerade gives what a pod sends out of all pools the address of its node, if its pool says so: that is what is seen from
// there on.
func (j *journey) masquerade() {
	pool, source := j.pool(j.flow.From.Address), &j.flow.From.Address
	if j.from.what != pod || pool == nil || !pool.NATOutgoing || j.pool(j.flow.To.Address) != nil {
		return
	}
	for _, n := range j.parts.Nodes {
		for _, addr := range n.Addresses {
			if addr = addr.Unmap(); n.Name == j.from.node && addr.BitLen() == source.BitLen() {
				j.note("node %s gives it its own address, taken to be %s: the pool %s has natOutgoing", n.Name, addr, pool.Prefix)
				*source = addr
				return
			}
		}
	}
	j.note("node %s gives it an address of its own, which is not known: the pool %s has natOutgoing", j.from.node, pool.Prefix)
}

// pool gives that of an address, nil if there is none.
func (j *journey) pool(addr netip.Addr) *policy.Pool {
	if i := slices.IndexFunc(j.parts.Pools, func(p policy.Pool) bool { return p.Prefix.Contains(addr) }); i >= 0 {
		return &j.parts.Pools[i]
	}
	return nil
}

// hostEndpoint gives the host endpoint by which the flow crosses a node's border, nil if there is none.
func (j *journey) hostEndpoint(s spot, iface string, addr netip.Addr) *Endpoint {
	if iface == "" {
		iface = s.host
	}
	all := j.hosts[s.node]
	if s.what == outside || len(all) == 0 {
		return nil
	}
	if iface != "" {
		return j.hostInterface(all, iface, addr)
	}
	guess := j.hostInterface(all, "", addr)
	if guess == nil && len(all) == 1 {
		guess = all[0]
	}
	if guess == nil {
		j.note("node %s has %d host endpoints, none of which is for all interfaces: say by which interface the flow goes", s.node, len(all))
		return nil
	}
	j.note("the flow is taken to go by %s of node %s", guess, s.node)
	return guess
}

// hostInterface finds a node's host endpoint: that which names the interface, else that which has the address, else one of
// the interface that the node is known by, else that for all interfaces. Of several it is the first by name.
func (j *journey) hostInterface(all []*Endpoint, iface string, addr netip.Addr) *Endpoint {
	var byAddress, byNode, every *Endpoint
	for _, ep := range all {
		switch {
		case ep.Interface == "*":
			every = cmp.Or(every, ep)
		case iface != "" && ep.Interface == iface:
			return ep
		case (iface == "" || ep.Interface == "") && ep.has(addr):
			byAddress = cmp.Or(byAddress, ep)
		case ep.Interface == "" && j.hasNode(ep):
			byNode = cmp.Or(byNode, ep)
		}
	}
	return cmp.Or(byAddress, byNode, every)
}

// hasNode says whether an address of the endpoint is one that its node is known by.
func (j *journey) hasNode(ep *Endpoint) bool {
	for _, n := range j.parts.Nodes {
		if n.Name == ep.Node {
			return slices.ContainsFunc(n.Addresses, ep.has)
		}
	}
	return false
}

// leaveHost checks what a node itself sends.
func (j *journey) leaveHost(ep *Endpoint) {
	if j.failsafe(ep, api.Egress, Local) {
		return
	}
	if j.safe(api.Egress, Untracked) || !j.early(ep, api.Egress, Untracked) {
		j.add(j.check(ep, api.Egress, Local))
	}
}

// enterHost checks what comes to a node: before connection tracking, before DNAT, and at last as what the node receives
// or forwards. What an earlier stage has decided the later ones leave alone.
func (j *journey) enterHost(ep *Endpoint, forward bool) {
	safe := j.safe(api.Ingress, Local)
	switch {
	case safe && !forward:
		j.failsafe(ep, api.Ingress, Local)
		return
	case !j.safe(api.Ingress, Untracked) && j.early(ep, api.Ingress, Untracked):
		return
	case !safe && j.early(ep, api.Ingress, PreDNAT):
		return
	}
	stage := Local
	if forward {
		stage = Forwarded
	}
	j.add(j.check(ep, api.Ingress, stage))
}

// early makes the check of a stage before the normal one, and says whether that is the last word.
func (j *journey) early(ep *Endpoint, d api.PolicyType, stage Stage) bool {
	if len(j.applying(appliedKey{ep, d, stage})) == 0 {
		return false
	}
	s := j.check(ep, d, stage)
	j.add(s)
	if stage == Untracked && s.Allowed && !s.open {
		j.note("%s does not track the connection: its replies need rules of their own", ep)
	}
	return !s.open
}

// failsafe notes that the port is always open, if it is.
func (j *journey) failsafe(ep *Endpoint, d api.PolicyType, stage Stage) bool {
	if !j.safe(d, stage) {
		return false
	}
	s := j.side(ep, d, stage)
	s.Allowed = true
	s.Decided = Decision{Action: api.Allow, Why: "the port is one of the failsafe ports, which no policy closes"}
	if j.flow.Protocol == policy.ICMPv6 {
		s.Decided.Why = "no policy of a host endpoint closes neighbour, router and multicast discovery"
	}
	j.add(s)
	return true
}

// hostDiscovery are the ICMPv6 types without which a host has no IPv6: of multicast listeners (RFC 2710, RFC 3810), routers
// and neighbours (RFC 4861).
var hostDiscovery = [...]uint8{130, 131, 132, 133, 134, 135, 136, 143}

// safe says whether the flow is to a failsafe port, or what no host with IPv6 can do without. Before connection tracking replies are not known as such, so there
// a source port counts too.
func (j *journey) safe(d api.PolicyType, stage Stage) bool {
	f := j.flow
	if f.family() == api.IPv6 && f.Protocol == policy.ICMPv6 && slices.Contains(hostDiscovery[:], f.ICMP.Type) {
		return true
	}
	open, reverse, peer := j.parts.FailsafeInbound, j.parts.FailsafeOutbound, f.From.Address
	if d == api.Egress {
		open, reverse, peer = reverse, open, f.To.Address
	}
	matches := func(port uint16) func(Failsafe) bool {
		return func(s Failsafe) bool {
			return s.Protocol == f.Protocol && s.Port == port && (!s.Net.IsValid() || s.Net.Contains(peer))
		}
	}
	return slices.ContainsFunc(open, matches(f.DestinationPort)) ||
		stage == Untracked && slices.ContainsFunc(reverse, matches(f.SourcePort))
}
