// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	gobgp "github.com/osrg/gobgp/v3/api"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// maxUnanswered is the number of questions in a row after which a speaker counts as hung: one may be
// lost when a host or a container was frozen meanwhile.
const maxUnanswered = 3

// guard asks the speaker process for its settings, the cheapest question that its BGP server has to
// answer itself, and kills it when it does not answer, until ctx is done.
func (s *Supervisor) guard(ctx context.Context, kill func() error) {
	period := s.cfg.Patience / maxUnanswered
	tick := time.NewTicker(period)
	defer tick.Stop()
	conn, err := grpc.NewClient("unix://"+s.cfg.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.cfg.Log.Warn("speaker not watched", "error", err)
		return
	}
	defer func() { _ = conn.Close() }()
	api := gobgp.NewGobgpApiClient(conn)
	for unanswered := 0; unanswered < maxUnanswered; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		rpc, cancel := context.WithTimeout(ctx, period)
		_, err := api.GetBgp(rpc, &gobgp.GetBgpRequest{})
		cancel()
		if unanswered++; err == nil {
			unanswered = 0
		}
	}
	if ctx.Err() != nil {
		return
	}
	s.cfg.Log.Error("speaker does not answer: killed", "patience", s.cfg.Patience)
	if err := kill(); err != nil {
		s.cfg.Log.Error("hung speaker not killed", "error", err)
	}
}

// peerOf gives the process that serves the other end of a connection over a Unix socket.
func peerOf(conn net.Conn) (int, error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a Unix socket")
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, fmt.Errorf("ask who serves the socket: %w", credErr)
	}
	if cred.Pid <= 0 {
		return 0, errors.New("the socket is served from another PID namespace")
	}
	return int(cred.Pid), nil
}
