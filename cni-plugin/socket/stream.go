// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// Streamer is a Handler that answers VerbFlows.
type Streamer interface {
	// Stream answers with as many Replies as there come to be, until ctx ends, which it does when the peer hangs up or
	// says anything more, or the server stops. send gives an error when the peer has gone or does not read: then
	// there is no use in going on. The error that Stream returns is told to the peer.
	Stream(ctx context.Context, req Request, send func(Reply) error) error
}

// stream answers a request with a stream, after which the conversation is over. The first Reply says whether there is
// one; each of the next has something of it; the last has an error, unless one of the two hung up.
func (s *Server) stream(peer context.Context, conn net.Conn, h Handler, req Request, more <-chan incoming) {
	streamer, ok := h.(Streamer)
	if !ok {
		s.reply(conn, refusal(CodeInternal, fmt.Sprintf("unknown verb: %s", req.Verb)))
		return
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		s.reply(conn, refusal(CodeTryAgainLater, fmt.Sprintf("%d others follow already", cap(s.streams))))
		return
	}
	ctx, cancel := context.WithCancel(peer)
	defer cancel()
	go func() {
		select {
		case <-more:
			cancel()
		case <-ctx.Done():
		}
	}()
	enc := json.NewEncoder(conn)
	send := func(r Reply) error {
		_ = conn.SetWriteDeadline(time.Now().Add(s.Limits.Stall))
		return enc.Encode(r)
	}
	if send(Reply{}) != nil {
		return
	}
	if err := streamer.Stream(ctx, req, send); err != nil && ctx.Err() == nil {
		r := refusal(CodeInternal, "the stream has ended")
		r.Error.Details = err.Error()
		s.reply(conn, r)
	}
}

// Follow sends one request, and hands each Reply of the stream to each, until that gives an error or the stream ends:
// because ctx does, which is no error, or with one. A refusal by the agent is an *Error.
func (c *Conn) Follow(ctx context.Context, req Request, each func(Reply) error) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	reply, err := c.exchange(req)
	for {
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("%s on %s: %w", req.Verb, c.path, err)
		case reply.Error != nil:
			return reply.Error
		case len(reply.Status) > 0:
			if err := each(reply); err != nil {
				return err
			}
		}
		reply, err = c.receive()
	}
}
