// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/reconcile"
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
	reply := make(chan socket.Reply, 1)
	select {
	case a.calls <- call{ctx: ctx, req: r, since: time.Now(), reply: reply}:
	case <-ctx.Done():
		return tryAgain("agent busy", "the request was not taken before the caller's patience ended")
	}
	select {
	case answer := <-reply:
		return answer
	case <-ctx.Done():
		return tryAgain("request abandoned", ctx.Err().Error())
	}
}

// Abort implements socket.Handler: the plugin went away in the middle of an attachment.
func (a *Agent) Abort(ctx context.Context, id endpoint.ID) {
	select {
	case a.calls <- call{ctx: ctx, req: socket.Request{ID: id}, abort: true, reply: make(chan socket.Reply, 1)}:
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
	return after
}

// abort undoes an attachment that was new in a conversation which broke. It may be Ready here: then the
// plugin has not heard so, and has removed the pair or will.
func (a *Agent) abort(c call) {
	if _, known := a.at.find(c.req.ID); known {
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
	ep, err := a.at.add(c.req, a.uplinkMTU())
	switch {
	case err == nil:
		c.answer(socket.Reply{Endpoint: &ep})
	case errors.Is(err, ipam.ErrNeedBlock):
		c.lastErr = err
		a.wait(c)
	case errors.Is(err, ipam.ErrNoAddress), errors.Is(err, ipam.ErrPool):
		c.fail(&socket.Error{Code: socket.CodeNoAddress, Message: "no address", Details: err.Error()})
	default:
		c.fail(err)
	}
}

// uplinkMTU is the interface MTU that pods get: the uplink's, as nothing is encapsulated.
func (a *Agent) uplinkMTU() int { return a.world.host.Links[a.world.self.Interface].MTU }

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
			c.answer(tryAgain("datastore not in sync", a.datastoreTrouble()))
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

// answer replies to the calls that waited for the kernel. After a failed pass those whose own entries
// are in the kernel are answered all the same: one bad route must not hold up other pods.
func (a *Agent) answer(after []programmed, err error) {
	for _, p := range after {
		switch broken := failure(p.reply.Endpoint, err); {
		case broken == nil:
			p.call.answer(p.reply)
		case p.req.Verb == socket.VerbCheck || time.Since(p.since) > maxWait:
			p.call.answer(tryAgain("pod is not in the kernel", broken.Error()))
		default:
			a.queue = append(a.queue, p.call)
		}
	}
}

// failure picks from a pass's error what concerns an endpoint: the failed entries of its own, or a
// failure of a whole table. A nil endpoint is concerned by nothing.
func failure(ep *endpoint.Endpoint, err error) error {
	if ep == nil || err == nil {
		return nil
	}
	var all []error
	for _, step := range unjoin(err) {
		all = append(all, concerning(ep, step)...)
	}
	return errors.Join(all...)
}

// concerning gives the part of one step's error that concerns an endpoint.
func concerning(ep *endpoint.Endpoint, step error) []error {
	var routes *reconcile.WriteError[dataplane.RouteKey]
	var neighbours *reconcile.WriteError[dataplane.NeighbourKey]
	var named *reconcile.WriteError[string]
	var all []error
	switch {
	case errors.As(step, &routes):
		for _, addr := range ep.Addresses {
			all = append(all, routes.Failed[dataplane.RouteKey{Prefix: netip.PrefixFrom(addr, addr.BitLen())}])
		}
	case errors.As(step, &neighbours):
		for _, addr := range ep.Addresses {
			all = append(all, neighbours.Failed[dataplane.NeighbourKey{Device: ep.Interface, Address: addr}])
		}
	case errors.As(step, &named):
		all = ofInterface(ep.Interface, named.Failed)
	default:
		all = []error{step}
	}
	return all
}

// ofInterface picks the errors of links and sysctls that are the interface's.
func ofInterface(name string, failed map[string]error) []error {
	var all []error
	for key, err := range failed {
		if key == name || strings.Contains(key, "/"+name+"/") {
			all = append(all, err)
		}
	}
	return all
}

func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// workloadEndpoints are the record as the datastore shows it.
func workloadEndpoints(node string, eps map[endpoint.ID]endpoint.Endpoint) []*api.WorkloadEndpoint {
	var all []*api.WorkloadEndpoint
	for _, ep := range eps {
		// The datastore would refuse a shortened name; under its whole one the pod may be there still.
		if !ep.Ready || ep.Alias().Shortened() {
			continue
		}
		orchestrator := "k8s"
		if ep.Pod == ep.ContainerID {
			orchestrator = "cni"
		}
		wep := &api.WorkloadEndpoint{}
		wep.Namespace = ep.Namespace
		wep.Name = api.WorkloadEndpointName(node, orchestrator, ep.Pod, ep.IfName)
		wep.Spec = api.WorkloadEndpointSpec{
			Orchestrator: orchestrator, Workload: ep.Pod, Node: node, ContainerID: ep.ContainerID, Pod: ep.Pod,
			Endpoint: ep.IfName, InterfaceName: ep.Interface, MAC: ep.MAC,
		}
		for _, addr := range ep.Addresses {
			prefix, err := addr.Prefix(addr.BitLen())
			if err == nil {
				wep.Spec.IPNetworks = append(wep.Spec.IPNetworks, prefix.String())
			}
		}
		api.Default(wep)
		all = append(all, wep)
	}
	return all
}
