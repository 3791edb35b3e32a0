// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"time"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
	"korat/felix/kernel"
	"korat/ipam"
)

// maxWait is how long an ADD may wait inside the agent for a block or for the datastore. It is
// shorter than the plugin's own patience, so that the plugin hears the reason.
const maxWait = 8 * time.Second

// Handle implements socket.Handler: it passes the request to the loop and waits for the answer.
func (a *Agent) Handle(ctx context.Context, r socket.Request) socket.Reply {
	if r.Verb == socket.VerbNodeStatus {
		return socket.Reply{Status: a.report.statusJSON()}
	}
	if r.Verb == socket.VerbLocate {
		return a.locate(ctx, r.Question)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // the loop does nothing for those who have gone
	reply := make(chan socket.Reply, 1)
	c, calls := call{ctx: ctx, req: r, since: time.Now(), reply: reply}, a.calls
	patience := time.NewTimer(maxWait)
	defer patience.Stop()
	for {
		select {
		case calls <- c:
			calls = nil
		case answer := <-reply:
			return answer
		case <-ctx.Done():
			return tryAgain("request abandoned", ctx.Err().Error())
		case <-patience.C:
			// The loop answers after maxWait, unless it is held up.
			if what := a.report.busy(heldUp); what != "" {
				answer := tryAgain("agent held up", what)
				answer.Unsure = calls == nil
				return answer
			}
			patience.Reset(heldUp / 10)
		}
	}
}

// heldUp is how long a step may take before who waits is told of it.
const heldUp = time.Second

// Abort implements socket.Handler: the plugin went away in the middle of an attachment.
func (a *Agent) Abort(ctx context.Context, id endpoint.ID, unsure bool) {
	select {
	case a.calls <- call{ctx: ctx, req: socket.Request{ID: id}, abort: true, unsure: unsure, reply: make(chan socket.Reply, 1)}:
	case <-ctx.Done():
	}
}

func tryAgain(msg, details string) socket.Reply {
	return socket.Reply{Error: &socket.Error{Code: socket.CodeTryAgainLater, Message: msg, Details: details}}
}

// programmed is a call to be answered when the kernel holds what it asked for.
type programmed struct {
	call
	reply socket.Reply
}

// serve carries out the queued calls as far as the record goes; those that wait for the kernel are
// returned, those that wait for an address stay queued.
func (a *Agent) serve() []programmed {
	queue := a.queue
	a.queue = nil
	var after []programmed
	for _, c := range queue {
		switch {
		case c.abort:
			a.abort(c)
		case c.ctx.Err() != nil: // nobody listens any more
		case c.req.Verb == socket.VerbAdd:
			a.serveAdd(c)
		case c.req.Verb == socket.VerbReady || c.req.Verb == socket.VerbCheck:
			ep, err := a.finished(c.req)
			if err != nil {
				c.fail(err)
				continue
			}
			after = append(after, programmed{c, socket.Reply{Endpoint: &ep}})
		case c.req.Verb == socket.VerbDel:
			if err := a.at.remove(c.req.ID); err != nil {
				c.fail(err)
				continue
			}
			after = append(after, programmed{call: c})
		default:
			c.answer(a.lookUp(c.req))
		}
	}
	a.doubt(after)
	return after
}

// doubt puts in doubt what is remembered of the interfaces that plugins say they have made: one may have
// taken the place of another of the same name, and the kernel's notice of that be still under way.
func (a *Agent) doubt(after []programmed) {
	made := map[string]bool{}
	for _, p := range after {
		if p.req.Verb == socket.VerbReady {
			made[p.reply.Endpoint.Interface] = true
		}
	}
	if len(made) > 0 {
		invalidate(a.steps, kernel.Notice{Links: made})
	}
}

// abort undoes an attachment that was new in a conversation which broke. It may be Ready here: then the
// plugin has not heard so, and has removed the pair or will. But if nobody knows what became of the ADD, one
// that is Ready was so before.
func (a *Agent) abort(c call) {
	if ep, known := a.at.find(c.req.ID); known && (!c.unsure || !ep.Ready) {
		a.Log.Info("attachment abandoned by the plugin", "endpoint", c.req.ID.String())
		if err := a.at.remove(c.req.ID); err != nil {
			a.Log.Error("undo attachment", "endpoint", c.req.ID.String(), "error", err)
		}
	}
}

func (a *Agent) serveAdd(c call) {
	if name := c.req.NodeName; name != "" && name != a.Node {
		c.fail(&socket.Error{
			Code: socket.CodeInvalidConfig, Message: "nodename",
			Details: fmt.Sprintf("the network configuration says %q, but this node is %q: remove nodename or make them equal", name, a.Node),
		})
		return
	}
	if a.world.selfErr != nil {
		c.answer(tryAgain("node has no usable address", a.world.selfErr.Error()))
		return
	}
	if _, known := a.at.find(c.req.ID); !known {
		if err := servable(c.req, a.world.own()); err != nil {
			c.fail(err)
			return
		}
	}
	ep, err := a.at.add(c.req, a.uplinkMTU())
	switch {
	case err == nil:
		c.answer(socket.Reply{Endpoint: &ep})
	case errors.Is(err, ipam.ErrNeedBlock), withoutAddress(err) && len(a.poolsToCome()) > 0:
		c.lastErr = err
		a.wait(c)
	case withoutAddress(err):
		c.fail(&socket.Error{Code: socket.CodeNoAddress, Message: "no address", Details: err.Error()})
	default:
		c.fail(err)
	}
}

// withoutAddress says that no pool, as they are, has an address for a request.
func withoutAddress(err error) bool {
	return errors.Is(err, ipam.ErrNoAddress) || errors.Is(err, ipam.ErrPool)
}

// uplinkMTU is the interface MTU that pods get: the uplink's, as nothing is encapsulated. Where each family has an
// uplink of its own it is the smaller of theirs.
func (a *Agent) uplinkMTU() int {
	mtu := 0
	for _, f := range api.Families() {
		link, exists := a.world.host.Links[a.world.self.of(f).Interface]
		if exists && (mtu == 0 || link.MTU < mtu) {
			mtu = link.MTU
		}
	}
	return mtu
}

// wait keeps a call for a later pass, or gives up on it with the reason.
func (a *Agent) wait(c call) {
	if left := maxWait - time.Since(c.since); left <= 0 {
		reason := c.lastErr
		if err := a.Keeper.Status().Err; err != nil {
			reason = err
		}
		c.answer(tryAgain("no address block yet", reason.Error()))
		return
	}
	a.queue = append(a.queue, c)
	a.soon()
}

// soon makes sure that a pass comes within a second, for the calls that wait.
func (a *Agent) soon() {
	if a.retry == nil {
		a.retry = time.After(time.Second)
	}
}

// expireCalls handles the queue before the first Snapshot: nothing can be given out yet, but
// removals need no datastore.
func (a *Agent) expireCalls() {
	queue := a.queue
	a.queue = nil
	for _, c := range queue {
		switch {
		case c.abort:
			a.abort(c)
		case c.ctx.Err() != nil:
		case c.req.Verb == socket.VerbDel:
			if err := a.at.remove(c.req.ID); err != nil {
				c.fail(err)
				continue
			}
			c.answer(socket.Reply{})
		case c.req.Verb == socket.VerbGC:
			c.answer(a.lookUp(c.req))
		case c.req.Verb == socket.VerbStatus || c.req.Verb == socket.VerbCheck || time.Since(c.since) > maxWait:
			c.answer(tryAgain("agent not ready", a.waiting()))
		default:
			a.queue = append(a.queue, c)
			a.soon()
		}
	}
}

// lookUp answers what needs no change.
func (a *Agent) lookUp(r socket.Request) socket.Reply {
	switch r.Verb {
	case socket.VerbStatus:
		return a.canAdd()
	case socket.VerbGC:
		return socket.Reply{Stale: a.at.stale(r.Network, r.Valid)}
	default:
		return socket.Reply{Error: &socket.Error{Code: socket.CodeInternal, Message: "unknown verb", Details: string(r.Verb)}}
	}
}
