// SPDX-License-Identifier: Apache-2.0

package speaker_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	gobgp "github.com/osrg/gobgp/v3/api"

	"korat/bgp"
)

// announced renders the graceful restart capability that the router got from a neighbour: the restart
// flag and the forwarding flag of IPv4.
func (r *router) announced(neighbour netip.Addr) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := r.dial().ListPeer(ctx, &gobgp.ListPeerRequest{Address: neighbour.String()})
	if err != nil {
		r.t.Fatal(err)
	}
	p, err := stream.Recv()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, a := range p.Peer.State.RemoteCap {
		var c gobgp.GracefulRestartCapability
		if a.MessageIs(&c) && a.UnmarshalTo(&c) == nil && len(c.Tuples) == 1 {
			return fmt.Sprintf("restarting=%t forwarding=%t", c.Flags&0x08 != 0, c.Tuples[0].Flags&0x80 != 0)
		}
	}
	return "no graceful restart"
}

const restarted, notRestarted = "restarting=true forwarding=true", "restarting=false forwarding=false"

// trio is a node with two neighbours that connect to it.
func trio(t *testing.T) (a, b, c *router) {
	t.Helper()
	port := freePort(t)
	a = newRouter(t, "127.0.0.3", port, blockA)
	b, c = newRouter(t, "127.0.0.1", port, blockB), newRouter(t, "127.0.0.2", port, blockC)
	a.peerWith(b, c)
	b.peerWith(a)
	c.peerWith(a)
	for _, r := range []*router{a, b, c} {
		r.startClient(false)
		r.startSpeaker()
	}
	a.untilLearned("172.17.2.0/24: 127.0.0.1; 172.17.3.0/24: 127.0.0.2")
	for _, r := range []*router{b, c} {
		r.untilLearned("172.17.1.0/24: 127.0.0.3")
		if got := r.announced(a.addr); got != notRestarted {
			t.Errorf("a first start announces %q to %s, want %q", got, r.addr, notRestarted)
		}
	}
	return a, b, c
}

// A neighbour that comes back to a restarted speaker long after the others have is told of the restart
// as well: without that it would drop our routes.
func TestLateNeighbour(t *testing.T) {
	t.Parallel()
	a, b, c := trio(t)
	for round := range uint32(3) {
		// c is silent meanwhile, for less than its hold time.
		if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		_ = a.kill(syscall.SIGKILL)
		a.startSpeaker()
		a.until("End-of-RIB of b", func(rib bgp.RIB) bool { return rib.Sessions[b.addr].EndOfRIB })
		b.until("End-of-RIB of a", func(rib bgp.RIB) bool { return rib.Sessions[a.addr].EndOfRIB && rib.Sessions[a.addr].Flaps == round+1 })
		if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		c.until("End-of-RIB of a", func(rib bgp.RIB) bool { return rib.Sessions[a.addr].EndOfRIB && rib.Sessions[a.addr].Flaps == round+1 })
		for _, r := range []*router{b, c} {
			if got := r.announced(a.addr); got != restarted {
				t.Errorf("round %d: %s was told %q, want %q", round, r.addr, got, restarted)
			}
		}
		a.untilLearned("172.17.2.0/24: 127.0.0.1; 172.17.3.0/24: 127.0.0.2")
		a.until("end of the restart", func(bgp.RIB) bool {
			return strings.Count(a.log.String(), "restart ends") == int(round+1)
		})
		a.until("removal of the latch", func(bgp.RIB) bool { return a.peers() == 2 })
	}
	if log := a.log.String(); strings.Contains(log, "peer removed") || strings.Contains(log, "level=WARN msg=\"neighbours") {
		t.Errorf("the restart was not smooth:\n%s", log)
	}
}

// peers counts the speaker's peers.
func (r *router) peers() int {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := r.dial().ListPeer(ctx, &gobgp.ListPeerRequest{})
	if err != nil {
		r.t.Fatal(err)
	}
	for n := 0; ; n++ {
		if _, err := stream.Recv(); err != nil {
			return n
		}
	}
}

// Every speaker but the first is a restart, even before anything was learned: the kernel forwards to
// our pods throughout.
func TestRestartWithNothingLearned(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	a, b := newRouter(t, "127.0.0.2", port, blockA), newRouter(t, "127.0.0.1", port)
	a.peerWith(b)
	b.peerWith(a)
	for _, r := range []*router{a, b} {
		r.startClient(false)
		r.startSpeaker()
	}
	b.untilLearned("172.17.1.0/24: 127.0.0.2")
	if rib := a.untilLearned(""); len(rib.Paths) > 0 {
		t.Fatalf("a learned %s", learned(rib))
	}
	_ = a.kill(syscall.SIGKILL)
	a.startSpeaker()
	b.until("End-of-RIB of a", func(rib bgp.RIB) bool { return rib.Sessions[a.addr].EndOfRIB && rib.Sessions[a.addr].Flaps == 1 })
	if got := b.announced(a.addr); got != restarted {
		t.Errorf("b was told %q, want %q", got, restarted)
	}
}

// A neighbour's path to our block neither replaces ours nor keeps us from advertising it, whatever
// preference it comes with.
func TestOwnOriginWins(t *testing.T) {
	t.Parallel()
	a, b, c := trio(t)
	// Both of a's neighbours originate a's block: korat's own preference is the highest that there is.
	for _, r := range []*router{b, c} {
		r.plan.Origins[netip.MustParsePrefix(blockA)] = struct{}{}
		r.want()
	}
	a.until("both claims", func(rib bgp.RIB) bool {
		return rib.Sessions[b.addr].Received == 2 && rib.Sessions[c.addr].Received == 2
	})
	rib := a.untilLearned("172.17.2.0/24: 127.0.0.1; 172.17.3.0/24: 127.0.0.2")
	for _, r := range []*router{b, c} {
		if s := rib.Sessions[r.addr]; s.Advertised != 1 {
			t.Errorf("%d prefixes are advertised to %s, want our block", s.Advertised, r.addr)
		}
		delete(r.plan.Origins, netip.MustParsePrefix(blockA))
		r.want()
		r.untilLearned("172.17.1.0/24: 127.0.0.3")
	}
}
