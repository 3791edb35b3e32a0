// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"korat/bgp/speaker/status"
	"korat/api/wake"
)

const (
	// steady is how long a speaker must live for its death to be followed by a start at once.
	steady       = 10 * time.Second
	minRestart   = 100 * time.Millisecond
	maxRestart   = 10 * time.Second
	maxCrashes   = 2
	probeTimeout = time.Second
)

// SupervisorConfig is what a Supervisor is made from.
type SupervisorConfig struct {
	// Command is the speaker's program and arguments.
	Command []string
	// Socket and StatusFile are those that Command is given.
	Socket, StatusFile string
	// LogFile is what the speaker's output is appended to; empty for this process's own output.
	LogFile string
	Log     *slog.Logger
}

// Supervisor keeps one speaker process alive. The process outlives its supervisor: the next one
// adopts it, and no session notices.
type Supervisor struct {
	cfg  SupervisorConfig
	wake wake.Signal

	mu       sync.Mutex
	suspects map[netip.Addr]string

	// crashes counts by the neighbour whose message was read; Run's alone.
	crashes map[netip.Addr]int
}

// NewSupervisor allocates a supervisor; Run makes it work.
func NewSupervisor(cfg SupervisorConfig) *Supervisor {
	return &Supervisor{cfg: cfg, wake: wake.New(), suspects: map[netip.Addr]string{}, crashes: map[netip.Addr]int{}}
}

// Suspects gives the neighbours that crashed the speaker more than once, with the reason. They
// should get no session: each crash costs all the others. It never shrinks.
func (s *Supervisor) Suspects() map[netip.Addr]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.suspects)
}

// Wake is poked after Suspects has changed.
func (s *Supervisor) Wake() <-chan struct{} { return s.wake }

// Run adopts a speaker that answers on the socket, or starts one, and does so again after its
// death, until ctx is done. The speaker is left running then.
func (s *Supervisor) Run(ctx context.Context) error {
	if len(s.cfg.Command) == 0 {
		return errors.New("supervise speaker: no command given")
	}
	var backoff time.Duration
	adopted := false
	dialer := net.Dialer{Timeout: probeTimeout}
	for ctx.Err() == nil {
		conn, err := dialer.DialContext(ctx, "unix", s.cfg.Socket)
		switch {
		case err == nil:
			if !adopted {
				s.cfg.Log.Info("speaker adopted", "socket", s.cfg.Socket)
			}
			adopted = true
			await(ctx, conn)
			continue
		case ctx.Err() != nil: // the dial was called off: that says nothing of the speaker
			return nil
		case adopted:
			s.cfg.Log.Warn("adopted speaker is gone", "socket", s.cfg.Socket)
			s.blame()
		}
		adopted = false
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		if s.live(ctx) >= steady {
			backoff = 0
		} else {
			backoff = min(max(minRestart, 2*backoff), maxRestart)
		}
	}
	return nil
}

// await waits until the other end closes the connection, which a dying process does. The gRPC
// server also closes one that stays silent; the caller then finds the speaker alive and well.
func await(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 512)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}

// live starts a speaker and waits for its end, or for ctx. It returns how long it lived.
func (s *Supervisor) live(ctx context.Context) time.Duration {
	start := time.Now()
	cmd, err := s.start(ctx)
	if err != nil {
		s.cfg.Log.Error("speaker not started", "error", err)
		return 0
	}
	s.cfg.Log.Info("speaker started", "pid", cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ctx.Done():
		return time.Since(start)
	case err := <-ended:
		s.cfg.Log.Warn("speaker ended", "pid", cmd.Process.Pid, "reason", err)
		s.blame()
		return time.Since(start)
	}
}

// start runs the command in a session of its own, so that no signal meant for this process reaches
// it. It writes to files, never to a pipe that would break with this process, and it outlives ctx.
func (s *Supervisor) start(ctx context.Context) (*exec.Cmd, error) {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.cfg.Command[0], s.cfg.Command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if s.cfg.LogFile != "" {
		out, err := os.OpenFile(s.cfg.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open speaker's log: %w", err)
		}
		defer func() { _ = out.Close() }()
		cmd.Stdout, cmd.Stderr = out, out
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.cfg.Command[0], err)
	}
	return cmd, nil
}

// blame notes whose message a crashed speaker choked on. The second time that neighbour becomes a
// suspect: once may be chance, and a held down session costs its routes.
func (s *Supervisor) blame() {
	crashed, peer, err := status.Crashed(s.cfg.StatusFile)
	if err != nil {
		s.cfg.Log.Warn("cause of the speaker's end unknown", "error", err)
	}
	if !crashed {
		return
	}
	// Out of the way, so that a speaker that does not even start is not taken for another crash.
	stack := status.CrashPath(s.cfg.StatusFile)
	if err := os.Rename(stack, stack+".last"); err != nil {
		s.cfg.Log.Warn("stack of the crash not kept", "error", err)
	}
	s.cfg.Log.Error("speaker crashed", "reading_from", peer, "stack", stack+".last")
	if !peer.IsValid() {
		return
	}
	if s.crashes[peer]++; s.crashes[peer] < maxCrashes {
		return
	}
	s.mu.Lock()
	s.suspects[peer] = fmt.Sprintf("its messages crashed the speaker %d times; restart the agent to try again", s.crashes[peer])
	s.mu.Unlock()
	s.cfg.Log.Error("peer is held down", "peer", peer)
	s.wake.Poke()
}
