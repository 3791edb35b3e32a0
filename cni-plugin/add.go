// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

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
	ep, err := a.attach(ctx)
	if err != nil {
		return err
	}
	return p.printResult(conf, ep)
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
}

// attach holds the conversation with the agent. If the agent is killed in its middle, it is held again:
// the agent gives the same addresses, and the pair that was made stays.
func (a *attachment) attach(ctx context.Context) (endpoint.Endpoint, error) {
	var ep endpoint.Endpoint
	err := withAgent(ctx, a.conf.Socket, func(conn *socket.Conn) error {
		var err error
		ep, err = a.converse(ctx, conn)
		if err != nil && !errors.Is(err, socket.ErrBroken) {
			// Before the connection ends, at which the agent gives the address to others.
			err = a.undo(err)
		}
		return err
	})
	if err != nil {
		return endpoint.Endpoint{}, a.undo(err)
	}
	return ep, nil
}

func (a *attachment) converse(ctx context.Context, conn *socket.Conn) (endpoint.Endpoint, error) {
	reply, err := conn.Call(ctx, a.request())
	if err != nil {
		return endpoint.Endpoint{}, err
	}
	if reply.Endpoint == nil || reply.Endpoint.Interface == "" || len(reply.Endpoint.Addresses) == 0 {
		return endpoint.Endpoint{}, errors.New("the agent's answer lacks interface or addresses: are plugin and agent of the same version?")
	}
	ep := *reply.Endpoint
	a.log.Debug("addresses given", "addresses", ep.Addresses, "host_interface", ep.Interface)
	made, err := podnet.Create(pairOf(ep, a.netNS, a.conf.Forwarding))
	if err != nil {
		return endpoint.Endpoint{}, err
	}
	if made.New {
		a.made = ep.Interface
	}
	a.log.Debug("interface made", "new", made.New, "mac", made.MAC)
	if _, err := conn.Call(ctx, socket.Request{Verb: socket.VerbReady, ID: a.id, MAC: made.MAC}); err != nil {
		return endpoint.Endpoint{}, err
	}
	ep.MAC = made.MAC
	ep.NetNS = a.netNS
	a.log.Debug("routes in the kernel")
	return ep, nil
}

func (a *attachment) request() socket.Request {
	req := socket.Request{
		Verb:      socket.VerbAdd,
		ID:        a.id,
		Network:   a.conf.Network,
		NetNS:     a.netNS,
		Namespace: a.pod.Namespace,
		Pod:       a.pod.Pod,
		NodeName:  a.conf.NodeName,
		MTU:       a.conf.MTU,
		Pools:     a.conf.Pools,
	}
	if a.pod.Address.IsValid() {
		req.Addresses = []netip.Addr{a.pod.Address}
	}
	return req
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
