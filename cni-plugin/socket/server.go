// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"korat/felix/endpoint"
)

// Handler is the agent's side of the conversation.
type Handler interface {
	// Handle answers one request. ctx ends when the peer hangs up or the server stops; an error that it
	// returns then is not sent, so that the peer asks again when there is an agent again.
	Handle(ctx context.Context, req Request) Reply
	// Abort undoes an attachment whose conversation ended before Ready was answered without error. It is
	// called only if the answer to Add was an Endpoint that was not Ready, or if the peer hung up before
	// that answer: then unsure is true, and an attachment that is Ready was so before, and stays. It is never
	// called when the server stops: what is unfinished then is as after a crash, for the agent to settle
	// when it starts.
	Abort(ctx context.Context, id endpoint.ID, unsure bool)
}

// Limits bound what a peer can make the server hold. They are root's own processes, but a hung
// runtime must not use up the agent.
type Limits struct {
	// Connections served at once; more wait in the socket's backlog.
	Connections int
	// RequestBytes is the longest request: a GC that names some thousands of attachments.
	RequestBytes int
	// Idle is how long a peer may take to send its next request, making the interface included.
	Idle time.Duration
	// Abort bounds Handler.Abort.
	Abort time.Duration
	// Streams served at once; more are refused. Stall is how long a peer may take to make room for what is next.
	Streams int
	Stall   time.Duration
	// Farewell is how long a peer may take to make room once the server stops.
	Farewell time.Duration
	// Drain is the time between two tries of queued DELs that failed, and Sweep that between two looks for
	// ones that nobody told of.
	Drain, Sweep time.Duration
}

// DefaultLimits are what Listen sets.
func DefaultLimits() Limits {
	return Limits{
		Connections: 256, RequestBytes: 1 << 20, Idle: time.Minute, Abort: 30 * time.Second,
		Streams: 8, Stall: 10 * time.Second, Farewell: time.Second, Drain: time.Second, Sweep: time.Minute,
	}
}

// Server answers on the agent's socket. Set Log and Limits before Serve.
type Server struct {
	// Log is told of refused peers and broken messages.
	Log    *slog.Logger
	Limits Limits

	listener *net.UnixListener
	talks    talks
	queue    queue
	// streams has room for those that there may be.
	streams chan struct{}
	// drainTrouble is what was last logged of the draining.
	drainTrouble string
}

func newServer(l *net.UnixListener, q queue) *Server {
	return &Server{
		Log: slog.New(slog.DiscardHandler), Limits: DefaultLimits(), listener: l, queue: q,
		talks: talks{open: map[endpoint.ID]chan struct{}{}},
	}
}

// Close stops listening and removes the socket. Serve does it, too.
func (s *Server) Close() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Serve carries out what is queued, then answers connections until ctx is done, then closes the socket
// and returns when every Handle has. Its error is nil when ctx ended it.
func (s *Server) Serve(ctx context.Context, h Handler) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer func() {
		stop()
		_ = s.Close() // what was begun by ctx may still be under way
	}()
	var conns sync.WaitGroup
	defer conns.Wait()
	s.drain(ctx, h)
	conns.Go(func() { s.watch(ctx, h) })
	slots := make(chan struct{}, s.Limits.Connections)
	s.streams = make(chan struct{}, s.Limits.Streams)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := s.listener.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		case err != nil:
			// Out of descriptors or memory: the peers wait in the backlog meanwhile.
			s.Log.Warn("accept", "error", err)
			<-slots
			pause(ctx, 100*time.Millisecond)
			continue
		}
		conns.Go(func() {
			defer func() { <-slots }()
			s.serveConn(ctx, conn, h)
		})
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// serveConn holds one conversation.
func (s *Server) serveConn(ctx context.Context, unixConn *net.UnixConn, h Handler) {
	conn := hearer{unixConn, ctx, s.Limits.Farewell}
	defer conn.Close()
	defer context.AfterFunc(ctx, conn.hurry)()
	if uid, err := peerUID(unixConn); err != nil || uid != 0 {
		s.Log.Warn("peer refused", "uid", uid, "error", err)
		s.reply(conn, refusal(CodeInternal, fmt.Sprintf("user %d may not use the agent's socket: only root may", uid)))
		return
	}
	peer, hangUp := context.WithCancel(ctx)
	requests := make(chan incoming)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer hangUp()
		s.read(peer, conn, requests)
	})
	t := &talk{server: s, handler: h, conn: conn, stopping: ctx.Done()}
	defer func() {
		t.end(ctx)
		hangUp()
		_ = conn.Close()
		reader.Wait()
	}()
	s.converse(peer, t, requests)
}

// converse answers requests until the peer hangs up or a request ends the conversation.
func (s *Server) converse(peer context.Context, t *talk, requests <-chan incoming) {
	conn := t.conn
	for {
		_ = conn.SetReadDeadline(time.Now().Add(s.Limits.Idle))
		select {
		case <-peer.Done():
			return
		case in := <-requests:
			if in.err != nil {
				s.Log.Warn("request not understood", "error", in.err)
				s.reply(conn, undecodable(in.err))
				return
			}
			// While we work the peer has nothing to say; the reader then only waits for its hanging up.
			_ = conn.SetReadDeadline(time.Time{})
			if in.req.Verb == VerbFlows {
				s.stream(peer, conn, t.handler, in.req, requests)
				return
			}
			if !t.turn(peer, in.req) {
				return
			}
		}
	}
}

type incoming struct {
	req Request
	err error
}

// read decodes requests until the peer hangs up, is silent for too long or talks nonsense.
func (s *Server) read(ctx context.Context, conn net.Conn, out chan<- incoming) {
	metered := &meteredReader{r: conn}
	dec := json.NewDecoder(metered)
	// A field that this agent does not know is one that it would not obey.
	dec.DisallowUnknownFields()
	for {
		var in incoming
		metered.left = s.Limits.RequestBytes
		in.err = dec.Decode(&in.req)
		if in.err != nil && broken(in.err) {
			return
		}
		select {
		case out <- in:
		case <-ctx.Done():
			return
		}
		if in.err != nil {
			return
		}
	}
}

func undecodable(err error) Reply {
	if errors.Is(err, errTooLong) {
		return refusal(CodeDecodingFailure, "request too long")
	}
	r := refusal(CodeDecodingFailure, "request not understood: are plugin and agent of the same version?")
	r.Error.Details = err.Error()
	return r
}

func refusal(code uint, message string) Reply {
	return Reply{Error: &Error{Code: code, Message: message}}
}

// reply sends a reply, and reports whether the peer got it, as far as the kernel knows.
func (s *Server) reply(conn net.Conn, r Reply) bool {
	// A peer that does not read must not hold the server: the kernel's buffer takes most replies whole.
	_ = conn.SetWriteDeadline(time.Now().Add(s.Limits.Idle))
	return json.NewEncoder(conn).Encode(r) == nil
}

// hearer is a connection on which a peer that does not read can't hold up the server's end.
type hearer struct {
	net.Conn
	// ctx is the server's.
	ctx      context.Context
	farewell time.Duration
}

// SetWriteDeadline implements net.Conn.
func (h hearer) SetWriteDeadline(t time.Time) error {
	err := h.Conn.SetWriteDeadline(t)
	if h.ctx.Err() != nil { // if it ends after this, the deadline is put forward then
		h.hurry()
	}
	return err
}

func (h hearer) hurry() { _ = h.Conn.SetWriteDeadline(time.Now().Add(h.farewell)) }
