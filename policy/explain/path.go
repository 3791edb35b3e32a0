// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"korat/api"
	"korat/policy"
)

// workloadPrefix begins the names of pods' interfaces. What comes by or goes to one that nobody knows is dropped.
const workloadPrefix = "cali"

// vxlanPort is the UDP port of VXLAN (RFC 7348), and ipip the protocol of IPv4 in IP (RFC 2003): pods may not make
// packets that a tunnel's end would unpack.
const (
	vxlanPort                 = 4789
	ipip      policy.Protocol = 4
)

// What becomes of a packet from a pod to its own node (FelixConfiguration, defaultEndpointToHostAction).
const (
	toHostDrop   = "Drop"
	toHostReturn = "Return"
	toHostAccept = "Accept"
)

// Explain follows the flow and tells everything that was looked at.
func (w *World) Explain(f Flow) Verdict {
	j := w.judge(f, true)
	v := Verdict{Allowed: j.allowed, Sides: append([]Side{}, j.sides...), Notes: j.notes} // in JSON a list, empty or not
	if len(v.Sides) == 0 && len(v.Notes) == 0 {
		v.Notes = []string{"no endpoint of this cluster is concerned: nothing is checked"}
	}
	return v
}

// Allowed gives the verdict alone, which costs less.
func (w *World) Allowed(f Flow) bool { return w.judge(f, false).allowed }

func (w *World) judge(f Flow, words bool) *journey {
	f.From.Address, f.To.Address = f.From.Address.Unmap(), f.To.Address.Unmap()
	j := &journey{evaluation: &evaluation{World: w, flow: &f, words: words}, allowed: true}
	j.from, j.to = j.locate(f.From), j.locate(f.To)
	j.travel()
	return j
}

// journey is a flow's way through the nodes.
type journey struct {
	*evaluation
	from, to spot
	allowed  bool
	sides    []Side
	notes    []string
}

// spot is what an End is.
type spot struct {
	what whatEnd
	node string
	pod  *Endpoint
	// host is the host's own interface, if it was said.
	host string
}

type whatEnd uint8

const (
	outside whatEnd = iota
	hostItself
	pod
	unknown
)

func (w *World) locate(e End) spot {
	ep := w.byPlace[place{e.Node, e.Interface}]
	switch {
	case e.Node == "":
		return spot{what: outside}
	case ep != nil && !ep.Host:
		return spot{what: pod, node: e.Node, pod: ep}
	case strings.HasPrefix(e.Interface, workloadPrefix):
		return spot{what: unknown, node: e.Node}
	}
	return spot{what: hostItself, node: e.Node, host: e.Interface}
}

// travel makes every check on the way.
func (j *journey) travel() {
	from, to := j.from, j.to
	if from.what == pod && from.pod == to.pod {
		j.note("%s talks to itself: that does not leave the pod", from.pod)
		return
	}
	sameNode := from.node != "" && from.node == to.node
	switch from.what {
	case unknown:
		if j.discovers(sameNode) {
			j.note("neighbour and multicast discovery with a node is allowed by any interface of a pod")
			return
		}
		j.refuse(j.flow.From, api.Egress, "interface %s of %s is of no pod that is known: what comes by it is dropped")
	case pod:
		j.leavePod(sameNode)
	default:
	}
	switch {
	case sameNode && from.what == hostItself:
		j.note("what a node sends to itself and to its own pods is not checked")
		return
	case j.discovers(sameNode):
		return
	case sameNode && to.what == hostItself:
		j.toOwnHost()
	case !sameNode:
		j.cross()
	}
	switch to.what {
	case unknown:
		j.refuse(j.flow.To, api.Ingress, "interface %s of %s is of no pod that is known: what goes to it is dropped")
	case pod:
		j.add(j.check(to.pod, api.Ingress, Local))
	default:
	}
	j.serve(sameNode)
}

// serve checks that no node is to forward to the address of a service: what somebody offers there has the address of an
// endpoint by now.
func (j *journey) serve(sameNode bool) {
	node, addr := j.from.node, j.flow.To.Address
	switch {
	case j.from.what == pod && (!sameNode || j.to.what != hostItself):
	case j.to.what == pod && !sameNode:
		node = j.to.node
	default:
		return // nothing is forwarded
	}
	if i := slices.IndexFunc(j.parts.ServiceCIDRs, func(p netip.Prefix) bool { return p.Contains(addr) }); i >= 0 {
		s := Side{Endpoint: "node " + node, Node: node, Direction: api.Egress, Stage: Forwarded}
		j.deny(s, ByService, "%s is in %s, which FelixConfiguration's serviceCIDRs have, and is no endpoint's: no service is known there", addr, j.parts.ServiceCIDRs[i])
	}
}

// add notes a check.
func (j *journey) add(s Side) {
	j.allowed = j.allowed && s.Allowed
	if j.words {
		j.sides = append(j.sides, s)
	}
}

func (j *journey) note(format string, args ...any) {
	if j.words {
		j.notes = append(j.notes, fmt.Sprintf(format, args...))
	}
}

// deny notes that the endpoint's check fails whatever policies say.
func (j *journey) deny(s Side, by Reason, why string, args ...any) {
	s.Decided = Decision{Action: api.Deny, Reason: by}
	if j.words {
		s.Decided.Why = fmt.Sprintf(why, args...)
	}
	j.add(s)
}

// refuse notes an end at an interface that nobody knows.
func (j *journey) refuse(e End, d api.PolicyType, why string) {
	j.deny(Side{Endpoint: e.Interface, Node: e.Node, Direction: d}, "", why, e.Interface, e.Node)
}

// leavePod checks what a pod sends.
func (j *journey) leavePod(sameNode bool) {
	f, ep := j.flow, j.from.pod
	s := j.side(ep, api.Egress, Local)
	switch {
	case j.spoofed():
		j.deny(s, BySource, "source %s is not an address of %s: a spoofed source is dropped", f.From.Address, ep)
	case j.discovers(sameNode):
		s.Allowed = true
		s.Decided = Decision{Action: api.Allow, Why: "neighbour and multicast discovery between a pod and its node is always allowed"}
		j.add(s)
	case f.Protocol == policy.UDP && f.DestinationPort == vxlanPort:
		j.deny(s, ByVXLAN, "UDP port %d is VXLAN, which pods may not send", vxlanPort)
	case f.Protocol == ipip:
		j.deny(s, ByIPIP, "protocol %d is IPv4 in IP, which pods may not send", ipip)
	default:
		j.add(j.check(ep, api.Egress, Local))
	}
}

// spoofed says whether the node's route back to the source is not by the pod's interface. The kernel's match knows
// IPv6's unspecified address as no spoofing, and has a route for link-local ones on each interface.
func (j *journey) spoofed() bool {
	addr := j.flow.From.Address
	own := addr.Is6() && (addr.IsUnspecified() || addr.IsLinkLocalUnicast())
	return !own && !j.from.pod.has(addr)
}

// discovers says whether it is what a pod and its node need for IPv6: messages of multicast listeners (RFC 2710), and
// of routers and neighbours (RFC 4861).
func (j *journey) discovers(sameNode bool) bool {
	kind := j.flow.ICMP.Type
	return sameNode && j.to.what == hostItself && j.flow.Protocol == policy.ICMPv6 && j.flow.family() == api.IPv6 &&
		(kind >= 130 && kind <= 133 || kind == 135 || kind == 136)
}

// toOwnHost is the way from a pod to its own node.
func (j *journey) toOwnHost() {
	switch j.parts.EndpointToHost {
	case toHostDrop:
		s := Side{Endpoint: "node " + j.to.node, Node: j.to.node, Direction: api.Ingress}
		j.deny(s, ByHost, "FelixConfiguration's defaultEndpointToHostAction is Drop")
	case toHostAccept:
		j.note("what policies allow a pod to send to its own node is accepted there (defaultEndpointToHostAction: Accept)")
	default:
		j.note("what policies allow a pod to send to its own node, the node's own firewall decides (defaultEndpointToHostAction: %s)", toHostReturn)
	}
}
