// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"korat/cni-plugin/podnet"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
)

// check compares what ADD returned, what the agent knows and what the kernel has.
func (p *Plugin) check(args *skel.CmdArgs) error {
	conf, _, err := p.input(args)
	if err != nil {
		return err
	}
	if conf.PrevResult == nil {
		return types.NewError(socket.CodeInvalidConfig, "network configuration "+quote(conf.Network)+": prevResult: it is missing: CHECK needs ADD's result", "")
	}
	result, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return types.NewError(socket.CodeDecodingFailure, "prevResult: "+err.Error(), "")
	}
	ctx, cancel := context.WithTimeout(context.Background(), conf.Timeout)
	defer cancel()
	id := endpoint.ID{ContainerID: args.ContainerID, IfName: args.IfName}
	ep, err := askCheck(ctx, conf.Socket, id)
	if err != nil {
		return err
	}
	pair := pairOf(ep, args.Netns, conf.Forwarding)
	pair.MAC = ep.MAC
	later, resultErr := compareResult(result, ep)
	if err := errors.Join(resultErr, podnet.Check(pair, later)); err != nil {
		return types.NewError(socket.CodeInternal, fmt.Sprintf("attachment %s is not as ADD left it", id),
			strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

// askCheck gets the endpoint as the agent knows it; the agent refuses if its own part is amiss.
func askCheck(ctx context.Context, path string, id endpoint.ID) (endpoint.Endpoint, error) {
	var ep endpoint.Endpoint
	err := withAgent(ctx, path, func(conn *socket.Conn) error {
		reply, err := conn.Call(ctx, socket.Request{Verb: socket.VerbCheck, ID: id})
		if err != nil {
			return err
		}
		if reply.Endpoint == nil {
			return errors.New("the agent's answer lacks the endpoint: are plugin and agent of the same version?")
		}
		ep = *reply.Endpoint
		return nil
	})
	return ep, err
}

// compareResult compares ADD's result with the endpoint, and gives what later plugins of the list
// changed of the pod's interface: the result has their changes in it.
func compareResult(r *current.Result, ep endpoint.Endpoint) (podnet.Later, error) {
	var errs []error
	isHost := func(i *current.Interface) bool { return i.Sandbox == "" && i.Name == ep.Interface }
	isPod := func(i *current.Interface) bool { return i.Sandbox != "" && i.Name == ep.IfName }
	if !slices.ContainsFunc(r.Interfaces, isHost) {
		errs = append(errs, fmt.Errorf("prevResult lacks host interface %s", ep.Interface))
	}
	index := slices.IndexFunc(r.Interfaces, isPod)
	if index < 0 {
		return podnet.Later{}, errors.Join(append(errs, fmt.Errorf("prevResult lacks interface %s", ep.IfName))...)
	}
	var have []netip.Addr
	for _, ip := range r.IPs {
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok && ip.Interface != nil && *ip.Interface == index {
			have = append(have, addr.Unmap())
		}
	}
	for _, addr := range ep.Addresses {
		if !slices.Contains(have, addr) {
			errs = append(errs, fmt.Errorf("prevResult gives %s %v, the agent %v", ep.IfName, have, ep.Addresses))
			break
		}
	}
	var later podnet.Later
	pod := r.Interfaces[index]
	if pod.Mac != "" && pod.Mac != ep.MAC {
		later.MAC = pod.Mac
	}
	later.AnyMTU = pod.Mtu == 0
	if pod.Mtu != ep.MTU {
		later.MTU = pod.Mtu
	}
	return later, errors.Join(errs...)
}

// statusWait is how long STATUS waits for an agent that is absent: it asks how things are now.
const statusWait = time.Second

// status says whether ADD can be served.
func (p *Plugin) status(args *skel.CmdArgs) error {
	conf, confErr := p.config(args.StdinData)
	if confErr != nil {
		return confErr
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(conf.Timeout, statusWait))
	defer cancel()
	err := withAgent(ctx, conf.Socket, func(conn *socket.Conn) error {
		_, err := conn.Call(ctx, socket.Request{Verb: socket.VerbStatus})
		return err
	})
	var e *socket.Error
	if errors.As(err, &e) {
		return types.NewError(socket.CodeNotAvailable, e.Message, e.Details)
	}
	return err
}
