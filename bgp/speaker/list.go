// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"fmt"
	"net/netip"

	gobgp "github.com/osrg/gobgp/v3/api"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"korat/bgp"
	"korat/bgp/speaker/status"
)

const (
	// cheapAdvertised is the number of sessions times prefixes up to which every reading counts what
	// is advertised: GoBGP runs its export filter over the whole table for each session, and does
	// nothing else meanwhile. Above it the count is read at every rareAdvertised-th reading.
	cheapAdvertised = 20000
	rareAdvertised  = 60
)

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
	peers := s.meetPeers(have)
	s.c.table.keepSessions(peers)
	s.c.judge()
	for addr, want := range plan.Peers {
		s.refresh(want, have[addr], history.Peers[addr], advertised)
		if s.keepsStale(addr, have[addr]) {
			// Applying the plan adds it again. What the neighbour has told since it came back is learned
			// once more; nothing else makes GoBGP forget what it told before.
			s.c.cfg.Log.Info("peer came back without graceful restart or its family: its old routes are dropped", "peer", addr)
			if err := s.removePeer(ctx, addr); err != nil {
				return err
			}
			delete(peers, addr)
		}
	}
	if s.peers == nil || differ(peers, plan.Peers) {
		s.due = true
	}
	s.peers = peers
	return nil
}

// meetPeers notes what each neighbour is capable of, and gives the peers with the hashes of their settings.
func (s *session) meetPeers(have map[netip.Addr]*gobgp.Peer) map[netip.Addr]string {
	peers := make(map[netip.Addr]string, len(have))
	for addr, p := range have {
		if s.isLatch(addr) {
			continue
		}
		peers[addr] = ourHash(p.GetConf().GetDescription())
		s.remote[addr] = remoteOf(addr, p.GetState().GetRemoteCap())
		if !s.c.table.session(addr).Established() {
			delete(s.remote, addr)
		}
	}
	return peers
}

// keepsStale says whether GoBGP holds on to routes of an earlier session that the neighbour will never
// confirm: it announced graceful restart and the session's family then, and not both now. They had to go
// when the session was established again (RFC 4724, 4.2); GoBGP waits for an End-of-RIB.
func (s *session) keepsStale(addr netip.Addr, have *gobgp.Peer) bool {
	remote, known := s.remote[addr]
	return known && !remote.tells() && have.GetGracefulRestart().GetPeerRestarting()
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
		return nil, silent("list peers", err)
	}
	peers := map[netip.Addr]*gobgp.Peer{}
	for {
		r, err := stream.Recv()
		if done, err := ended(err); done {
			return peers, silent("list peers", err)
		}
		if addr, err := netip.ParseAddr(r.GetPeer().GetState().GetNeighborAddress()); err == nil {
			peers[addr] = r.Peer
		}
	}
}

// silent explains an error of a request.
func silent(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case grpcstatus.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("%s: the speaker does not answer", what)
	default:
		return fmt.Errorf("%s: %w", what, err)
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
	out.Received, out.Advertised = s.counters(have, out, advertised)
	if out.Established() {
		out.Since, out.Reason = past.Up, ""
		if s.remote[want.Address].mute {
			out.Reason = muteReason(want.Address)
		}
		if up := have.GetTimers().GetState().GetUptime(); out.Since.IsZero() && up != nil {
			out.Since = up.AsTime()
		}
	} else {
		out.Since, out.Reason = past.Down, reason(want, past.Reason, s.refused[want.Address])
	}
	s.changed = s.c.table.setSession(want.Address, out) || s.changed
}

// counters gives how many prefixes were received and advertised; the latter is as before if it was
// not asked for. GoBGP counts the End-of-RIB as one, and even what it would send to a neighbour that
// is not there.
func (s *session) counters(have *gobgp.Peer, before bgp.Session, asked bool) (received, advertised uint64) {
	addr, _ := netip.ParseAddr(have.GetState().GetNeighborAddress())
	for _, f := range have.GetAfiSafis() {
		received += f.GetState().GetReceived()
		n := f.GetState().GetAdvertised()
		if s.remote[addr].tells() && n > 0 {
			n--
		}
		advertised += n
	}
	switch {
	case !before.Established():
		return received, 0
	case !asked:
		return received, before.Advertised
	}
	return received, advertised
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

// muteReason explains an established session that carries nothing.
func muteReason(neighbour netip.Addr) string {
	family := "IPv4"
	if neighbour.Is6() {
		family = "IPv6"
	}
	return "no routes: the neighbour does not speak " + family + " unicast in this session; configure it there"
}
