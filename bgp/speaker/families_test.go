// SPDX-License-Identifier: Apache-2.0

package speaker_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	gobgp "github.com/osrg/gobgp/v3/api"
	"google.golang.org/grpc"

	"korat/bgp"
)

const (
	// namespaceEnv says that this process is in a network of its own.
	namespaceEnv = "KORAT_TEST_NAMESPACE"
	block6A      = "fd01::/122"
	block6B      = "fd01::40/122"
)

// inNamespace has the calling test run once more, in a process whose network is its own, and gives true
// there: IPv6 has but one loopback address, and more of them are no business of the machine's. lo is up
// and has the addresses.
func inNamespace(t *testing.T, addresses ...string) bool {
	t.Helper()
	if os.Getenv(namespaceEnv) != "" {
		run(t, "ip", "link", "set", "lo", "up")
		for _, a := range addresses {
			run(t, "ip", "address", "add", a+"/128", "dev", "lo", "nodad")
		}
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), namespaceEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	switch {
	case cmd.Process == nil && os.Geteuid() != 0:
		t.Skipf("neither root nor allowed to make a network namespace: make test runs this as root: %v", err)
	case err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Errorf("in its namespace: %v\n%s", err, out)
	}
	return false
}

func run(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

func start(routers ...*router) {
	for _, r := range routers {
		r.startClient(false)
		r.startSpeaker()
	}
}

// Two nodes without IPv4. The speaker of one restarts: the other keeps its routes throughout, although
// even the latch is IPv6's.
func TestIPv6Only(t *testing.T) {
	t.Parallel()
	if !inNamespace(t, "fd00::1", "fd00::2") {
		return
	}
	port := freePort(t)
	a, b := newRouter(t, "fd00::1", port, block6A), newRouter(t, "fd00::2", port, block6B, "fd02::/64")
	a.peerWith(b)
	b.peerWith(a)
	start(a, b)
	const fromA, fromB = "fd01::/122: fd00::1", "fd01::40/122: fd00::2; fd02::/64: fd00::2"
	a.untilLearned(fromB)
	b.untilLearned(fromA)
	a.until("counters", func(rib bgp.RIB) bool {
		s := rib.Sessions[b.addr]
		return s.Received == 2 && s.Advertised == 1 && s.Reason == ""
	})
	withdrawals := b.watchWithdrawals()
	_ = a.kill(syscall.SIGKILL)
	a.until("loss of the speaker", func(rib bgp.RIB) bool { return !rib.Running })
	a.startSpeaker()
	b.until("End-of-RIB of a", func(rib bgp.RIB) bool { return rib.Sessions[a.addr].EndOfRIB && rib.Sessions[a.addr].Flaps == 1 })
	a.untilLearned(fromB)
	b.untilLearned(fromA)
	if got := withdrawals(); len(got) > 0 {
		t.Errorf("the neighbour saw withdrawals: %v", got)
	}
	if got := b.announced(a.addr); got != restarted {
		t.Errorf("b was told %q, want %q", got, restarted)
	}
	a.until("end of the restart", func(bgp.RIB) bool { return strings.Contains(a.log.String(), "restart ends") && a.peers() == 1 })

	delete(b.plan.Origins, netip.MustParsePrefix("fd02::/64"))
	b.want()
	a.untilLearned("fd01::40/122: fd00::2")
}

// Two nodes with both families have two sessions: each carries its own family's routes, and what happens
// to one is no matter to the other.
func TestDualStack(t *testing.T) {
	t.Parallel()
	if !inNamespace(t, "fd00::1", "fd00::2") {
		return
	}
	port := freePort(t)
	a, b := newRouter(t, "127.0.0.1", port, blockA, block6A).dual("fd00::1"), newRouter(t, "127.0.0.2", port, blockB, block6B).dual("fd00::2")
	a.peerWith(b)
	b.peerWith(a)
	start(a, b)
	const fromA, fromB = "172.17.1.0/24: 127.0.0.1; fd01::/122: fd00::1", "172.17.2.0/24: 127.0.0.2; fd01::40/122: fd00::2"
	a.untilLearned(fromB)
	b.untilLearned(fromA)
	counted := func(rib bgp.RIB) bool {
		four, six := rib.Sessions[b.addr], rib.Sessions[b.addr6]
		return four.Received == 1 && four.Advertised == 1 && six.Received == 1 && six.Advertised == 1
	}
	a.until("counters of one family each", counted)

	// The client comes and goes; it finds nothing to do.
	opens := a.opens() + b.opens()
	a.stopClient()
	a.startClient(true)
	a.untilLearned(fromB)
	a.until("counters", counted)
	if got := a.opens() + b.opens(); got != opens {
		t.Errorf("%d OPENs were sent, want %d as before the client's restart", got, opens)
	}
	if log := a.log.String(); strings.Contains(log, "peer") || strings.Contains(log, "prefix") {
		t.Errorf("a client that found all as wanted did something:\n%s", log)
	}

	// The speaker comes and goes; the neighbour keeps the routes of both families.
	withdrawals := b.watchWithdrawals()
	_ = a.kill(syscall.SIGKILL)
	a.startSpeaker()
	for _, addr := range []netip.Addr{a.addr, a.addr6} {
		b.until("End-of-RIB from "+addr.String(), func(rib bgp.RIB) bool {
			return rib.Sessions[addr].EndOfRIB && rib.Sessions[addr].Flaps == 1
		})
		if got := b.announced(addr); got != restarted {
			t.Errorf("b was told %q from %s, want %q", got, addr, restarted)
		}
	}
	a.untilLearned(fromB)
	a.until("end of the restart", func(bgp.RIB) bool { return strings.Contains(a.log.String(), "restart ends") })
	if got := withdrawals(); len(got) > 0 {
		t.Errorf("the neighbour saw withdrawals: %v", got)
	}

	// Without the IPv6 session only its routes go.
	delete(b.plan.Peers, a.addr6)
	b.want()
	b.untilLearned("172.17.1.0/24: 127.0.0.1")
	a.until("loss of IPv6", func(rib bgp.RIB) bool {
		return learned(rib) == "172.17.2.0/24: 127.0.0.2" && rib.Sessions[b.addr6].Flaps == 1
	})
	for _, s := range []bgp.Session{a.client.RIB().Sessions[b.addr], b.client.RIB().Sessions[a.addr]} {
		if !s.Established() {
			t.Errorf("the IPv4 session went as well: %+v", s)
		}
	}
}

// Without addresses to listen on the speaker takes connections of both families, and where the kernel
// has IPv6 disabled those of IPv4.
func TestListenOnAll(t *testing.T) {
	t.Parallel()
	if !inNamespace(t, "fd00::1", "fd00::9") {
		return
	}
	for _, ipv6 := range []bool{true, false} {
		t.Run(fmt.Sprintf("ipv6=%t", ipv6), func(t *testing.T) {
			a, b := newRouter(t, "127.0.0.9", freePort(t), blockA, block6A).dual("fd00::9"), newRouter(t, "127.0.0.1", freePort(t), blockB, block6B)
			want := "172.17.2.0/24: 127.0.0.1"
			if ipv6 {
				b.dual("fd00::1")
				want += "; fd01::40/122: fd00::1"
			} else if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0); err != nil {
				t.Fatal(err)
			}
			a.plan.Global.ListenAddresses = nil
			a.peerWith(b)
			b.peerWith(a)
			start(a, b)
			a.untilLearned(want)
			a.until("sessions", func(rib bgp.RIB) bool { return len(rib.Sessions) == len(a.plan.Peers) && a.client.Err() == nil })
		})
	}
}

// A neighbour that comes back without the session's family is said to be silent in it, nobody waits for its
// End-of-RIB, and what it told before goes.
func TestMuteNeighbour(t *testing.T) {
	t.Parallel()
	if !inNamespace(t, "fd00::1", "fd00::2") {
		return
	}
	port := freePort(t)
	a, b := newRouter(t, "fd00::1", port, block6A), newRouter(t, "fd00::2", port, block6B)
	a.peerWith(b)
	b.peerWith(a)
	start(a, b)
	a.untilLearned("fd01::40/122: fd00::2")
	b.stopClient()
	_ = b.kill(syscall.SIGKILL)
	a.until("loss", func(rib bgp.RIB) bool { return rib.Sessions[b.addr].Flaps == 1 })
	b.startSpeaker()
	b.speakIPv4To(a)
	a.until("completeness without routes", func(rib bgp.RIB) bool {
		s := rib.Sessions[b.addr]
		return s.Established() && !s.EndOfRIB && !s.Since.IsZero() && rib.Complete && learned(rib) == "" &&
			strings.Contains(s.Reason, "does not speak IPv6 unicast")
	})
}

// speakIPv4To gives the router's speaker, which has no client, one peer for IPv4 unicast alone.
func (r *router) speakIPv4To(peer *router) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	api := gobgp.NewGobgpApiClient(r.connection(grpc.WithDefaultCallOptions(grpc.WaitForReady(true))))
	if _, err := api.StartBgp(ctx, &gobgp.StartBgpRequest{Global: &gobgp.Global{
		Asn: 64512, RouterId: r.plan.Global.RouterID.String(), ListenPort: int32(r.port), ListenAddresses: []string{r.addr.String()},
	}}); err != nil {
		r.t.Fatal(err)
	}
	ipv4 := &gobgp.Family{Afi: gobgp.Family_AFI_IP, Safi: gobgp.Family_SAFI_UNICAST}
	if _, err := api.AddPeer(ctx, &gobgp.AddPeerRequest{Peer: &gobgp.Peer{
		Conf:            &gobgp.PeerConf{NeighborAddress: peer.addr.String(), PeerAsn: 64512},
		Transport:       &gobgp.Transport{PassiveMode: true},
		GracefulRestart: &gobgp.GracefulRestart{Enabled: true, RestartTime: 60},
		AfiSafis: []*gobgp.AfiSafi{{
			Config:            &gobgp.AfiSafiConfig{Family: ipv4, Enabled: true},
			MpGracefulRestart: &gobgp.MpGracefulRestart{Config: &gobgp.MpGracefulRestartConfig{Enabled: true}},
		}},
	}}); err != nil {
		r.t.Fatal(err)
	}
}
