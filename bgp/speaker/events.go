// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	gobgp "github.com/osrg/gobgp/v3/api"

	"korat/bgp"
)

const (
	// batch is the number of paths per message of the event stream. GoBGP sends one more than that
	// in each full message.
	batch = 1000
	// drainLimit bounds how many events are taken before the rest of the loop gets its turn.
	drainLimit = 4096
)

// event is one message of the stream, or its end.
type event struct {
	msg *gobgp.WatchEventResponse
	err error
}

// initial gathers what the stream tells first: the sessions, then the whole table. Only then is it
// known which of the paths known before are gone.
type initial struct {
	sessionsDone bool
	paths        map[netip.Prefix][]bgp.Path
	local        map[netip.Prefix]struct{}
}

func newInitial() *initial {
	return &initial{paths: map[netip.Prefix][]bgp.Path{}, local: map[netip.Prefix]struct{}{}}
}

// subscribe opens the one stream of sessions, best paths and End-of-RIBs: one stream, so that they
// arrive in the order in which they happened. The speaker first sends its present state.
func (s *session) subscribe(ctx context.Context) (<-chan event, error) {
	filters := []*gobgp.WatchEventRequest_Table_Filter{
		{Type: gobgp.WatchEventRequest_Table_Filter_BEST, Init: true},
		{Type: gobgp.WatchEventRequest_Table_Filter_EOR, Init: true},
	}
	stream, err := s.api.WatchEvent(ctx, &gobgp.WatchEventRequest{
		Peer:      &gobgp.WatchEventRequest_Peer{},
		Table:     &gobgp.WatchEventRequest_Table{Filters: filters},
		BatchSize: batch,
	})
	if err != nil {
		return nil, fmt.Errorf("watch speaker: %w", err)
	}
	events := make(chan event, 256)
	go func() {
		for {
			msg, err := stream.Recv()
			select {
			case events <- event{msg, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return events, nil
}

// ended says whether a stream is over; its regular end is no error.
func ended(err error) (bool, error) {
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return err != nil, err
}

// drain takes the event and those that wait behind it, so that a storm is reported as one change.
func (s *session) drain(e event, events <-chan event) (sessionMoved bool, err error) {
	for range drainLimit {
		if e.err != nil {
			return sessionMoved, fmt.Errorf("watch speaker: %w", e.err)
		}
		if p := e.msg.GetPeer(); p != nil {
			sessionMoved = s.peerEvent(p) || sessionMoved
		} else if t := e.msg.GetTable(); t != nil {
			s.tableEvent(t.Paths)
		}
		select {
		case e = <-events:
		default:
			return sessionMoved, nil
		}
	}
	return sessionMoved, nil
}

func (s *session) peerEvent(e *gobgp.WatchEventResponse_PeerEvent) (moved bool) {
	if e.Type == gobgp.WatchEventResponse_PeerEvent_END_OF_INIT {
		if s.initial != nil {
			s.initial.sessionsDone = true
		}
		return true
	}
	addr, err := netip.ParseAddr(e.GetPeer().GetState().GetNeighborAddress())
	if err != nil {
		return false
	}
	old := s.c.table.session(addr)
	next := old
	next.State = stateName(e.Peer.State.SessionState)
	if !next.Established() || !old.Established() {
		// A session's End-of-RIB and capabilities end with it, and a new one has none yet.
		next.EndOfRIB = false
		delete(s.remote, addr)
	}
	if next.Established() != old.Established() {
		next.Since, next.Reason = time.Now(), ""
	}
	s.changed = s.c.table.setSession(addr, next) || s.changed
	return next.Established() || old.Established()
}

// tableEvent takes paths in: each prefix in the message comes with its whole best path set, or with
// a withdrawal. A message with none at all is the table of a speaker that knows nothing.
func (s *session) tableEvent(paths []*gobgp.Path) {
	groups := map[netip.Prefix][]bgp.Path{}
	local := map[netip.Prefix]bool{}
	endOfRIB := false
	for _, p := range paths {
		if p.GetNlri() == nil {
			s.endOfRIB(p)
			endOfRIB = true
			continue
		}
		l, ok := readPath(p)
		if !ok {
			continue
		}
		group := groups[l.prefix]
		if !l.withdraw && !l.local {
			group = append(group, l.path)
		}
		groups[l.prefix] = group
		local[l.prefix] = local[l.prefix] || l.local && !l.withdraw
	}
	if s.initial != nil && s.initial.sessionsDone && !endOfRIB {
		s.takeInitial(groups, local, len(paths) <= batch)
		return
	}
	for prefix, group := range groups {
		s.setBest(prefix, group, local[prefix])
	}
}

// takeInitial adds to the first table, in which a prefix's paths may be spread over two messages.
func (s *session) takeInitial(groups map[netip.Prefix][]bgp.Path, local map[netip.Prefix]bool, last bool) {
	in := s.initial
	for prefix, group := range groups {
		if local[prefix] {
			in.local[prefix] = struct{}{}
		} else {
			in.paths[prefix] = append(in.paths[prefix], group...)
		}
	}
	if !last {
		return
	}
	for prefix := range in.local {
		delete(in.paths, prefix)
	}
	s.local = in.local
	s.changed = s.c.table.setAllPaths(in.paths) || s.changed
	s.initial, s.due = nil, true
}

func (s *session) setBest(prefix netip.Prefix, group []bgp.Path, local bool) {
	_, was := s.local[prefix]
	switch {
	case local:
		s.local[prefix], group = struct{}{}, nil
	case was:
		delete(s.local, prefix)
	}
	s.due = s.due || local != was
	s.changed = s.c.table.setPaths(prefix, group) || s.changed
}

func (s *session) endOfRIB(p *gobgp.Path) {
	addr, err := netip.ParseAddr(p.NeighborIp)
	if err != nil || !isUnicast(p.Family, addr) {
		return
	}
	if s.isLatch(addr) {
		s.opened = true
		return
	}
	next := s.c.table.session(addr)
	next.EndOfRIB = true
	s.changed = s.c.table.setSession(addr, next) || s.changed
}
