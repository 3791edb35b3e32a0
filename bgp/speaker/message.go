// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	gobgp "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"korat/bgp"
)

const (
	// connectRetry is short: GoBGP's default of two minutes is what a node would wait for another
	// that starts a little later.
	connectRetry = 1
	// deferral is how long after its return a neighbour waits for a restarted speaker's routes at most,
	// while others have not come back (RFC 4724, 4.1: Selection_Deferral_Timer). One that restarts
	// gracefully still has them; one that does not would miss them for GoBGP's six minutes.
	deferral = 5
	// ownPreference makes our path to our own block the best one, whatever LOCAL_PREF a neighbour gives
	// to its own: GoBGP looks at it before it looks at who originates, and a path that is not the best
	// is not advertised.
	ownPreference = math.MaxUint32
	// multihopTTL lets an external neighbour be some routers away, as Calico does.
	multihopTTL = 64

	// marker begins the description of the peers that are ours; the rest is sessionHash.
	marker = "korat "
	// settings is part of sessionHash: count it up when the fixed settings of apiPeer change, so that
	// an upgraded agent renews the sessions that still have the old ones.
	settings = 1

	// The families of GoBGP's Global, by its own numbers.
	familyIPv4, familyIPv6 = 0, 1
)

// stateIdle is the state of a session that does not exist (RFC 4271, 8.2.2).
const stateIdle = "Idle"

// sessionHash stands for everything of a peer that belongs to its session. It is kept in GoBGP's
// description of the peer, because what GoBGP tells of a peer is mixed with its defaults and with
// what was negotiated, and can't be compared.
func sessionHash(p bgp.Peer) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d|%s|%d|%d|%s|%t|%s|%s|%s", settings,
		p.Address, p.Port, p.AS, p.LocalAddress, p.Passive, p.HoldTime, p.Keepalive, p.RestartTime))
	return hex.EncodeToString(sum[:8])
}

// ourHash gives the hash in a description, or "" if the peer is not ours.
func ourHash(description string) string {
	hash, ok := strings.CutPrefix(description, marker)
	if !ok {
		return ""
	}
	return hash
}

// unicast gives the unicast family of an address. A session is of its neighbour's address's family and
// of no other.
func unicast(addr netip.Addr) *gobgp.Family {
	if addr.Is6() {
		return &gobgp.Family{Afi: gobgp.Family_AFI_IP6, Safi: gobgp.Family_SAFI_UNICAST}
	}
	return &gobgp.Family{Afi: gobgp.Family_AFI_IP, Safi: gobgp.Family_SAFI_UNICAST}
}

func isUnicast(f *gobgp.Family, addr netip.Addr) bool {
	want := unicast(addr)
	return f.GetAfi() == want.Afi && f.GetSafi() == want.Safi
}

// apiGlobal leaves IPv6 out where the kernel has none: GoBGP starts as a whole or not at all, and its own
// default is to listen on both.
func apiGlobal(g bgp.Global, ipv6 bool) *gobgp.Global {
	out := &gobgp.Global{
		Asn:              g.AS,
		RouterId:         g.RouterID.String(),
		ListenPort:       int32(g.ListenPort),
		Families:         []uint32{familyIPv4, familyIPv6},
		UseMultiplePaths: true,
	}
	listen := g.ListenAddresses
	if len(listen) == 0 {
		listen = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for _, a := range listen {
		if a.Is4() || ipv6 {
			out.ListenAddresses = append(out.ListenAddresses, a.String())
		}
	}
	return out
}

func sameGlobal(want, have *gobgp.Global) bool {
	return want.Asn == have.Asn && want.RouterId == have.RouterId && want.ListenPort == have.ListenPort &&
		want.UseMultiplePaths == have.UseMultiplePaths && slices.Equal(want.ListenAddresses, have.ListenAddresses)
}

func apiPeer(p bgp.Peer, ownAS uint32, restarting bool) *gobgp.Peer {
	out := &gobgp.Peer{
		Conf: &gobgp.PeerConf{
			NeighborAddress: p.Address.String(),
			PeerAsn:         p.AS,
			Description:     marker + sessionHash(p),
		},
		Timers: &gobgp.Timers{Config: &gobgp.TimersConfig{
			ConnectRetry:           connectRetry,
			HoldTime:               seconds(p.HoldTime),
			KeepaliveInterval:      seconds(p.Keepalive),
			IdleHoldTimeAfterReset: 1,
		}},
		Transport: &gobgp.Transport{
			LocalAddress: p.LocalAddress.String(),
			RemotePort:   uint32(p.Port),
			PassiveMode:  p.Passive,
		},
		GracefulRestart: &gobgp.GracefulRestart{
			Enabled:         true,
			RestartTime:     uint32(seconds(p.RestartTime)),
			DeferralTime:    deferral,
			LocalRestarting: restarting,
		},
		AfiSafis: apiFamily(p.Address),
	}
	if p.AS != ownAS {
		out.EbgpMultihop = &gobgp.EbgpMultihop{Enabled: true, MultihopTtl: multihopTTL}
	}
	return out
}

// apiFamily is what a session with a neighbour of that address carries.
func apiFamily(neighbour netip.Addr) []*gobgp.AfiSafi {
	return []*gobgp.AfiSafi{{
		Config:            &gobgp.AfiSafiConfig{Family: unicast(neighbour), Enabled: true},
		MpGracefulRestart: &gobgp.MpGracefulRestart{Config: &gobgp.MpGracefulRestartConfig{Enabled: true}},
	}}
}

func seconds(d time.Duration) uint64 { return uint64(d / time.Second) }

// apiOrigin is a local path. The unspecified next hop becomes, towards each neighbour, the address
// that its session comes from.
func apiOrigin(p netip.Prefix) (*gobgp.Path, error) {
	hop := netip.IPv4Unspecified()
	if p.Addr().Is6() {
		hop = netip.IPv6Unspecified()
	}
	nlri, err := anypb.New(&gobgp.IPAddressPrefix{PrefixLen: uint32(p.Bits()), Prefix: p.Addr().String()})
	if err != nil {
		return nil, fmt.Errorf("encode prefix %s: %w", p, err)
	}
	out := &gobgp.Path{Family: unicast(p.Addr()), Nlri: nlri}
	attrs := []proto.Message{
		&gobgp.OriginAttribute{Origin: 0}, &gobgp.NextHopAttribute{NextHop: hop.String()}, &gobgp.LocalPrefAttribute{LocalPref: ownPreference},
	}
	for _, m := range attrs {
		attr, err := anypb.New(m)
		if err != nil {
			return nil, fmt.Errorf("encode attributes of %s: %w", p, err)
		}
		out.Pattrs = append(out.Pattrs, attr)
	}
	return out, nil
}

// stateName gives the FSM's state as RFC 4271 spells it.
func stateName(s gobgp.PeerState_SessionState) string {
	switch s {
	case gobgp.PeerState_CONNECT:
		return "Connect"
	case gobgp.PeerState_ACTIVE:
		return "Active"
	case gobgp.PeerState_OPENSENT:
		return "OpenSent"
	case gobgp.PeerState_OPENCONFIRM:
		return "OpenConfirm"
	case gobgp.PeerState_ESTABLISHED:
		return "Established"
	default:
		return stateIdle
	}
}

// learned is one path of an event.
type learned struct {
	prefix   netip.Prefix
	path     bgp.Path
	withdraw bool
	// local is a path that this speaker originates.
	local bool
}

// readPath decodes a unicast path; ok is false for other families and for what is damaged.
func readPath(p *gobgp.Path) (l learned, ok bool) {
	var nlri gobgp.IPAddressPrefix
	if err := p.GetNlri().UnmarshalTo(&nlri); err != nil {
		return l, false
	}
	addr, err := netip.ParseAddr(nlri.Prefix)
	if err != nil || !isUnicast(p.Family, addr) {
		return l, false
	}
	l.prefix = netip.PrefixFrom(addr, int(nlri.PrefixLen)).Masked()
	l.withdraw = p.IsWithdraw
	// A local path has no neighbour; GoBGP prints that as "<nil>".
	if l.path.Peer, err = netip.ParseAddr(p.NeighborIp); err != nil {
		l.path.Peer, l.local = netip.Addr{}, true
	}
	l.path.NextHop = nextHop(p.Pattrs)
	return l, l.prefix.IsValid()
}

// nextHop finds the next hop attribute; the zero Addr if there is none. An IPv6 neighbour on a shared
// subnet may give its link-local address as a second next hop (RFC 2545, 3), which is left out: it is the
// same host.
func nextHop(attrs []*anypb.Any) netip.Addr {
	for _, a := range attrs {
		var hop string
		switch {
		case a.MessageIs((*gobgp.NextHopAttribute)(nil)):
			var m gobgp.NextHopAttribute
			if a.UnmarshalTo(&m) == nil {
				hop = m.NextHop
			}
		case a.MessageIs((*gobgp.MpReachNLRIAttribute)(nil)):
			var m gobgp.MpReachNLRIAttribute
			if a.UnmarshalTo(&m) == nil && len(m.NextHops) > 0 {
				hop = m.NextHops[0]
			}
		}
		if addr, err := netip.ParseAddr(hop); err == nil {
			return addr.Unmap()
		}
	}
	return netip.Addr{}
}

// remote is what a neighbour announced for the session that is established.
type remote struct {
	// graceful promises an End-of-RIB, and restarting says that it waits for ours (RFC 4724, 3).
	graceful, restarting bool
	// mute says that it does not speak the session's family (RFC 4760, 8): it has nothing to tell.
	mute bool
}

// tells says whether an End-of-RIB is to come.
func (r remote) tells() bool { return r.graceful && !r.mute }

// restartState is the R bit of the graceful restart capability's flags.
const restartState = 0x08

// remoteOf reads the capabilities of the neighbour with that address.
func remoteOf(neighbour netip.Addr, caps []*anypb.Any) remote {
	var r remote
	spoken, named := false, false
	for _, a := range caps {
		var restart gobgp.GracefulRestartCapability
		var family gobgp.MultiProtocolCapability
		switch {
		case a.MessageIs(&restart) && a.UnmarshalTo(&restart) == nil:
			r.graceful, r.restarting = true, restart.Flags&restartState != 0
		case a.MessageIs(&family) && a.UnmarshalTo(&family) == nil:
			named = true
			spoken = spoken || isUnicast(family.Family, neighbour)
		}
	}
	// One that names no family speaks IPv4 unicast.
	r.mute = !spoken && (named || neighbour.Is6())
	return r
}
