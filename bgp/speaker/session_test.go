// SPDX-License-Identifier: Apache-2.0

package speaker_test

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	gobgp "github.com/osrg/gobgp/v3/api"

	"korat/bgp"
)

const blockA, blockB, blockC, shared = "172.17.1.0/24", "172.17.2.0/24", "172.17.3.0/24", "172.18.0.0/24"

func pair(t *testing.T) (a, b *router) {
	t.Helper()
	port := freePort(t)
	a, b = newRouter(t, "127.0.0.1", port, blockA), newRouter(t, "127.0.0.2", port, blockB, shared)
	a.peerWith(b)
	b.peerWith(a)
	for _, r := range []*router{a, b} {
		r.startClient(false)
		r.startSpeaker()
	}
	a.untilLearned("172.17.2.0/24: 127.0.0.2; 172.18.0.0/24: 127.0.0.2")
	b.untilLearned("172.17.1.0/24: 127.0.0.1")
	return a, b
}

// A third node joins, shares a prefix, withdraws it and leaves; the first two's session never moves.
func TestThirdNode(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	opens := a.opens()
	c := newRouter(t, "127.0.0.3", a.port, blockC, shared)
	c.peerWith(a, b)
	a.peerWith(c)
	b.peerWith(c)
	a.want()
	b.want()
	c.startClient(false)
	c.startSpeaker()
	a.untilLearned("172.17.2.0/24: 127.0.0.2; 172.17.3.0/24: 127.0.0.3; 172.18.0.0/24: 127.0.0.2 127.0.0.3")
	c.untilLearned("172.17.1.0/24: 127.0.0.1; 172.17.2.0/24: 127.0.0.2")

	delete(c.plan.Origins, netip.MustParsePrefix(shared))
	c.want()
	a.untilLearned("172.17.2.0/24: 127.0.0.2; 172.17.3.0/24: 127.0.0.3; 172.18.0.0/24: 127.0.0.2")

	// A changed session is renewed, and only it.
	p := a.plan.Peers[c.addr]
	p.Keepalive /= 3
	a.plan.Peers[c.addr] = p
	a.want()
	a.until("renewed session", func(rib bgp.RIB) bool {
		return strings.Contains(a.log.String(), "peer removed") && rib.Sessions[c.addr].Established()
	})

	delete(a.plan.Peers, c.addr)
	a.want()
	a.until("removal of c", func(rib bgp.RIB) bool { return len(rib.Sessions) == 1 })
	a.untilLearned("172.17.2.0/24: 127.0.0.2; 172.18.0.0/24: 127.0.0.2")
	c.until("lost session with a", func(rib bgp.RIB) bool { return rib.Sessions[a.addr].Flaps == 2 })
	rib := b.client.RIB()
	if s := rib.Sessions[a.addr]; !s.Established() || s.Flaps != 0 {
		t.Errorf("the session between a and b moved: %+v", s)
	}
	if got := strings.Count(a.log.String(), "peer added"); got != 3 {
		t.Errorf("a added peers %d times, want 3 (b, c, c renewed)", got)
	}
	if got := a.opens(); got != opens {
		t.Errorf("a sent %d OPENs to b, want %d as before c came", got, opens)
	}
}

// The client comes and goes; no session notices, and it finds nothing to do.
func TestClientRestart(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	opens := a.opens() + b.opens()
	before := a.until("counters", func(rib bgp.RIB) bool {
		s := rib.Sessions[b.addr]
		return s.Received == 2 && s.Advertised == 1
	})
	a.stopClient()
	a.startClient(true)
	rib := a.untilLearned(learned(before))
	if s := rib.Sessions[b.addr]; !s.Established() || s.Flaps != 0 || !s.EndOfRIB {
		t.Errorf("session after the client's restart: %+v", s)
	}
	if s := b.client.RIB().Sessions[a.addr]; !s.Established() || s.Flaps != 0 {
		t.Errorf("session at the neighbour: %+v", s)
	}
	if got := a.opens() + b.opens(); got != opens {
		t.Errorf("%d OPENs were sent, want %d as before", got, opens)
	}
	if log := a.log.String(); strings.Contains(log, "peer") || strings.Contains(log, "prefix") {
		t.Errorf("a client that found all as wanted did something:\n%s", log)
	}
}

// The speaker dies and comes back; the neighbour keeps its routes throughout.
func TestSpeakerRestart(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t)
			want := learned(a.client.RIB())
			withdrawals := b.watchWithdrawals()
			_ = a.kill(sig)
			rib := a.until("loss of the speaker", func(rib bgp.RIB) bool { return !rib.Running })
			if rib.Complete || learned(rib) != want {
				t.Errorf("without its speaker the RIB is %+v, want the last paths and not complete", rib)
			}
			a.startSpeaker()
			b.until("lost session", func(rib bgp.RIB) bool { return rib.Sessions[a.addr].Flaps == 1 })
			rib = a.until("complete RIB", func(rib bgp.RIB) bool {
				if rib.Complete && learned(rib) != want {
					t.Errorf("complete with %q, want %q", learned(rib), want)
				}
				return rib.Complete
			})
			if !rib.Sessions[b.addr].EndOfRIB {
				t.Errorf("complete without End-of-RIB: %+v", rib.Sessions)
			}
			rib = b.untilLearned("172.17.1.0/24: 127.0.0.1")
			b.until("End-of-RIB of a", func(rib bgp.RIB) bool { return rib.Sessions[a.addr].EndOfRIB })
			if got := withdrawals(); len(got) > 0 {
				t.Errorf("the neighbour saw withdrawals: %v", got)
			}
			if !strings.Contains(a.log.String(), "restarting=true") {
				t.Error("the restarted speaker did not announce a restart")
			}
		})
	}
}

// An external neighbour's next hop is its own address.
func TestExternal(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	a, b := newRouter(t, "127.0.0.1", port, blockA), newRouter(t, "127.0.0.2", port, blockB)
	b.plan.Global.AS = 4200000001
	a.peerWith(b)
	b.peerWith(a)
	for _, r := range []*router{a, b} {
		r.startClient(false)
		r.startSpeaker()
	}
	a.untilLearned("172.17.2.0/24: 127.0.0.2")
	b.untilLearned("172.17.1.0/24: 127.0.0.1")
}

// New global settings restart the speaker's BGP, and everything comes back.
func TestGlobalChange(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.plan.Global.RouterID = netip.MustParseAddr("127.0.0.99")
	a.want()
	b.until("lost session", func(rib bgp.RIB) bool { return rib.Sessions[a.addr].Flaps > 0 })
	a.untilLearned("172.17.2.0/24: 127.0.0.2; 172.18.0.0/24: 127.0.0.2")
	b.untilLearned("172.17.1.0/24: 127.0.0.1")
}

// What somebody else told the speaker is undone.
func TestForeignChanges(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	api := a.dial()
	if _, err := api.AddPeer(ctx, &gobgp.AddPeerRequest{Peer: &gobgp.Peer{
		Conf: &gobgp.PeerConf{NeighborAddress: "127.0.0.77", PeerAsn: 64512},
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.DeletePath(ctx, &gobgp.DeletePathRequest{TableType: gobgp.TableType_GLOBAL}); err != nil {
		t.Fatal(err)
	}
	a.until("removal of the foreign peer", func(bgp.RIB) bool { return strings.Contains(a.log.String(), "ours=false") })
	b.untilLearned("172.17.1.0/24: 127.0.0.1")
	if s := a.client.RIB().Sessions[b.addr]; s.Flaps != 0 || !s.Established() {
		t.Errorf("the session moved: %+v", s)
	}
}

// Why a session is down is known at both ends.
func TestReasons(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	a, b := newRouter(t, "127.0.0.1", port), newRouter(t, "127.0.0.2", port)
	a.peerWith(b)
	a.startClient(false)
	a.startSpeaker()
	reason := func(r, peer *router, want string) {
		t.Helper()
		r.until("reason "+want, func(rib bgp.RIB) bool { return strings.Contains(rib.Sessions[peer.addr].Reason, want) })
	}
	reason(a, b, "connect: connection refused")

	b.plan.Global.AS = 65001 // a expects 64512
	b.peerWith(a)
	b.startClient(false)
	b.startSpeaker()
	reason(a, b, "as number mismatch expected 64512, received 65001")
	reason(b, a, "the neighbour ended the session while it was being opened")

	b.plan.Global.AS = 64512
	b.want()
	a.until("session", func(rib bgp.RIB) bool { return rib.Sessions[b.addr].Established() && rib.Complete })
	delete(b.plan.Peers, a.addr)
	b.want()
	reason(a, b, "neighbour sent code 6(cease)")
	if s := a.client.RIB().Sessions[b.addr]; s.Flaps != 1 || s.Since.IsZero() {
		t.Errorf("lost session: %+v, want one flap and its time", s)
	}
}

// A port that is taken is reported, and the speaker starts once it is free.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	a, squatter := newRouter(t, "127.0.0.1", port), newRouter(t, "127.0.0.1", port)
	squatter.startClient(false)
	squatter.startSpeaker()
	squatter.until("complete", func(rib bgp.RIB) bool { return rib.Complete })
	a.startClient(false)
	a.startSpeaker()
	a.until("error", func(bgp.RIB) bool {
		err := a.client.Err()
		return err != nil && strings.Contains(err.Error(), "address already in use")
	})
	_ = squatter.kill(syscall.SIGTERM)
	a.until("complete", func(rib bgp.RIB) bool { return rib.Complete })
	if err := a.client.Err(); err != nil {
		t.Errorf("error remains: %v", err)
	}
}

func TestSocket(t *testing.T) {
	t.Parallel()
	a := newRouter(t, "127.0.0.1", freePort(t))
	a.startClient(false)
	a.startSpeaker()
	a.until("complete", func(rib bgp.RIB) bool { return rib.Complete })
	for path, want := range map[string]os.FileMode{a.socket(): os.ModeSocket | 0o600, a.status(): 0o600, a.socket() + ".lock": 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode(); got != want {
			t.Errorf("%s has mode %s, want %s", path, got, want)
		}
	}
	for _, tc := range []struct{ name, socket, want string }{
		{"second on the same socket", a.socket(), "another speaker runs on it"},
		{"no socket", a.status(), "there is something that is no socket"},
		{"relative path", "speaker.sock", "give an absolute path"},
		{"long path", "/" + strings.Repeat("x", 120), "path has 121 bytes"},
		{"comma", a.dir + "/a,b", "path has a comma"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := speakerCommand(t, tc.socket, a.dir+"/other.json").CombinedOutput()
			if err == nil || !strings.Contains(string(out), tc.want) {
				t.Errorf("got %v, %s; want %q", err, out, tc.want)
			}
		})
	}
	if rib := a.client.RIB(); !rib.Running {
		t.Error("the first speaker was disturbed")
	}
}
