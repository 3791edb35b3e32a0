// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
	"korat/ipam"
)

// Journal keeps the CNI record over a restart of the agent.
type Journal interface {
	Put(key string, ep endpoint.Endpoint) error
	Delete(key string) error
	All() map[string]endpoint.Endpoint
}

// attachments is the CNI record with the addresses that belong to it. The loop owns it.
type attachments struct {
	node      string
	endpoints map[endpoint.ID]endpoint.Endpoint
	journal   Journal
	alloc     *ipam.Allocator
	now       func() time.Time
	log       *slog.Logger
	// changed is set by every change of endpoints and cleared by the loop.
	changed bool
	// unfinished are restored attachments whose plugin had not said Ready: it may come back and go on,
	// until the deadline.
	unfinished map[endpoint.ID]struct{}
	deadline   time.Time
}

// comeback is how long after the agent's start a plugin may go on with an attachment that it had begun
// before. Plugins give up earlier.
const comeback = time.Minute

// restore takes over what an earlier run recorded.
func (at *attachments) restore() {
	for _, ep := range at.journal.All() {
		at.endpoints[ep.ID] = ep
		at.alloc.Restore(ep.Handle(), at.owner(ep), ep.Addresses)
		if !ep.Ready {
			at.unfinished[ep.ID] = struct{}{}
		}
	}
	at.deadline = at.now().Add(comeback)
	at.changed = true
}

// settle removes what no plugin came back for.
func (at *attachments) settle() {
	if len(at.unfinished) == 0 || at.now().Before(at.deadline) {
		return
	}
	for id := range at.unfinished {
		at.log.Info("attachment abandoned before the agent's start", "endpoint", id.String())
		if err := at.remove(id); err != nil {
			at.log.Error("undo attachment", "endpoint", id.String(), "error", err)
		}
	}
	clear(at.unfinished)
}

func (at *attachments) owner(ep endpoint.Endpoint) map[string]string {
	return map[string]string{
		"namespace": ep.Namespace, "pod": ep.Pod, "node": at.node,
		"timestamp": ep.Since.UTC().Format(time.RFC3339),
	}
}

// add gives the attachment its addresses and host interface, and records it. A known attachment
// gets what it has: ADD may be repeated.
func (at *attachments) add(r socket.Request, mtu int) (endpoint.Endpoint, error) {
	if ep, known := at.endpoints[r.ID]; known {
		delete(at.unfinished, r.ID)
		return ep, at.sameRequest(ep, r)
	}
	ep := endpoint.Endpoint{
		ID: r.ID, Network: r.Network, Namespace: r.Namespace, Pod: r.Pod, NetNS: r.NetNS,
		Interface: endpoint.HostInterface(r.Namespace, r.Pod, r.IfName), MTU: r.MTU, Since: at.now(),
	}
	if ep.MTU == 0 {
		ep.MTU = mtu
	}
	if err := at.displace(ep); err != nil {
		return ep, err
	}
	addrs, err := at.alloc.Assign(ipam.Request{Handle: ep.Handle(), Attrs: at.owner(ep), Pools: r.Pools, Addresses: r.Addresses})
	if err != nil {
		return ep, err
	}
	ep.Addresses = addrs
	if err := at.journal.Put(ep.ID.String(), ep); err != nil {
		at.alloc.Release(ep.Handle())
		return ep, fmt.Errorf("record attachment %s: %w", ep.ID, err)
	}
	at.endpoints[ep.ID] = ep
	at.changed = true
	return ep, nil
}

// sameRequest refuses an ADD that repeats a known attachment with other wishes.
func (at *attachments) sameRequest(ep endpoint.Endpoint, r socket.Request) error {
	if ep.Namespace != r.Namespace || ep.Pod != r.Pod || ep.Network != r.Network {
		return &socket.Error{
			Code: socket.CodeInvalidConfig, Message: "attachment exists",
			Details: fmt.Sprintf("%s is attached to network %s as %s/%s: DEL it first", ep.ID, ep.Network, ep.Namespace, ep.Pod),
		}
	}
	for _, want := range r.Addresses {
		if !slices.Contains(ep.Addresses, want) {
			return &socket.Error{
				Code: socket.CodeNoAddress, Message: "attachment exists",
				Details: fmt.Sprintf("%s has %v, not %s: DEL it first", ep.ID, ep.Addresses, want),
			}
		}
	}
	return nil
}

// displace removes an older attachment of the same pod. A runtime makes a pod's new sandbox before
// it has removed the old one; the plugin has then taken the old one's interface away already.
func (at *attachments) displace(ep endpoint.Endpoint) error {
	for id, old := range at.endpoints {
		if old.Interface != ep.Interface {
			continue
		}
		if old.Namespace != ep.Namespace || old.Pod != ep.Pod || old.IfName != ep.IfName {
			return fmt.Errorf("interface name %s of %s/%s collides with that of %s/%s", ep.Interface, ep.Namespace, ep.Pod, old.Namespace, old.Pod)
		}
		at.log.Info("attachment displaced", "endpoint", id.String(), "by", ep.ID.String(), "pod", ep.Namespace+"/"+ep.Pod)
		if err := at.remove(id); err != nil {
			return err
		}
	}
	return nil
}

// ready notes that the pair exists.
func (at *attachments) ready(r socket.Request) (endpoint.Endpoint, error) {
	ep, known := at.endpoints[r.ID]
	if !known {
		return ep, &socket.Error{
			Code: socket.CodeTryAgainLater, Message: "attachment unknown",
			Details: r.ID.String() + " was removed meanwhile",
		}
	}
	if ep.Ready && ep.MAC == r.MAC {
		return ep, nil
	}
	ep.Ready, ep.MAC = true, r.MAC
	if err := at.journal.Put(ep.ID.String(), ep); err != nil {
		return ep, fmt.Errorf("record attachment %s: %w", ep.ID, err)
	}
	at.endpoints[ep.ID] = ep
	at.changed = true
	return ep, nil
}

// remove forgets an attachment and frees its addresses. Removing the absent is success.
func (at *attachments) remove(id endpoint.ID) error {
	ep, known := at.endpoints[id]
	if !known {
		return nil
	}
	if err := at.journal.Delete(id.String()); err != nil {
		return fmt.Errorf("remove attachment %s from the record: %w", id, err)
	}
	delete(at.endpoints, id)
	delete(at.unfinished, id)
	at.alloc.Release(ep.Handle())
	at.changed = true
	return nil
}

// call is one request on its way through the loop.
type call struct {
	ctx   context.Context
	req   socket.Request
	abort bool
	// since is when the loop first saw it; lastErr why it is still waiting.
	since   time.Time
	lastErr error
	reply   chan<- socket.Reply
}

// answer never blocks: the channel has room for the one reply.
func (c call) answer(r socket.Reply) { c.reply <- r }

// fail answers with err, which is a *socket.Error where the code matters.
func (c call) fail(err error) {
	var coded *socket.Error
	if !errors.As(err, &coded) {
		coded = &socket.Error{Code: socket.CodeInternal, Message: "korat agent", Details: err.Error()}
	}
	c.answer(socket.Reply{Error: coded})
}
