// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	gobgp "github.com/osrg/gobgp/v3/api"
	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"korat/bgp"
)

const (
	// latchTimeout bounds all that is done to set the latch.
	latchTimeout = 3 * time.Second
	latchRetry   = 10 * time.Millisecond
	// latchDeferral is longer than any restart time (12 bits of seconds).
	latchDeferral = 1 << 13
	// asTrans stands for an AS number that needs four octets (RFC 6793).
	asTrans = 23456
)

// latchID is the latch's router ID.
func latchID() netip.Addr { return netip.AddrFrom4([4]byte{127, 75, 0, 1}) }

// latchEnds gives the latch's address and where it finds the speaker. It is on loopback, where every
// address of 127.0.0.0/8 is the host's own, but only one of IPv6.
func latchEnds(g bgp.Global) (own netip.Addr, to netip.AddrPort) {
	own, speaker := latchID(), netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if len(g.ListenAddresses) > 0 {
		speaker = g.ListenAddresses[0]
	}
	if speaker.Is6() {
		own = netip.IPv6Loopback()
	}
	return own, netip.AddrPortFrom(speaker, g.ListenPort)
}

// latched is the latch of a restart: a neighbour on loopback that this process plays itself.
//
// A speaker that restarts must say so in every OPEN, or the neighbour drops our routes (RFC 4724, 4.2),
// but GoBGP stops saying it, to all neighbours, once those that have come back first have told
// everything; the next one may be seconds behind. It waits for a neighbour that was connected once and
// has not sent End-of-RIB. The latch is one, and sends it when all are back or their time is over. Until
// then GoBGP advertises to each neighbour when its own deferral time is over. It is one for both families,
// as is GoBGP's waiting.
type latched struct {
	latch net.Conn // nil for none
	// latchAddress is the neighbour's that it plays.
	latchAddress netip.Addr
	// turned says that End-of-RIB was sent, and opened that GoBGP has read it.
	turned, opened bool
}

func (l *latched) isLatch(addr netip.Addr) bool { return l.latch != nil && addr == l.latchAddress }

func (l *latched) closeLatch() {
	if l.latch != nil {
		_ = l.latch.Close()
	}
	*l = latched{}
}

// setLatch comes before the peers. Without it the speaker works, only less gracefully.
func (s *session) setLatch(ctx context.Context, g bgp.Global) {
	ctx, cancel := context.WithTimeout(ctx, latchTimeout)
	defer cancel()
	own, to := latchEnds(g)
	_, err := s.api.AddPeer(ctx, &gobgp.AddPeerRequest{Peer: apiLatch(own, g.AS)})
	if err == nil {
		s.latchAddress = own
		s.latch, err = connectLatch(ctx, own, to, g.AS)
	}
	if err != nil {
		s.c.cfg.Log.Warn("neighbours that come back late may drop our routes", "error", fmt.Errorf("defer route selection: %w", err))
		return // what is left of it is taken for a foreign peer, and removed
	}
	s.c.cfg.Log.Info("restart begins: neighbours are asked to keep our routes", "until", s.deadline())
}

// turnLatch ends the restart once it may end.
func (s *session) turnLatch(ctx context.Context) error {
	switch {
	case s.latch == nil || !s.applied:
		return nil
	case s.opened:
		defer s.closeLatch()
		rpc, cancel := call(ctx)
		defer cancel()
		if _, err := s.api.DeletePeer(rpc, &gobgp.DeletePeerRequest{Address: s.latchAddress.String()}); err != nil {
			return fmt.Errorf("end restart: %w", err)
		}
		s.c.cfg.Log.Info("restart ends")
		return nil
	case s.turned || !s.allBack():
		return nil
	}
	s.turned = true
	if err := send(s.latch, packet.NewEndOfRib(latchFamily(s.latchAddress))); err != nil {
		return fmt.Errorf("end restart: %w", err)
	}
	return nil
}

// allBack says whether no neighbour is waited for any more. One that restarts too waits for us.
func (s *session) allBack() bool {
	return s.every(func(have bgp.Session, r remote, known bool) bool {
		return have.EndOfRIB || known && (!r.tells() || r.restarting)
	})
}

func apiLatch(own netip.Addr, as uint32) *gobgp.Peer {
	return &gobgp.Peer{
		Conf:      &gobgp.PeerConf{NeighborAddress: own.String(), PeerAsn: as, Description: "latch of a graceful restart"},
		Transport: &gobgp.Transport{PassiveMode: true},
		GracefulRestart: &gobgp.GracefulRestart{
			Enabled: true, RestartTime: 1, DeferralTime: latchDeferral, LocalRestarting: true,
		},
		AfiSafis: apiFamily(own),
	}
}

func latchFamily(own netip.Addr) packet.RouteFamily {
	if own.Is6() {
		return packet.RF_IPv6_UC
	}
	return packet.RF_IPv4_UC
}

// connectLatch opens the latch's session. The speaker turns connections away until its side is ready.
func connectLatch(ctx context.Context, own netip.Addr, to netip.AddrPort, as uint32) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(own, 0))}
	for {
		conn, err := d.DialContext(ctx, "tcp", to.String())
		if err == nil {
			if err = openLatch(ctx, conn, latchFamily(own), as); err == nil {
				go func() { _, _ = io.Copy(io.Discard, conn) }()
				return conn, nil
			}
			_ = conn.Close()
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(latchRetry):
		}
	}
}

// openLatch brings the session up. A hold time of 0 does without keepalives (RFC 4271, 4.2).
func openLatch(ctx context.Context, conn net.Conn, family packet.RouteFamily, as uint32) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	myAS := uint16(asTrans)
	if as < 1<<16 {
		myAS = uint16(as)
	}
	capabilities := packet.NewOptionParameterCapability([]packet.ParameterCapabilityInterface{
		packet.NewCapMultiProtocol(family),
		packet.NewCapFourOctetASNumber(as),
		packet.NewCapGracefulRestart(false, false, 0, []*packet.CapGracefulRestartTuple{packet.NewCapGracefulRestartTuple(family, false)}),
	})
	open := packet.NewBGPOpenMessage(myAS, 0, latchID().String(), []packet.OptionParameterInterface{capabilities})
	if err := errors.Join(send(conn, open), send(conn, packet.NewBGPKeepAliveMessage())); err != nil {
		return err
	}
	// The speaker's keepalive says that it took our OPEN.
	for {
		kind, err := receive(conn)
		switch {
		case err != nil:
			return err
		case kind == packet.BGP_MSG_KEEPALIVE:
			return nil
		case kind == packet.BGP_MSG_NOTIFICATION:
			return errors.New("the speaker refused the session")
		}
	}
}

func send(conn net.Conn, m *packet.BGPMessage) error {
	b, err := m.Serialize()
	if err != nil {
		return err
	}
	_, err = conn.Write(b)
	return err
}

// receive reads one message and gives its type.
func receive(conn net.Conn) (uint8, error) {
	b := make([]byte, packet.BGP_HEADER_LENGTH)
	if _, err := io.ReadFull(conn, b); err != nil {
		return 0, err
	}
	var head packet.BGPHeader
	if err := head.DecodeFromBytes(b); err != nil {
		return 0, err
	}
	_, err := io.CopyN(io.Discard, conn, int64(head.Len)-packet.BGP_HEADER_LENGTH)
	return head.Type, err
}
