// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"fmt"
	"net"
	"sync"

	"korat/felix/endpoint"
)

// talk is one connection's conversation, and what it has to undo.
type talk struct {
	server  *Server
	handler Handler
	conn    net.Conn
	// stopping is closed when the server stops.
	stopping <-chan struct{}

	// id is the attachment that the conversation is about, once it holds it.
	id   endpoint.ID
	held bool
	// unfinished is set from an Add to the good answer to its Ready, or to an answer after which there is
	// nothing to undo; unsure while there has been no answer.
	unfinished, unsure bool
}

// turn answers one request and says whether the conversation goes on.
func (t *talk) turn(ctx context.Context, req Request) bool {
	if refused := t.hold(ctx, req); refused != nil {
		t.server.reply(t.conn, *refused)
		return false
	}
	if req.Verb == VerbAdd {
		t.unfinished, t.unsure = true, true
	}
	reply := t.handler.Handle(ctx, req)
	if reply.Error != nil && t.stopped() {
		return false // no verdict: without an answer the peer asks the next agent
	}
	if req.Verb == VerbAdd && !reply.Unsure && (reply.Error == nil || ctx.Err() == nil) {
		t.unsure = false
		t.unfinished = reply.Error == nil && reply.Endpoint != nil && !reply.Endpoint.Ready
	}
	if !t.server.reply(t.conn, reply) {
		return false
	}
	if (req.Verb == VerbReady || req.Verb == VerbDel) && reply.Error == nil {
		t.unfinished = false
	}
	return true
}

func (t *talk) stopped() bool {
	select {
	case <-t.stopping:
		return true
	default:
		return false
	}
}

// hold makes the conversation the only one about its attachment: an Add that a runtime repeats, or the
// Del that it sends after killing a slow plugin, waits until the earlier one is over and undone.
func (t *talk) hold(ctx context.Context, req Request) *Reply {
	switch req.Verb {
	case VerbAdd, VerbReady, VerbDel:
	default:
		return nil
	}
	if t.held && t.id != req.ID {
		r := refusal(CodeInternal, fmt.Sprintf("%s of %s in a conversation about %s: use a connection for each", req.Verb, req.ID, t.id))
		return &r
	}
	if !t.held && !t.server.talks.begin(ctx, req.ID) {
		r := refusal(CodeTryAgainLater, fmt.Sprintf("%s is busy with another request", req.ID))
		return &r
	}
	if t.held {
		return nil
	}
	t.id, t.held = req.ID, true
	if err := t.server.settle(ctx, t.handler, req.ID); err != nil {
		r := refusal(CodeTryAgainLater, "an earlier DEL could not be carried out")
		r.Error.Details = err.Error()
		return &r
	}
	return nil
}

// end undoes what was not finished and lets the next conversation about the attachment begin. ctx is
// the server's.
func (t *talk) end(ctx context.Context) {
	if t.unfinished && ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(ctx, t.server.Limits.Abort)
		t.handler.Abort(ctx, t.id, t.unsure)
		cancel()
	}
	if t.held {
		t.server.talks.end(t.id)
	}
}

// talks knows which attachments have a conversation.
type talks struct {
	mu   sync.Mutex
	open map[endpoint.ID]chan struct{}
}

// begin waits for an earlier conversation about id to end. It gives up when ctx does.
func (t *talks) begin(ctx context.Context, id endpoint.ID) bool {
	for {
		t.mu.Lock()
		earlier, busy := t.open[id]
		if !busy {
			t.open[id] = make(chan struct{})
		}
		t.mu.Unlock()
		if !busy {
			return true
		}
		select {
		case <-earlier:
		case <-ctx.Done():
			return false
		}
	}
}

func (t *talks) end(id endpoint.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.open[id])
	delete(t.open, id)
}
