// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	gobgp "github.com/osrg/gobgp/v3/api"

	"korat/bgp"
	"korat/bgp/speaker/status"
)

const (
	callTimeout = 10 * time.Second
	// stopTimeout bounds StopBgp, which waits for every session to close.
	stopTimeout = time.Minute

	// listPeriod is how often counters and reasons are read; after a session's change they are read
	// once listDelay has passed, so that a hundred changes cost one reading.
	listPeriod = 5 * time.Second
	listDelay  = 200 * time.Millisecond
	// cheapAdvertised is the number of sessions times prefixes up to which every reading counts what
	// is advertised: GoBGP runs its export filter over the whole table for each session, and does
	// nothing else meanwhile. Above it the count is read at every rareAdvertised-th reading.
	cheapAdvertised = 20000
	rareAdvertised  = 60

	minRetry, maxRetry = time.Second, 30 * time.Second
)

// errGlobal ends a connection whose speaker must start over with other global settings.
var errGlobal = errors.New("global BGP settings changed")

// session is one connection to one speaker. One goroutine owns it.
type session struct {
	c        *Client
	api      gobgp.GobgpApiClient
	answered bool
	// fresh says that this connection started the speaker, and restarting that its first peers are
	// to announce a restart.
	fresh, restarting bool
	global            *gobgp.Global

	// peers are the speaker's, with the hash of our settings ("" for somebody else's); nil until read.
	peers map[netip.Addr]string
	// refused are the wanted peers that the speaker did not take.
	refused map[netip.Addr]error
	// local are the prefixes that the speaker originates.
	local map[netip.Prefix]struct{}
	// graceful says of an established neighbour whether it sends End-of-RIB; absent until read.
	graceful map[netip.Addr]bool

	initial  *initial // nil once the stream has told all that was there before it
	applied  bool     // the plan was applied in full at least once
	changed  bool     // since the consumer was last woken
	due      bool     // the speaker may differ from the plan
	readings int
}

func newSession(c *Client, api gobgp.GobgpApiClient) *session {
	return &session{c: c, api: api, local: map[netip.Prefix]struct{}{}, graceful: map[netip.Addr]bool{},
		refused: map[netip.Addr]error{}, initial: newInitial()}
}

// call gives a context for one request.
func call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}

// start brings the speaker's global settings in line. It waits for the first plan.
func (s *session) start(ctx context.Context) error {
	rpc, cancel := call(ctx)
	got, err := s.api.GetBgp(rpc, &gobgp.GetBgpRequest{})
	cancel()
	if err != nil {
		return fmt.Errorf("ask speaker for its settings: %w", err)
	}
	s.answered = true
	s.meet(got.Global.GetAsn() == 0)
	for s.c.wishNow().plan.Global.AS == 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.c.wanted:
		}
	}
	w := s.c.wishNow()
	s.global = apiGlobal(w.plan.Global)
	switch {
	case got.Global.GetAsn() == 0:
		s.fresh = true
		s.restarting = w.restarting || s.c.table.prefixes() > 0
	case sameGlobal(s.global, got.Global):
		return nil
	default:
		s.c.cfg.Log.Info("speaker starts over with new global settings", "as", s.global.Asn, "router_id", s.global.RouterId)
		if err := s.stopBgp(ctx); err != nil {
			return err
		}
		s.c.instance.seen = time.Now()
	}
	return s.startBgp(ctx)
}

// meet notes which life of the process this is.
func (s *session) meet(idle bool) {
	f, err := status.Read(s.c.cfg.StatusFile)
	if err != nil {
		s.c.cfg.Log.Warn("sessions' history unknown", "error", err)
	}
	if in := &s.c.instance; idle || in.seen.IsZero() || in.pid != f.PID {
		*in = instance{pid: f.PID, seen: time.Now()}
	}
	s.changed = s.c.table.setComplete(false) || s.changed
	s.changed = s.c.table.setRunning() || s.changed
}

func (s *session) startBgp(ctx context.Context) error {
	rpc, cancel := call(ctx)
	defer cancel()
	if _, err := s.api.StartBgp(rpc, &gobgp.StartBgpRequest{Global: s.global}); err != nil {
		// GoBGP keeps the listeners that it could open, and would stumble over them the next time.
		return errors.Join(fmt.Errorf("start BGP on %v port %d: %w", s.global.ListenAddresses, s.global.ListenPort, err), s.stopBgp(ctx))
	}
	return nil
}

func (s *session) stopBgp(ctx context.Context) error {
	rpc, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if _, err := s.api.StopBgp(rpc, &gobgp.StopBgpRequest{}); err != nil {
		return fmt.Errorf("stop BGP: %w", err)
	}
	return nil
}

// serve follows the speaker's events and applies the plan until the connection ends.
func (s *session) serve(ctx context.Context) error {
	events, err := s.subscribe(ctx)
	if err != nil {
		return err
	}
	list := time.NewTimer(0)
	defer list.Stop()
	retry, backoff := time.NewTimer(0), minRetry
	retry.Stop()
	defer retry.Stop()
	deadline := time.NewTimer(time.Hour)
	defer deadline.Stop()
	s.due = true
	for {
		sessionMoved := false
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-events:
			if sessionMoved, err = s.drain(e, events); err != nil {
				return err
			}
		case <-s.c.wanted:
			s.due = true
			deadline.Reset(time.Until(s.deadline()))
		case <-retry.C:
			s.due = true
		case <-deadline.C:
		case <-list.C:
			// A speaker that is gone ends the event stream; one that is only slow is asked again.
			if err := s.list(ctx); err != nil {
				s.c.fail(err)
			}
			list.Reset(listPeriod)
		}
		if s.due && s.initial == nil && s.peers != nil {
			s.due = false
			err := s.apply(ctx)
			if errors.Is(err, errGlobal) {
				return err
			}
			s.c.fail(err)
			if err != nil {
				retry.Reset(backoff)
				backoff = min(2*backoff, maxRetry)
			} else {
				backoff = minRetry
			}
			deadline.Reset(time.Until(s.deadline()))
			sessionMoved = true
		}
		if sessionMoved {
			list.Reset(listDelay)
		}
		s.report()
	}
}

// report judges completeness and wakes the consumer if anything changed.
func (s *session) report() {
	if s.applied && !s.c.table.isComplete() && s.toldAll() {
		s.changed = s.c.table.setComplete(true) || s.changed
	}
	if s.changed {
		s.changed = false
		poke(s.c.wake)
	}
}

// toldAll says whether every neighbour has told everything, or has had its time.
func (s *session) toldAll() bool {
	if !time.Now().Before(s.deadline()) {
		return true
	}
	for peer := range s.c.wishNow().plan.Peers {
		have := s.c.table.session(peer)
		graceful, known := s.graceful[peer]
		if !have.Established() || !have.EndOfRIB && (!known || graceful) {
			return false
		}
	}
	return true
}

// deadline is when the neighbours that have not come back are no longer waited for.
func (s *session) deadline() time.Time {
	var longest time.Duration
	for _, p := range s.c.wishNow().plan.Peers {
		longest = max(longest, p.RestartTime)
	}
	return s.c.instance.seen.Add(longest)
}

// list reads what the event stream does not tell: counters, capabilities, and the reasons of
// sessions that are down. It also notices peers that somebody else added or removed.
func (s *session) list(ctx context.Context) error {
	plan := s.c.wishNow().plan
	advertised := len(plan.Peers)*s.c.table.prefixes() <= cheapAdvertised || s.readings%rareAdvertised == 0
	s.readings++
	have, err := s.listPeers(ctx, advertised)
	if err != nil {
		return err
	}
	history, err := status.Read(s.c.cfg.StatusFile)
	if err != nil {
		s.c.cfg.Log.Warn("sessions' history unknown", "error", err)
	}
	peers := make(map[netip.Addr]string, len(have))
	for addr, p := range have {
		peers[addr] = ourHash(p.GetConf().GetDescription())
		s.graceful[addr] = restartsGracefully(p.GetState().GetRemoteCap())
		if !s.c.table.session(addr).Established() {
			delete(s.graceful, addr)
		}
	}
	for addr, want := range plan.Peers {
		s.refresh(want, have[addr], history.Peers[addr], advertised)
	}
	if s.peers == nil || differ(peers, plan.Peers) {
		s.due = true
	}
	s.peers = peers
	return nil
}

// differ says whether the speaker's peers are other than the wanted ones.
func differ(have map[netip.Addr]string, want map[netip.Addr]bgp.Peer) bool {
	if len(have) != len(want) {
		return true
	}
	for addr, p := range want {
		if have[addr] != sessionHash(p) {
			return true
		}
	}
	return false
}

func (s *session) listPeers(ctx context.Context, advertised bool) (map[netip.Addr]*gobgp.Peer, error) {
	rpc, cancel := call(ctx)
	defer cancel()
	stream, err := s.api.ListPeer(rpc, &gobgp.ListPeerRequest{EnableAdvertised: advertised})
	if err != nil {
		return nil, fmt.Errorf("list peers: %w", err)
	}
	peers := map[netip.Addr]*gobgp.Peer{}
	for {
		r, err := stream.Recv()
		if done, err := ended(err); done {
			return peers, err
		}
		if addr, err := netip.ParseAddr(r.GetPeer().GetState().GetNeighborAddress()); err == nil {
			peers[addr] = r.Peer
		}
	}
}

// refresh brings one session's counters, times and reason up to date. Its state and its End-of-RIB
// come from the events alone, which are in order with the paths.
func (s *session) refresh(want bgp.Peer, have *gobgp.Peer, past status.Peer, advertised bool) {
	out := s.c.table.session(want.Address)
	if out.State == "" {
		out.State = stateIdle
	}
	out.Flaps = past.Flaps
	out.Received = 0
	if advertised {
		out.Advertised = 0
	}
	for _, f := range have.GetAfiSafis() {
		out.Received += f.GetState().GetReceived()
		if advertised {
			out.Advertised += f.GetState().GetAdvertised()
		}
	}
	if out.Established() {
		out.Since, out.Reason = past.Up, ""
		if up := have.GetTimers().GetState().GetUptime(); out.Since.IsZero() && up != nil {
			out.Since = up.AsTime()
		}
	} else {
		out.Since, out.Reason = past.Down, reason(want, past.Reason, s.refused[want.Address])
	}
	s.changed = s.c.table.setSession(want.Address, out) || s.changed
}

func reason(want bgp.Peer, recorded string, refused error) string {
	switch {
	case refused != nil:
		return refused.Error()
	case recorded != "":
		return recorded
	case want.Passive:
		return "waiting for the neighbour to connect"
	default:
		return "connecting"
	}
}
