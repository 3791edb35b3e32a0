// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	// steady is how long a speaker must live for its death to be followed by a start at once.
	steady       = 10 * time.Second
	minRestart   = 100 * time.Millisecond
	maxRestart   = 10 * time.Second
	probeTimeout = time.Second
	// defaultPatience is less than the sessions' usual hold time (90s): the neighbours then see a
	// graceful restart (RFC 4724), and not a hold timer that expires, upon which they would drop our routes.
	defaultPatience = 30 * time.Second
)

// SupervisorConfig is what a Supervisor is made from.
type SupervisorConfig struct {
	// Command is the speaker's program and arguments.
	Command []string
	// Socket is the one that Command is given.
	Socket string
	// LogFile is what the speaker's output is appended to; empty for this process's own output.
	LogFile string
	// Patience is how long a speaker may leave questions unanswered; 0 for 30 seconds.
	Patience time.Duration
	Log      *slog.Logger
}

// Supervisor keeps one speaker process alive. The process outlives its supervisor: the next one
// adopts it, and no session notices. One that does not answer is killed.
type Supervisor struct{ cfg SupervisorConfig }

// NewSupervisor allocates a supervisor; Run makes it work.
func NewSupervisor(cfg SupervisorConfig) *Supervisor {
	cfg.Patience = cmp.Or(cfg.Patience, defaultPatience)
	return &Supervisor{cfg: cfg}
}

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
			s.await(ctx, conn)
			continue
		case ctx.Err() != nil: // the dial was called off: that says nothing of the speaker
			return nil
		case adopted:
			s.cfg.Log.Warn("adopted speaker is gone", "socket", s.cfg.Socket)
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
func (s *Supervisor) await(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if pid, err := peerOf(conn); err != nil {
		s.cfg.Log.Warn("adopted speaker not watched", "error", err)
	} else {
		go s.guard(ctx, func() error { return syscall.Kill(pid, syscall.SIGKILL) })
	}
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
	guarded, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.guard(guarded, cmd.Process.Kill)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ctx.Done():
		return time.Since(start)
	case err := <-ended:
		s.cfg.Log.Warn("speaker ended", "pid", cmd.Process.Pid, "reason", err)
		return time.Since(start)
	}
}

// start runs the command in a session of its own, so that no signal meant for this process reaches
// it. It outlives ctx and this process; should its output be a pipe that breaks then, it goes on silently.
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
