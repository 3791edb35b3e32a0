// SPDX-License-Identifier: Apache-2.0

// Package plan computes what this node's BGP speaker should do: which peers, which prefixes. It is
// pure. peers.go has the sessions, origins.go the prefixes, identifier.go the router ID.
//
// One speaker speaks for both families, but each session is of one: that of the addresses between which
// it is. A peer with an IPv4 address is told IPv4 prefixes, one with an IPv6 address IPv6 prefixes, with
// this node's own address of that family as next hop. A TOR with both needs two BGPPeers.
package plan

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"korat/api"
	"korat/bgp"
)

// maxRestartTime is the largest graceful-restart time: 12 bits of seconds (RFC 4724, 3).
const maxRestartTime = 4095 * time.Second

// maxHoldTime is the largest hold time: 16 bits of seconds (RFC 4271, 4.2).
const maxHoldTime = 65535 * time.Second

// Input is what the plan depends on.
type Input struct {
	Snapshot api.Snapshot
	// Node is this node's name.
	Node string
	// Addresses are this node's own.
	Addresses api.Addresses
	// Connected are the subnets that this node is connected to.
	Connected []netip.Prefix
	// Borrowed are addresses of other nodes' blocks that pods of this node have.
	Borrowed []netip.Addr
	// Held are neighbours that get no session, with the reason why (the speaker's supervisor names
	// those whose session crashes it).
	Held map[netip.Addr]string
}

// Plan gives what the speaker should do and, as errors, what it could not make sense of. A problem
// with one object leaves only that one out.
func Plan(in Input) (bgp.Plan, []error) {
	p, problems := Sessions(in)
	if p.Global.AS == 0 {
		return p, problems
	}
	origins, more := Origins(in)
	p.Origins = origins
	return p, append(problems, more...)
}

// Sessions gives the Plan without its Origins. It depends on neither blocks nor pools, which change more
// often than the rest and are as many as the nodes.
func Sessions(in Input) (bgp.Plan, []error) {
	if !in.Addresses.IsValid() {
		return bgp.Plan{}, []error{fmt.Errorf("plan BGP: Node/%s has no address: the speaker needs one to speak from", in.Node)}
	}
	b := builder{in: in, cfg: configuration(in.Snapshot)}
	as := b.cfg.as
	if n, ok := in.Snapshot.Nodes.Get(in.Node); ok && n.Spec.BGP != nil && n.Spec.BGP.ASNumber != nil {
		as = uint32(*n.Spec.BGP.ASNumber)
	}
	if as == 0 {
		b.report(errors.New("BGPConfiguration/default: spec.asNumber is 0: set an AS number of 1..4294967295"))
		return bgp.Plan{}, b.problems
	}
	p := bgp.Plan{
		Global: bgp.Global{AS: as, RouterID: routerID(in.Node, in.Addresses.IPv4.Addr()), ListenPort: b.cfg.port},
		Peers:  b.peers(),
	}
	b.compareRouterIDs(p.Global.RouterID)
	if b.cfg.bindNodeIP {
		for _, own := range in.Addresses.All() {
			p.Global.ListenAddresses = append(p.Global.ListenAddresses, own.Addr())
		}
	}
	return p, b.problems
}

// Origins gives the Plan's Origins.
func Origins(in Input) (map[netip.Prefix]struct{}, []error) {
	b := builder{in: in}
	return b.origins(), b.problems
}

// builder carries what every part needs and gathers the problems.
type builder struct {
	in       Input
	cfg      config
	problems []error
}

func (b *builder) report(err error) { b.problems = append(b.problems, err) }

// config is the BGPConfiguration with its defaults filled in: the datastore may hold objects that
// somebody wrote without passing through ours.
type config struct {
	as          uint32
	port        uint16
	mesh        bool
	bindNodeIP  bool
	restartTime *metav1.Duration
}

func configuration(s api.Snapshot) config {
	c := config{as: api.DefaultASNumber, port: api.DefaultListenPort, mesh: true}
	o, ok := s.BGPConfigurations.Get(api.DefaultName)
	if !ok {
		return c
	}
	if o.Spec.ASNumber != nil {
		c.as = uint32(*o.Spec.ASNumber)
	}
	if o.Spec.ListenPort != 0 {
		c.port = o.Spec.ListenPort
	}
	if o.Spec.NodeToNodeMeshEnabled != nil {
		c.mesh = *o.Spec.NodeToNodeMeshEnabled
	}
	c.bindNodeIP = o.Spec.BindMode == api.BindNodeIP
	c.restartTime = o.Spec.NodeMeshMaxRestartTime
	return c
}

// seconds gives a duration that BGP carries in whole seconds, or the default where it is unset.
// One out of bounds is reported and taken as the nearest bound.
func (b *builder) seconds(field string, d *metav1.Duration, def, limit time.Duration) time.Duration {
	if d == nil || d.Duration == 0 {
		return def
	}
	got := d.Round(time.Second)
	use := min(max(got, time.Second), limit)
	if use != got {
		b.report(fmt.Errorf("%s is %s: BGP carries 1s to %s; using %s", field, d.Duration, limit, use))
	}
	return use
}
