// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"fmt"

	"korat/policy"
	"korat/policy/explain"
)

// The ports that new connections of a stream come from, one after the other. No rule tells them apart: the scene's
// have numbers below, and ranges that begin at 1 or 1024 and end at 65535. Of ICMP's identifiers there are as many. Before
// they come again, the connection tracking is emptied.
const (
	firstSource = 20_000
	sources     = 256
)

// Stream is packets of one kind, from one end to another. They are all of new connections, or all of one.
type Stream struct {
	Flow
	// lasting streams have one connection, which the other end answers once it talks.
	lasting, talks bool
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
	case s.old && s.new && s.talks && s.answered < s.sent:
		return fmt.Sprintf("%d of %d answers were lost of what is allowed before and after", s.sent-s.answered, s.sent)
	case !s.old && !s.new && s.came > 0:
		return fmt.Sprintf("%d of %d packets came through of what is forbidden before and after", s.came, s.sent)
	}
	return ""
}

// amiss says what is wrong with a window's counts if only the new verdict counts: "" if nothing is.
func (s *Stream) amiss() string {
	switch {
	case s.new && s.came < s.sent:
		return fmt.Sprintf("%d of %d packets were lost of what is allowed now", s.sent-s.came, s.sent)
	case s.new && s.talks && s.answered < s.sent:
		return fmt.Sprintf("%d of %d answers were lost of what is allowed now", s.sent-s.answered, s.sent)
	case !s.new && s.came > 0:
		return fmt.Sprintf("%d of %d packets came through of what is forbidden now", s.came, s.sent)
	case !s.new && s.answered > 0:
		return fmt.Sprintf("%d of %d answers came through of what is forbidden now", s.answered, s.sent)
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
		if last && p.Protocol != policy.UDP && p.Protocol != policy.TCP {
			continue
		}
		if last && (f.Shot.From == host || f.At == host || f.Shot.From == stray || f.At == stray || f.isSpoofed()) {
			continue
		}
		if t := f.tuple(); !known[t] {
			known[t] = true
			f.Packet.Ack = last
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
	// round numbers the bursts, and total counts all packets but those sent while it was quiet.
	round uint32
	total int
	// quiet says that there are no new connections for now.
	quiet bool
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
		if t.quiet && !s.lasting {
			continue
		}
		shot := s.Shot
		shot.Packet.Number = t.round<<8 | uint32(i)
		if shot.Packet.SourcePort == firstSource && !s.lasting {
			shot.Packet.SourcePort += uint16(1 + t.round%sources)
		}
		s.sent++
		t.whose[shot.Packet.Number] = s
		t.shots = append(t.shots, shot)
		if s.talks {
			answer := s.answer()
			answer.Packet.Number = shot.Packet.Number
			t.shots = append(t.shots, answer)
		}
	}
	if !t.quiet {
		t.total += len(t.shots)
	}
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

// begin begins the window of an update, in which who was answered before goes on being answered.
func (t *Traffic) begin() {
	t.clear()
	for _, s := range t.streams {
		s.talks = s.lasting && s.new
	}
}

// clear begins a new window.
func (t *Traffic) clear() {
	for _, s := range t.streams {
		s.sent, s.came, s.answered = 0, 0, 0
	}
}
