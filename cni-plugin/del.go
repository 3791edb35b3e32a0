// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"context"

	"github.com/containernetworking/cni/pkg/skel"

	"korat/cni-plugin/podnet"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
)

// del detaches a container. The interface goes first: an address that is released while a pod still
// has it would be given twice, whereas an address whose interface is gone is released by the next DEL,
// which the runtime sends until one succeeds.
//
// A configuration or CNI_ARGS that ADD would refuse must not keep containers from being removed, so
// only what cannot be read as JSON is an error here, and that is skel's.
func (p *Plugin) del(args *skel.CmdArgs) error {
	conf, confErr := p.config(args.StdinData)
	pod, argsErr := ParseArgs(args.Args, args.ContainerID)
	log := p.logger(conf, args)
	if confErr != nil || argsErr != nil {
		log.Warn("deleting despite bad input", "config", confErr, "args", argsErr)
	}
	id := endpoint.ID{ContainerID: args.ContainerID, IfName: args.IfName}
	if err := podnet.Delete(id, args.Netns, endpoint.HostInterface(pod.Namespace, pod.Pod, id.IfName)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), conf.Timeout)
	defer cancel()
	return withAgent(ctx, conf.Socket, func(conn *socket.Conn) error {
		_, err := conn.Call(ctx, socket.Request{Verb: socket.VerbDel, ID: id})
		return err
	})
}
