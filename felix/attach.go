// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"korat/cni-plugin/socket"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/ipam"
)

// Journal keeps the CNI record over a restart of the agent.
type Journal interface {
	Put(key string, ep endpoint.Endpoint) error
	Delete(key string) error
	All() map[string]endpoint.Endpoint
	// Err is why it can't be written as it ought to be.
	Err() error
}

// attachments is the CNI record with the addresses that belong to it. The loop owns it.
type attachments struct {
	node      string
	endpoints map[endpoint.ID]endpoint.Endpoint
	journal   Journal
	alloc     *ipam.Allocator
	now       func() time.Time
	log       *slog.Logger
	// changed is set by every change of endpoints, and remade by every change of those that are Ready; the loop clears them.
	changed, remade bool
	unfinished      unfinished
	// recovered are attachments of which only the kernel told; see learn.
	recovered map[endpoint.ID]struct{}
	// evidence of pods in the kernel when the agent started.
	evidence evidence
	// guarded are those of endpoints whose policy has been in the kernel.
	guarded map[endpoint.ID]bool
}

// unfinished are restored attachments whose plugin had not said Ready: it may come back and go on, until the deadline.
type unfinished struct {
	all      map[endpoint.ID]struct{}
	deadline time.Time
}

// comeback is how long after the agent's start a plugin may go on with an attachment that it had begun
// before. Plugins give up earlier.
const comeback = time.Minute

// restore takes over what an earlier run recorded.
func (at *attachments) restore() {
	for _, ep := range at.journal.All() {
		at.endpoints[ep.ID] = ep
		if incomplete(ep) {
			at.recovered[ep.ID] = struct{}{}
		} else {
			at.hold(ep)
		}
		if !ep.Ready {
			at.unfinished.all[ep.ID] = struct{}{}
		}
	}
	at.unfinished.deadline = at.now().Add(comeback)
	at.changed, at.remade = true, true
}

// settle removes what no plugin came back for. What has its interface is finished all the same: the
// word that it was Ready has been lost.
func (at *attachments) settle(host dataplane.Host) {
	if len(at.unfinished.all) == 0 || at.now().Before(at.unfinished.deadline) {
		return
	}
	for id := range at.unfinished.all {
		ep := at.endpoints[id]
		var err error
		if alias, none := endpoint.ParseAlias(host.Links[ep.Interface].Alias); none == nil && alias.Is(id) {
			ep.Ready = true
			err = at.put(ep)
		} else {
			at.log.Info("attachment abandoned before the agent's start", "endpoint", id.String())
			err = at.remove(id)
		}
		if err != nil {
			at.log.Error("settle attachment", "endpoint", id.String(), "error", err)
		}
	}
	clear(at.unfinished.all)
}

// hold makes the attachment's addresses its own.
func (at *attachments) hold(ep endpoint.Endpoint) {
	at.alloc.Restore(ep.Handle(), at.owner(ep), ep.Addresses)
}

func (at *attachments) owner(ep endpoint.Endpoint) map[string]string {
	return map[string]string{
		"namespace": ep.Namespace, "pod": ep.Pod, "node": at.node,
		"timestamp": ep.Since.UTC().Format(time.RFC3339),
	}
}

// find gives the record of an attachment, which may be one with shortened names.
func (at *attachments) find(id endpoint.ID) (endpoint.Endpoint, bool) {
	if ep, known := at.endpoints[id]; known {
		return ep, true
	}
	for _, ep := range at.endpoints {
		if ep.Alias().Is(id) {
			return ep, true
		}
	}
	return endpoint.Endpoint{}, false
}

// add gives the attachment its addresses and host interface, and records it. A known attachment
// gets what it has: ADD may be repeated.
func (at *attachments) add(r socket.Request, mtu int) (endpoint.Endpoint, error) {
	if ep, known := at.find(r.ID); known {
		return at.repeat(ep, r)
	}
	ep := endpoint.Endpoint{
		ID: r.ID, Network: r.Network, Namespace: r.Namespace, Pod: r.Pod, NetNS: r.NetNS,
		Interface: endpoint.HostInterface(r.Namespace, r.Pod, r.IfName), MTU: r.MTU, Since: at.now(),
		Traits: r.Traits,
	}
	if ep.MTU == 0 {
		ep.MTU = mtu
	}
	var err error
	if ep.Addresses, err = at.assign(ep, r); err != nil {
		return ep, err
	}
	if err := at.put(ep); err != nil {
		at.alloc.Release(ep.Handle())
		return ep, err
	}
	if err := at.displace(ep); err != nil {
		return ep, errors.Join(err, at.remove(ep.ID))
	}
	return ep, nil
}

// assign gets addresses for a new attachment. Its predecessor keeps its own until the new one has some,
// unless it is just those that are asked for.
func (at *attachments) assign(ep endpoint.Endpoint, r socket.Request) ([]netip.Addr, error) {
	want, err := wanted(ep, r)
	if err != nil {
		return nil, err
	}
	want.Attrs = at.owner(ep)
	old, exists := at.predecessor(ep)
	if exists && (!old.Alias().Of(ep.Namespace, ep.Pod) || old.IfName != ep.IfName) {
		return nil, fmt.Errorf("interface name %s of %s/%s collides with that of %s/%s", ep.Interface, ep.Namespace, ep.Pod, old.Namespace, old.Pod)
	}
	addrs, err := at.alloc.Assign(want)
	var taken *ipam.TakenError
	if !exists || !errors.As(err, &taken) || taken.Handle != old.Handle() {
		return addrs, err
	}
	if err := at.displace(ep); err != nil {
		return nil, err
	}
	return at.alloc.Assign(want)
}

// repeat answers a repeated ADD from the record. The names in the request are whole, whatever the
// record's are.
func (at *attachments) repeat(ep endpoint.Endpoint, r socket.Request) (endpoint.Endpoint, error) {
	if err := sameRequest(ep, r); err != nil {
		return ep, err
	}
	delete(at.unfinished.all, ep.ID)
	if !incomplete(ep) {
		return ep, nil
	}
	whole := ep
	whole.ID, whole.Network, whole.Namespace, whole.Pod, whole.NetNS = r.ID, r.Network, r.Namespace, r.Pod, r.NetNS
	whole.Traits = r.Traits
	err := at.amend(ep, whole)
	if err == nil {
		delete(at.recovered, ep.ID)
	}
	return whole, err
}

// predecessor gives another attachment with the same host interface: that of the pod's old sandbox. A
// runtime makes a pod's new sandbox before it has removed the old one; the plugin then takes the old
// one's interface away.
func (at *attachments) predecessor(ep endpoint.Endpoint) (endpoint.Endpoint, bool) {
	for id, old := range at.endpoints {
		if old.Interface == ep.Interface && id != ep.ID {
			return old, true
		}
	}
	return endpoint.Endpoint{}, false
}

// displace removes the predecessor.
func (at *attachments) displace(ep endpoint.Endpoint) error {
	for {
		old, exists := at.predecessor(ep)
		if !exists {
			return nil
		}
		at.log.Info("attachment displaced", "endpoint", old.ID.String(), "by", ep.ID.String(), "pod", ep.Namespace+"/"+ep.Pod)
		if err := at.remove(old.ID); err != nil {
			return err
		}
	}
}

// ready notes that the pair exists. After a crash in the middle of its ADD the predecessor may still
// be there.
func (at *attachments) ready(r socket.Request) (endpoint.Endpoint, error) {
	ep, known := at.find(r.ID)
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
	if err := at.displace(ep); err != nil {
		return ep, err
	}
	return ep, at.put(ep)
}

// put records an attachment, new or changed.
func (at *attachments) put(ep endpoint.Endpoint) error {
	if err := at.journal.Put(ep.ID.String(), ep); err != nil {
		return fmt.Errorf("record attachment %s: %w", ep.ID, err)
	}
	at.changed, at.remade = true, at.remade || ep.Ready || at.endpoints[ep.ID].Ready
	at.endpoints[ep.ID] = ep
	return nil
}

// remove forgets an attachment and frees its addresses. Removing the absent is success.
func (at *attachments) remove(id endpoint.ID) error {
	ep, known := at.find(id)
	if !known {
		return nil
	}
	if err := at.forget(ep.ID); err != nil {
		return err
	}
	at.alloc.Release(ep.Handle())
	return nil
}

// forget removes the record alone.
func (at *attachments) forget(id endpoint.ID) error {
	if err := at.journal.Delete(id.String()); err != nil {
		return fmt.Errorf("remove attachment %s from the record: %w", id, err)
	}
	at.changed, at.remade = true, at.remade || at.endpoints[id].Ready
	delete(at.endpoints, id)
	delete(at.unfinished.all, id)
	delete(at.recovered, id)
	delete(at.guarded, id)
	return nil
}

// call is one request on its way through the loop, or an inquiry.
type call struct {
	// inquiry is what is to be found out; then nothing else counts.
	inquiry func()

	ctx context.Context
	req socket.Request
	// abort asks to undo the attachment; unsure as in socket.Handler's Abort.
	abort, unsure bool
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
