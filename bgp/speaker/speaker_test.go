// SPDX-License-Identifier: Apache-2.0

package speaker_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gobgp "github.com/osrg/gobgp/v3/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"korat/bgp"
	"korat/bgp/speaker"
	"korat/bgp/speaker/process"
	"korat/test/logbook"
)

// The test binary is also the speaker process: several GoBGP servers can't share one process.
const socketEnv, statusEnv = "KORAT_TEST_SPEAKER_SOCKET", "KORAT_TEST_SPEAKER_STATUS"

// patience bounds every wait; it is no expectation.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	socket := os.Getenv(socketEnv)
	if socket == "" {
		flag.Parse()
		asked := false
		flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
		if !asked { // else as many as there are cores, and the tests wait for BGP's timers most of the time
			_ = flag.Set("test.parallel", "16")
		}
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := process.Run(ctx, process.Config{Socket: socket, StatusFile: os.Getenv(statusEnv), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// router is one speaker with its client.
type router struct {
	t       *testing.T
	addr    netip.Addr
	addr6   netip.Addr // invalid unless dual
	port    uint16
	dir     string
	cmd     *exec.Cmd
	client  *speaker.Client
	log     *logbook.Book
	plan    bgp.Plan
	stopped chan struct{}
	cancel  context.CancelFunc
}

func newRouter(t *testing.T, addr string, port uint16, origins ...string) *router {
	t.Helper()
	dir, err := os.MkdirTemp("", "korat-bgp") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	r := &router{t: t, addr: netip.MustParseAddr(addr), port: port, dir: dir}
	id := r.addr
	if id.Is6() {
		id = netip.AddrFrom4([4]byte{10, 0, 0, r.addr.As16()[15]})
	}
	r.plan = bgp.Plan{
		Global:  bgp.Global{AS: 64512, RouterID: id, ListenPort: port, ListenAddresses: []netip.Addr{r.addr}},
		Peers:   map[netip.Addr]bgp.Peer{},
		Origins: map[netip.Prefix]struct{}{},
	}
	for _, o := range origins {
		r.plan.Origins[netip.MustParsePrefix(o)] = struct{}{}
	}
	t.Cleanup(func() {
		r.stopClient()
		_ = r.kill(syscall.SIGKILL)
		if t.Failed() {
			out, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("speaker %s:\n%s", addr, out)
			if r.log != nil {
				t.Logf("client %s:\n%s", addr, r.log)
			}
		}
		_ = os.RemoveAll(dir)
	})
	return r
}

// dual gives the router an IPv6 address beside its IPv4 one.
func (r *router) dual(addr string) *router {
	r.addr6 = netip.MustParseAddr(addr)
	r.plan.Global.ListenAddresses = append(r.plan.Global.ListenAddresses, r.addr6)
	return r
}

func (r *router) socket() string { return filepath.Join(r.dir, "speaker.sock") }
func (r *router) status() string { return filepath.Join(r.dir, "speaker.json") }

func (r *router) startSpeaker() {
	r.t.Helper()
	r.cmd = speakerCommand(r.t, r.socket(), r.status())
	out, err := os.OpenFile(filepath.Join(r.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer out.Close()
	r.cmd.Stdout, r.cmd.Stderr = out, out
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
}

func speakerCommand(t *testing.T, socket, status string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), socketEnv+"="+socket, statusEnv+"="+status)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (r *router) kill(sig syscall.Signal) error {
	if r.cmd == nil {
		return nil
	}
	_ = r.cmd.Process.Signal(sig)
	err := r.cmd.Wait()
	r.cmd = nil
	return err
}

func (r *router) startClient(restarting bool) {
	r.log = &logbook.Book{}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	r.client = speaker.New(speaker.Config{Socket: r.socket(), StatusFile: r.status(), Log: log})
	r.client.Want(r.wish(), restarting)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	r.cancel, r.stopped = cancel, done
	client := r.client
	go func() {
		defer close(done)
		_ = client.Run(ctx)
	}()
}

func (r *router) stopClient() {
	if r.cancel != nil {
		r.cancel()
		<-r.stopped
		r.cancel = nil
	}
}

// wish gives a copy of the plan: the client keeps what it is given.
func (r *router) wish() bgp.Plan {
	return bgp.Plan{Global: r.plan.Global, Peers: maps.Clone(r.plan.Peers), Origins: maps.Clone(r.plan.Origins)}
}

func (r *router) want() { r.client.Want(r.wish(), false) }

// peerWith plans a session for each family.
func (r *router) peerWith(others ...*router) {
	for _, o := range others {
		r.peerAt(o, r.addr, o.addr)
		if r.addr6.IsValid() && o.addr6.IsValid() {
			r.peerAt(o, r.addr6, o.addr6)
		}
	}
}

func (r *router) peerAt(o *router, own, addr netip.Addr) {
	r.plan.Peers[addr] = bgp.Peer{
		Name: addr.String(), Kind: bgp.MeshPeer,
		Address: addr, Port: o.port, AS: o.plan.Global.AS, LocalAddress: own,
		Passive:  addr.Less(own),
		HoldTime: 9 * time.Second, Keepalive: 3 * time.Second, RestartTime: 40 * time.Second,
	}
}

// until waits for a condition on the RIB.
func (r *router) until(what string, cond func(bgp.RIB) bool) bgp.RIB {
	r.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for {
		rib := r.client.RIB()
		if cond(rib) {
			return rib
		}
		select {
		case <-r.client.Wake():
		case <-tick.C:
		case <-end:
			r.t.Fatalf("%s never became true at %s; RIB %+v, error %v", what, r.addr, rib, r.client.Err())
		}
	}
}

// learned renders the paths as "prefix: hop hop; ...".
func learned(rib bgp.RIB) string {
	var out []string
	for p, paths := range rib.Paths {
		line := p.String() + ":"
		for _, path := range paths {
			line += " " + path.NextHop.String()
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func (r *router) untilLearned(want string) bgp.RIB {
	r.t.Helper()
	return r.until("learned "+want, func(rib bgp.RIB) bool { return rib.Complete && learned(rib) == want })
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// dial opens a second connection to the router's speaker, as the gobgp command would.
func (r *router) dial() gobgp.GobgpApiClient {
	r.t.Helper()
	return gobgp.NewGobgpApiClient(r.connection())
}

func (r *router) connection(options ...grpc.DialOption) *grpc.ClientConn {
	r.t.Helper()
	conn, err := grpc.NewClient("unix://"+r.socket(), append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// opens counts the OPEN messages that the router's speaker sent, over all its peers.
func (r *router) opens() uint64 {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stream, err := r.dial().ListPeer(ctx, &gobgp.ListPeerRequest{})
	if err != nil {
		r.t.Fatal(err)
	}
	var n uint64
	for {
		p, err := stream.Recv()
		if err != nil {
			return n
		}
		n += p.Peer.State.Messages.Sent.Open
	}
}

// watchWithdrawals records withdrawals at the router's speaker until the test ends.
func (r *router) watchWithdrawals() (seen func() []string) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := r.dial().WatchEvent(ctx, &gobgp.WatchEventRequest{Table: &gobgp.WatchEventRequest_Table{
		Filters: []*gobgp.WatchEventRequest_Table_Filter{{Type: gobgp.WatchEventRequest_Table_Filter_BEST, Init: true}},
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	var mu sync.Mutex
	var got []string
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for first := true; ; first = false {
			msg, err := stream.Recv()
			if first {
				close(ready)
			}
			if err != nil {
				return
			}
			for _, p := range msg.GetTable().GetPaths() {
				if p.IsWithdraw {
					mu.Lock()
					got = append(got, p.String())
					mu.Unlock()
				}
			}
		}
	}()
	r.t.Cleanup(func() { cancel(); <-done })
	select {
	case <-ready:
	case <-time.After(patience):
		r.t.Fatal("the speaker's events do not begin")
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}
