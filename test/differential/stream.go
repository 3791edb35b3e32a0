// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"

	"korat/api"
	"korat/policy"
	"korat/policy/explain"
)

// The ports that new connections of a stream come from, one after the other. No rule tells them apart: the scene's
// have numbers below, and ranges that begin at 1 or 1024 and end at 65535.
const (
	firstSource = 20_000
	sources     = 4_096
)

// Stream is packets of one kind, from one end to another. They are all of new connections, or all of one.
type Stream struct {
	Flow
	// lasting streams have one connection, which the other end answers.
	lasting bool
	// old and new are the verdicts before and after an update.
	old, new bool
	// sent and came count the packets of a window, and answered those of the other end.
	sent, came, answered int
}

// String names the kind.
func (s *Stream) String() string {
	kind := "new connections"
	if s.lasting {
		kind = "an established connection"
	}
	return fmt.Sprintf("%s, %s", kind, s.Flow)
}

// fault says what is wrong with a window's counts: "" if nothing is.
func (s *Stream) fault() string {
	switch {
	case s.old && s.new && s.came < s.sent:
		return fmt.Sprintf("%d of %d packets were lost of what is allowed before and after", s.sent-s.came, s.sent)
	case s.old && s.new && s.lasting && s.answered < s.sent:
		return fmt.Sprintf("%d of %d answers were lost of what is allowed before and after", s.sent-s.answered, s.sent)
	case !s.old && !s.new && s.came > 0:
		return fmt.Sprintf("%d of %d packets came through of what is forbidden before and after", s.came, s.sent)
	}
	return ""
}

// streams makes so many, of which each is a connection of its own whatever ports its packets come from.
func (r *Scene) streams(s *Site, n, lasting int) []*Stream {
	var all []*Stream
	known := map[tuple]bool{}
	for len(all) < n+lasting {
		f := r.flow(s, 0)
		p := &f.Packet
		switch p.Protocol {
		case policy.TCP, policy.UDP, policy.SCTP, policy.UDPLite:
			if p.SourcePort = firstSource; p.DestinationPort >= firstSource {
				continue
			}
		case policy.ICMP, policy.ICMPv6:
		default: // without ports its packets are of one connection, and those the other way too
			if t := f.tuple(); known[t] {
				continue
			}
		}
		last := len(all) >= n
		if last && (p.Protocol != policy.UDP || f.Shot.From == host || f.At == host || f.Shot.From == stray || f.At == stray || f.isSpoofed()) {
			continue
		}
		if t := f.tuple(); !known[t] {
			known[t] = true
			all = append(all, &Stream{Flow: f, lasting: last})
		}
	}
	return all
}

// isSpoofed says whether the packet comes from a pod, with the address of another.
func (f Flow) isSpoofed() bool {
	return f.From.Interface == "" && f.Shot.From != outside && f.Shot.From != host
}

// answer gives the packet that the other end of a connection sends back.
func (s *Stream) answer() Shot {
	p := s.Packet
	p.Source, p.Destination = p.Destination, p.Source
	p.SourcePort, p.DestinationPort = p.DestinationPort, p.SourcePort
	from := s.At
	if from == uplink {
		from = outside
	}
	return Shot{from, p}
}

// Traffic is the packets of all streams, burst by burst.
type Traffic struct {
	wire    *Wire
	streams []*Stream
	// round numbers the bursts, and total counts all packets.
	round uint32
	total int
	shots []Shot
	// whose has the stream of each of a burst's packets.
	whose map[uint32]*Stream
}

// run sends a packet of each stream, the answers with them, and counts what has come through.
func (t *Traffic) run() error {
	t.round++
	t.shots = t.shots[:0]
	t.whose = make(map[uint32]*Stream, len(t.streams))
	for i, s := range t.streams {
		shot := s.Shot
		shot.Packet.Number = t.round<<8 | uint32(i)
		if shot.Packet.SourcePort == firstSource && !s.lasting {
			shot.Packet.SourcePort += uint16(t.round % sources)
		}
		s.sent++
		t.whose[shot.Packet.Number] = s
		t.shots = append(t.shots, shot)
		if s.lasting && s.old {
			answer := s.answer()
			answer.Packet.Number = shot.Packet.Number
			t.shots = append(t.shots, answer)
		}
	}
	t.total += len(t.shots)
	arrivals, err := t.wire.Send(t.shots)
	if err != nil {
		return err
	}
	for _, a := range arrivals {
		s := t.whose[a.Packet.Number]
		if s == nil {
			continue
		}
		f := s.Flow
		f.Packet.Number = a.Packet.Number
		switch {
		case f.is(a):
			s.came++
		case s.lasting && a.Packet.Source == f.Packet.Destination && a.Packet.Destination == f.Packet.Source:
			s.answered++
		}
	}
	return nil
}

// judge gives each stream its verdict after an update, and what it was before.
func (t *Traffic) judge(world *explain.World) {
	for _, s := range t.streams {
		s.old, s.new = s.new, world.Allowed(s.question())
	}
}

// clear begins a new window.
func (t *Traffic) clear() {
	for _, s := range t.streams {
		s.sent, s.came, s.answered = 0, 0, 0
	}
}

// mutate gives one change of one object, of those that there are or of another.
func (r *Scene) mutate(s *Site, snap api.Snapshot) (string, Change) {
	for {
		kind := pick(r, api.KindTier, api.KindProfile, api.KindNetworkSet, api.KindGlobalNetworkSet, api.KindWorkloadEndpoint,
			api.KindWorkloadEndpoint, api.KindNetworkPolicy, api.KindGlobalNetworkPolicy, api.KindKubernetesNetworkPolicy,
			api.KindClusterNetworkPolicy, api.KindStagedNetworkPolicy)
		var have []api.Object
		for obj := range snap.Objects(kind) {
			have = append(have, obj)
		}
		switch {
		case len(have) > 0 && r.maybe(5) && kind != api.KindWorkloadEndpoint:
			obj := pick(r, have...)
			return "delete " + obj.Key().String(), Change{Delete: []api.Object{obj}}
		case len(have) > 0 && r.maybe(2):
			if obj := r.tweak(pick(r, have...)); obj != nil {
				return "change " + obj.Key().String(), Change{Put: []api.Object{obj}}
			}
		case kind != api.KindWorkloadEndpoint || r.maybe(4):
			obj := r.valid(r.maker(kind))
			return "put " + obj.Key().String(), Change{Put: []api.Object{obj}}
		}
	}
}

func (r *Scene) maker(kind api.Kind) func() api.Object {
	switch kind {
	case api.KindTier:
		return r.tier
	case api.KindProfile:
		return pick(r, r.profile, r.profile, r.account)
	case api.KindNetworkSet:
		return r.networkSet
	case api.KindGlobalNetworkSet:
		return r.globalNetworkSet
	case api.KindWorkloadEndpoint:
		return r.stranger
	case api.KindNetworkPolicy:
		return r.networkPolicy
	case api.KindGlobalNetworkPolicy:
		return r.globalPolicy
	case api.KindKubernetesNetworkPolicy:
		return r.kubernetesPolicy
	case api.KindClusterNetworkPolicy:
		return r.clusterPolicy
	default:
		return r.stagedPolicy
	}
}

// tweak changes a little of an object; nil if it has nothing to change.
func (r *Scene) tweak(obj api.Object) api.Object {
	obj = obj.DeepCopyObject()
	base := func(p *api.PolicyBase) {
		switch r.IntN(4) {
		case 0:
			p.Order = r.order(1, 2, 1000)
		case 1:
			p.Selector = r.selector()
		default:
			r.Shuffle(len(p.Ingress), func(i, j int) { p.Ingress[i], p.Ingress[j] = p.Ingress[j], p.Ingress[i] })
			r.Shuffle(len(p.Egress), func(i, j int) { p.Egress[i], p.Egress[j] = p.Egress[j], p.Egress[i] })
		}
	}
	switch o := obj.(type) {
	case *api.WorkloadEndpoint:
		o.Labels = r.labels()
	case *api.NetworkSet:
		o.Labels = r.labels()
	case *api.GlobalNetworkSet:
		o.Labels = r.labels()
	case *api.Profile:
		if o.Spec.LabelsToApply == nil {
			return nil
		}
		o.Spec.LabelsToApply = map[string]string{"pcns.env": pick(r, "prod", "dev"), "z": r.value()}
	case *api.Tier:
		if api.Default(o); o.Name == api.DefaultName {
			return nil
		}
		o.Spec.Order = r.order(10, 500, 2000, 2_000_000, 20_000_000)
	case *api.NetworkPolicy:
		base(&o.Spec.PolicyBase)
	case *api.GlobalNetworkPolicy:
		base(&o.Spec.PolicyBase)
	default:
		return nil
	}
	return obj
}
