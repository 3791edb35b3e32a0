// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/containernetworking/cni/pkg/skel"

	"korat/cni-plugin/podnet"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
)

// add attaches a container to the network.
func (p *Plugin) add(args *skel.CmdArgs) error {
	conf, pod, err := p.input(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), conf.Timeout)
	defer cancel()
	a := &attachment{
		conf:  conf,
		pod:   pod,
		id:    endpoint.ID{ContainerID: args.ContainerID, IfName: args.IfName},
		netNS: args.Netns,
		log:   p.logger(conf, args),
	}
	if err := a.attach(ctx); err != nil {
		return err
	}
	if _, err := p.Stdout.Write(a.result); err != nil {
		return a.takeBack(fmt.Errorf("print the result: %w", err))
	}
	return nil
}

// attachment is one ADD under way.
type attachment struct {
	conf  Config
	pod   Args
	id    endpoint.ID
	netNS string
	log   *slog.Logger

	// made is the host's side of the pair that this ADD made.
	made string
	// result is to be printed, once the agent has said that the pod's routes are in the kernel.
	result []byte
}

// attach holds the conversation with the agent. If the agent is killed in its middle, it is held again:
// the agent gives the same addresses, and the pair that was made stays.
func (a *attachment) attach(ctx context.Context) error {
	err := withAgent(ctx, a.conf.Socket, func(conn *socket.Conn) error {
		err := a.converse(ctx, conn)
		if err != nil && !errors.Is(err, socket.ErrBroken) {
			// Before the connection ends, at which the agent gives the address to others.
			err = a.undo(err)
		}
		return err
	})
	if err != nil {
		return a.undo(err)
	}
	return nil
}

func (a *attachment) converse(ctx context.Context, conn *socket.Conn) error {
	reply, err := conn.Call(ctx, a.request())
	if err != nil {
		return err
	}
	if reply.Endpoint == nil || reply.Endpoint.Interface == "" || len(reply.Endpoint.Addresses) == 0 {
		return errors.New("the agent's answer lacks interface or addresses: are plugin and agent of the same version?")
	}
	ep := *reply.Endpoint
	a.log.Debug("addresses given", "addresses", ep.Addresses, "host_interface", ep.Interface)
	pair := pairOf(ep, a.netNS, a.conf.Forwarding)
	pair.MAC = a.conf.Asked.MAC
	made, err := podnet.Create(pair)
	if err != nil {
		return err
	}
	if made.New {
		a.made = ep.Interface
	}
	a.log.Debug("interface made", "new", made.New, "mac", made.MAC)
	ep.MAC = made.MAC
	ep.NetNS = a.netNS
	// A result that cannot be made must be known before the agent finishes the attachment.
	if a.result, err = encodeResult(a.conf, ep); err != nil {
		return err
	}
	if _, err := conn.Call(ctx, socket.Request{Verb: socket.VerbReady, ID: a.id, MAC: made.MAC}); err != nil {
		return err
	}
	a.log.Debug("routes in the kernel")
	return nil
}

func (a *attachment) request() socket.Request {
	return socket.Request{
		Verb:      socket.VerbAdd,
		ID:        a.id,
		Network:   a.conf.Network,
		NetNS:     a.netNS,
		Namespace: a.pod.Namespace,
		Pod:       a.pod.Pod,
		NodeName:  a.conf.NodeName,
		MTU:       a.conf.MTU,
		Wish: socket.Wish{
			Families:  a.conf.IPAM.asked(),
			Addresses: merge(a.pod.Addresses, a.conf.Asked.Addresses),
		},
		Traits: a.conf.Asked.Traits,
	}
}

// undo removes the pair that this ADD made, and returns the error that it is done for.
func (a *attachment) undo(cause error) error {
	if a.made == "" {
		return cause
	}
	if err := podnet.Delete(a.id, a.netNS, a.made); err != nil {
		return errors.Join(cause, fmt.Errorf("undo: %w", err))
	}
	a.made = ""
	return cause
}

// takeBack undoes a finished attachment whose result does not reach the runtime. One that was there
// before this ADD stays, as whenever a repeated ADD fails.
func (a *attachment) takeBack(cause error) error {
	failed := &socket.Error{Code: socket.CodeIOFailure, Message: cause.Error()}
	if a.made == "" {
		return failed
	}
	if err := a.undo(nil); err != nil {
		failed.Details = err.Error()
		return failed
	}
	if err := forget(a.conf, a.id, a.log); err != nil {
		failed.Details = "undo: " + err.Error()
	}
	return failed
}

// pairOf gives the pair that an endpoint wants.
func pairOf(ep endpoint.Endpoint, netNS string, forwarding bool) podnet.Pair {
	return podnet.Pair{
		ID:         ep.ID,
		Namespace:  ep.Namespace,
		Pod:        ep.Pod,
		NetNS:      netNS,
		Interface:  ep.Interface,
		MTU:        ep.MTU,
		Addresses:  ep.Addresses,
		Forwarding: forwarding,
	}
}
