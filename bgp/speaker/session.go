// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	gobgp "github.com/osrg/gobgp/v3/api"
	"golang.org/x/sys/unix"

	"korat/bgp"
	"korat/bgp/speaker/status"
)

const (
	callTimeout = 10 * time.Second
	// stopTimeout bounds StopBgp, which waits for every session to close.
	stopTimeout = time.Minute
)

// errGlobal ends a connection whose speaker must start over with other global settings.
var errGlobal = errors.New("global BGP settings changed")

// session is one connection to one speaker. One goroutine owns it.
type session struct {
	c   *Client
	api gobgp.GobgpApiClient
	// fresh says that this connection started the speaker, and restarting that its first peers are
	// to announce a restart.
	fresh, restarting bool
	// ipv6 says that the kernel has IPv6.
	ipv6   bool
	global *gobgp.Global

	// peers are the speaker's, with the hash of our settings ("" for somebody else's); nil until read.
	peers map[netip.Addr]string
	// refused are the wanted peers that the speaker did not take.
	refused map[netip.Addr]error
	// local are the prefixes that the speaker originates.
	local map[netip.Prefix]struct{}
	// remote is what established neighbours announced; absent until read.
	remote map[netip.Addr]remote

	latched
	progress
}

// progress is how far a session has come.
type progress struct {
	initial  *initial // nil once the stream has told all that was there before it
	applied  bool     // the plan was applied in full at least once
	changed  bool     // since the consumer was last woken
	due      bool     // the speaker may differ from the plan
	readings int

	listErr, applyErr error
}

// hasIPv6 asks the kernel, which may have been built or booted without IPv6. One in which it is merely
// disabled (disable_ipv6) lets listen.
func hasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return !errors.Is(err, unix.EAFNOSUPPORT)
	}
	_ = unix.Close(fd)
	return true
}

func newSession(c *Client, api gobgp.GobgpApiClient) *session {
	return &session{
		c: c, api: api, ipv6: hasIPv6(), local: map[netip.Prefix]struct{}{}, remote: map[netip.Addr]remote{},
		refused: map[netip.Addr]error{}, progress: progress{initial: newInitial()},
	}
}

// call gives a context for one request.
func call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}

// start brings the speaker's global settings in line. It waits for the first plan.
func (s *session) start(ctx context.Context) error {
	if err := s.startGlobal(ctx); err != nil {
		return err
	}
	s.changed = s.c.table.setComplete(false)
	s.changed = s.c.table.setRunning() || s.changed
	return nil
}

func (s *session) startGlobal(ctx context.Context) error {
	rpc, cancel := call(ctx)
	got, err := s.api.GetBgp(rpc, &gobgp.GetBgpRequest{})
	cancel()
	if err != nil {
		return fmt.Errorf("ask speaker for its settings: %w", err)
	}
	s.meet(got.Global.GetAsn() == 0)
	for s.c.wishNow().plan.Global.AS == 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.c.wanted:
		}
	}
	w := s.c.wishNow()
	s.global = apiGlobal(w.plan.Global, s.ipv6)
	switch {
	case got.Global.GetAsn() == 0:
		s.fresh = true
		s.restarting = w.restarting || s.c.instance.spoke
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
		*in = instance{pid: f.PID, seen: time.Now(), spoke: in.spoke}
	}
	s.c.judge()
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
	k := newClock()
	defer k.stop()
	defer s.closeLatch()
	s.due = true
	for {
		moved, err := s.next(ctx, k, events)
		if err != nil {
			return err
		}
		if s.due && s.initial == nil && s.peers != nil {
			if err := s.settle(ctx, k); err != nil {
				return err
			}
			moved = true
		}
		if err := s.turnLatch(ctx); err != nil {
			return err
		}
		switch {
		case moved:
			k.listWithin(listDelay)
		case s.changed:
			k.listWithin(countDelay)
		}
		s.report()
	}
}

// next waits for one thing to happen and takes it in; moved says that a session may have changed.
func (s *session) next(ctx context.Context, k *clock, events <-chan event) (moved bool, err error) {
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case e := <-events:
		return s.drain(e, events)
	case <-s.c.wanted:
		s.due = true
	case <-k.retry.C:
		s.due = true
	case <-k.deadline.C:
	case <-k.list.C:
		// A speaker that is gone ends the event stream; one that is only slow is asked again.
		s.listErr = s.list(ctx)
		s.fail()
		k.listed(s.calm())
	}
	return false, nil
}

// calm says that the last reading has found nothing new, and that all sessions are established.
func (s *session) calm() bool {
	if s.listErr != nil || s.changed || s.due {
		return false
	}
	for peer := range s.c.wishNow().plan.Peers {
		if !s.c.table.session(peer).Established() {
			return false
		}
	}
	return true
}

// fail says how things stand.
func (s *session) fail() { s.c.fail(errors.Join(s.listErr, s.applyErr), false) }

// settle applies the plan; an error that it returns ends the connection, others are retried.
func (s *session) settle(ctx context.Context, k *clock) error {
	s.due = false
	err := s.apply(ctx)
	if errors.Is(err, errGlobal) {
		return err
	}
	s.applyErr = err
	s.fail()
	k.applied(err != nil)
	k.deadline.Reset(time.Until(s.deadline()))
	return nil
}

// report judges completeness and wakes the consumer if anything changed.
func (s *session) report() {
	if s.applied && !s.c.table.isComplete() && s.toldAll() {
		s.changed = s.c.table.setComplete(true) || s.changed
	}
	if s.changed {
		s.changed = false
		s.c.wake.Poke()
	}
}

// toldAll says whether every neighbour has told everything, or has had its time.
func (s *session) toldAll() bool {
	return s.every(func(have bgp.Session, r remote, known bool) bool {
		return have.EndOfRIB || known && !r.tells()
	})
}

// every says whether every neighbour's session is established and done, or its time is over.
func (s *session) every(done func(have bgp.Session, r remote, known bool) bool) bool {
	if !time.Now().Before(s.deadline()) {
		return true
	}
	for peer := range s.c.wishNow().plan.Peers {
		have := s.c.table.session(peer)
		r, known := s.remote[peer]
		if !have.Established() || !done(have, r, known) {
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
