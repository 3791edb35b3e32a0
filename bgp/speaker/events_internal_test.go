// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	gobgp "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/types/known/anypb"

	"korat/bgp"
)

// message builds a table event from "prefix neighbour" (next hop = neighbour), "prefix local",
// "-prefix" (withdrawn) and "eor neighbour".
func message(t *testing.T, lines ...string) []*gobgp.Path {
	t.Helper()
	var out []*gobgp.Path
	for _, line := range lines {
		f := strings.Fields(line)
		if f[0] == "eor" {
			out = append(out, &gobgp.Path{Family: unicast(netip.MustParseAddr(f[1])), NeighborIp: f[1]})
			continue
		}
		prefix, withdrawn := strings.CutPrefix(f[0], "-")
		p, err := apiOrigin(netip.MustParsePrefix(prefix))
		if err != nil {
			t.Fatal(err)
		}
		p.IsWithdraw, p.NeighborIp = withdrawn, "<nil>"
		if len(f) > 1 && f[1] != "local" {
			p.NeighborIp = f[1]
			if p.Pattrs[1], err = anypb.New(&gobgp.NextHopAttribute{NextHop: f[1]}); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, p)
	}
	return out
}

func (s *session) render() string {
	var out []string
	for p, paths := range s.c.table.rib().Paths {
		line := p.String()
		for _, path := range paths {
			line += " " + path.NextHop.String()
		}
		out = append(out, line)
	}
	for p := range maps.Keys(s.local) {
		out = append(out, p.String()+" local")
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestTableEvents(t *testing.T) {
	peer := netip.MustParseAddr("10.0.0.2")
	c := New(Config{})
	c.Want(bgp.Plan{Peers: map[netip.Addr]bgp.Peer{peer: {Address: peer}}}, false)
	c.table.setPaths(netip.MustParsePrefix("172.31.0.0/24"), []bgp.Path{{NextHop: peer, Peer: peer}})
	s := newSession(c, nil)
	check := func(step, want string) {
		t.Helper()
		if got := s.render(); got != want {
			t.Errorf("%s: table is %q, want %q", step, got, want)
		}
	}
	s.peerEvent(&gobgp.WatchEventResponse_PeerEvent{Type: gobgp.WatchEventResponse_PeerEvent_END_OF_INIT})

	// A full message is one path longer than the batch; the prefix at its end goes on in the next.
	var full []string
	for i := range batch {
		full = append(full, fmt.Sprintf("172.16.%d.%d/32 local", i/256, i%256))
	}
	full = append(full, "172.17.0.0/24 10.0.0.3")
	s.tableEvent(message(t, full...))
	check("half of the first table", "172.31.0.0/24 10.0.0.2")
	s.tableEvent(message(t, "172.17.0.0/24 10.0.0.2", "172.18.0.0/24 local"))
	if s.initial != nil {
		t.Fatal("a message that is not full did not end the first table")
	}
	if len(s.local) != batch+1 {
		t.Errorf("%d local prefixes, want %d", len(s.local), batch+1)
	}
	clear(s.local)
	check("first table replaces what was known", "172.17.0.0/24 10.0.0.2 10.0.0.3")

	s.tableEvent(message(t, "172.17.0.0/24 10.0.0.4", "172.17.0.0/24 10.0.0.2", "172.18.0.0/24 10.0.0.2"))
	check("each prefix comes with all its members", "172.17.0.0/24 10.0.0.2 10.0.0.4, 172.18.0.0/24 10.0.0.2")
	s.tableEvent(message(t, "-172.17.0.0/24 10.0.0.2"))
	check("withdrawal", "172.18.0.0/24 10.0.0.2")
	s.due = false
	s.tableEvent(message(t, "172.18.0.0/24 local"))
	check("own origin hides the learned path", "172.18.0.0/24 local")
	if !s.due {
		t.Error("a change of the local prefixes does not make the plan due")
	}
	s.tableEvent(message(t, "-172.18.0.0/24 local"))
	check("origin withdrawn", "")

	s.changed = false
	s.tableEvent(nil)
	s.tableEvent(message(t, "eor 10.0.0.9"))
	if s.changed {
		t.Error("nothing changed, but a change is reported")
	}
	s.tableEvent(message(t, "eor 10.0.0.2"))
	if !s.changed || !c.RIB().Sessions[peer].EndOfRIB {
		t.Errorf("End-of-RIB was lost: %+v", c.RIB().Sessions)
	}
}

// What happens to a session before a plan names its peer is known when a plan does.
func TestSessionBeforePlan(t *testing.T) {
	peer := netip.MustParseAddr("10.0.0.2")
	c := New(Config{})
	s := newSession(c, nil)
	s.peerEvent(&gobgp.WatchEventResponse_PeerEvent{
		Type: gobgp.WatchEventResponse_PeerEvent_INIT,
		Peer: &gobgp.Peer{State: &gobgp.PeerState{NeighborAddress: peer.String(), SessionState: gobgp.PeerState_ESTABLISHED}},
	})
	s.tableEvent(message(t, "eor 10.0.0.2"))
	if have := c.RIB().Sessions; len(have) > 0 || s.changed {
		t.Errorf("a session of no plan's is told of: %+v, changed %t", have, s.changed)
	}
	c.Want(bgp.Plan{Peers: map[netip.Addr]bgp.Peer{peer: {Address: peer}}}, false)
	if have := c.RIB().Sessions[peer]; !have.Established() || !have.EndOfRIB {
		t.Errorf("once it is in the plan its session is %+v, want it established with End-of-RIB", have)
	}
	c.Want(bgp.Plan{}, false)
	c.table.keepSessions(nil)
	if len(c.table.sessions) > 0 {
		t.Errorf("sessions that nobody has are kept: %+v", c.table.sessions)
	}
}

func TestUnchangedRIBIsFree(t *testing.T) {
	c := New(Config{})
	c.table.setPaths(netip.MustParsePrefix("172.17.0.0/24"), []bgp.Path{{NextHop: netip.MustParseAddr("10.0.0.2")}})
	first := c.RIB()
	if n := testing.AllocsPerRun(10, func() { c.RIB() }); n != 0 {
		t.Errorf("an unchanged RIB costs %v allocations", n)
	}
	c.table.setPaths(netip.MustParsePrefix("172.17.1.0/24"), []bgp.Path{{NextHop: netip.MustParseAddr("10.0.0.2")}})
	if len(first.Paths) != 1 || len(c.RIB().Paths) != 2 {
		t.Errorf("RIBs have %d and %d prefixes, want 1 and 2", len(first.Paths), len(c.RIB().Paths))
	}
}

// The hash must cover every field of a session and no other.
func TestSessionHash(t *testing.T) {
	base := bgp.Peer{
		Name: "a", Kind: bgp.MeshPeer, Address: netip.MustParseAddr("10.0.0.2"), Port: 179, AS: 1,
		LocalAddress: netip.MustParseAddr("10.0.0.1"), HoldTime: 9, Keepalive: 3, RestartTime: 120,
	}
	same := base
	same.Name, same.Kind = "b", bgp.GlobalPeer
	if sessionHash(same) != sessionHash(base) {
		t.Error("a new name restarts the session")
	}
	for name, change := range map[string]func(*bgp.Peer){
		"address": func(p *bgp.Peer) { p.Address = p.LocalAddress }, "port": func(p *bgp.Peer) { p.Port++ },
		"AS": func(p *bgp.Peer) { p.AS++ }, "local address": func(p *bgp.Peer) { p.LocalAddress = p.Address },
		"passive": func(p *bgp.Peer) { p.Passive = true }, "hold time": func(p *bgp.Peer) { p.HoldTime++ },
		"keepalive": func(p *bgp.Peer) { p.Keepalive++ }, "restart time": func(p *bgp.Peer) { p.RestartTime++ },
	} {
		p := base
		change(&p)
		if sessionHash(p) == sessionHash(base) {
			t.Errorf("a change of the %s goes unnoticed", name)
		}
	}
}

// TestCalm reads the peers less often only while there is nothing to be expected of it.
func TestCalm(t *testing.T) {
	up, other := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	established := bgp.Session{State: stateName(gobgp.PeerState_ESTABLISHED)}
	for name, c := range map[string]struct {
		change func(*session)
		want   bool
	}{
		"nothing new":       {func(*session) {}, true},
		"no answer":         {func(s *session) { s.listErr = errors.New("no answer") }, false},
		"something new":     {func(s *session) { s.changed = true }, false},
		"a plan to apply":   {func(s *session) { s.due = true }, false},
		"a session is down": {func(s *session) { s.c.table.setSession(other, bgp.Session{State: stateIdle}) }, false},
	} {
		client := New(Config{})
		client.Want(bgp.Plan{Peers: map[netip.Addr]bgp.Peer{up: {Address: up}, other: {Address: other}}}, false)
		client.table.setSession(up, established)
		client.table.setSession(other, established)
		s := newSession(client, nil)
		s.changed, s.due = false, false
		c.change(s)
		if have := s.calm(); have != c.want {
			t.Errorf("%s: calm: %t", name, have)
		}
	}
}
