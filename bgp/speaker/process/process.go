// SPDX-License-Identifier: Apache-2.0

// Package process is the speaker: GoBGP in a process of its own, spoken to over a root-only Unix
// socket with GoBGP's own gRPC API. It holds no wish of its own: what it should do comes from its
// client (package speaker). A crash that a neighbour causes in the library ends only this process.
package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	gobgp "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
	"golang.org/x/sys/unix"

	"korat/bgp/speaker/status"
)

// maxSocketPath is what sockaddr_un holds, less the closing NUL.
const maxSocketPath = 107

// Config is what the process is started with.
type Config struct {
	// Socket is the path of the Unix socket to serve GoBGP's API on.
	Socket string
	// StatusFile is where the reasons of sessions that are down are written (package status).
	StatusFile string
	Log        *slog.Logger
	// LogLevel is the least level of GoBGP's records that are printed.
	LogLevel slog.Level
}

// Run is the speaker's life: it serves until ctx is done, or GoBGP gives up or hangs. It returns without
// saying goodbye to the neighbours: a CEASE would make them drop our routes, while a connection
// that breaks makes them keep these for the restart time (RFC 4724). So the caller must end the
// process when Run returns. It changes the process's umask, has it ignore SIGPIPE, and is called once
// per process.
func Run(ctx context.Context, cfg Config) error {
	unlock, err := claim(ctx, cfg.Socket)
	if err != nil {
		return fmt.Errorf("speaker socket %s: %w", cfg.Socket, err)
	}
	defer unlock()
	// Standard error may be a pipe that ends with the agent that started this process, which must not.
	signal.Ignore(unix.SIGPIPE)
	switch crashed, culprit, err := status.KeepCrash(cfg.StatusFile); {
	case err != nil:
		cfg.Log.Error("crash of the last speaker not noted", "error", err)
	case crashed:
		cfg.Log.Error("the last speaker crashed", "reading_from", culprit, "stack", status.LastCrashPath(cfg.StatusFile))
	}
	if err := writeCrash(status.CrashPath(cfg.StatusFile)); err != nil {
		return fmt.Errorf("speaker: prepare for a crash: %w", err)
	}
	rec := newRecorder(cfg.StatusFile, os.Getpid())
	log := newLogger(cfg.Log, cfg.LogLevel, rec.record)
	writing := make(chan struct{})
	recCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(writing)
		rec.run(recCtx, func(err error) { cfg.Log.Error("status not written", "error", err) })
	}()
	defer func() { stop(); <-writing }()

	// net.Listen makes a socket with mode 0777 less the umask; GoBGP calls it some time after
	// NewBgpServer, so the umask stays. It also keeps everybody off what else is written.
	unix.Umask(0o177)
	s := server.NewBgpServer(server.GrpcListenAddress("unix://"+cfg.Socket), server.LoggerOption(log))
	go s.Serve()
	cfg.Log.Info("speaker started", "socket", cfg.Socket, "pid", os.Getpid())
	hung := make(chan error, 1)
	go func() {
		hung <- answers(recCtx, checkPeriod, func() { _, _ = s.GetBgp(recCtx, &gobgp.GetBgpRequest{}) })
	}()
	select {
	case <-ctx.Done():
		cfg.Log.Info("speaker ends; neighbours keep our routes for the restart time")
		return nil
	case err := <-log.died:
		return fmt.Errorf("speaker: %w", err)
	case err := <-hung:
		if keep := writeStacks(status.HangPath(cfg.StatusFile)); keep != nil {
			cfg.Log.Error("stacks not written", "error", keep)
		}
		return fmt.Errorf("speaker: %w; stacks in %s", err, status.HangPath(cfg.StatusFile))
	}
}

// writeCrash has the runtime write the stack of a crash into a file, goroutine labels included: it is
// all that tells which neighbour's message was read.
func writeCrash(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // the runtime keeps a duplicate
	if err := debug.SetCrashOutput(f, debug.CrashOptions{}); err != nil {
		return err
	}
	settings := []string{"tracebacklabels=1"}
	if s := os.Getenv("GODEBUG"); s != "" {
		settings = append([]string{s}, settings...)
	}
	return os.Setenv("GODEBUG", strings.Join(settings, ","))
}

// claim makes the socket's path ours: it takes a lock that lasts as long as the process, refuses a
// socket that somebody serves, and removes a dead one.
func claim(ctx context.Context, socket string) (unlock func(), err error) {
	switch {
	case !filepath.IsAbs(socket):
		return nil, errors.New("give an absolute path")
	case len(socket) > maxSocketPath:
		return nil, fmt.Errorf("path has %d bytes, a Unix socket's may have %d: give a shorter one", len(socket), maxSocketPath)
	case strings.Contains(socket, ","):
		return nil, errors.New("path has a comma, which GoBGP takes for a list: give another one")
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	lock, err := os.OpenFile(socket+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	unlock = func() { _ = lock.Close() }
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unlock()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.New("another speaker runs on it: stop that one or give another socket")
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := removeDead(ctx, socket); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func removeDead(ctx context.Context, socket string) error {
	info, err := os.Lstat(socket)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is something that is no socket: move it away or give another path")
	}
	dialer := net.Dialer{Timeout: time.Second}
	// Not called off with ctx, which would look like a dead socket.
	conn, err := dialer.DialContext(context.WithoutCancel(ctx), "unix", socket)
	if err == nil {
		_ = conn.Close()
		return errors.New("another program serves it: stop that one or give another socket")
	}
	// Only this proves that nobody listens: one that is too busy to accept gives another error.
	if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("another program may serve it: %w", err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove dead socket: %w", err)
	}
	return nil
}
