// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/containernetworking/cni/pkg/skel"

	"korat/cni-plugin/podnet"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
)

// delWait bounds how long DEL waits for the answer of an agent that is there. It does not wait for one
// that is not: the queue is as good.
const delWait = 5 * time.Second

// del detaches a container. The interface goes first: an address that is released while a pod still
// has it would be given twice, whereas an address whose interface is gone is released by the next DEL,
// or by the agent that finds this one in the queue.
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
	return forget(conf, id, log)
}

// forget has the agent forget an attachment whose interface is gone: this agent now, or, if it does not
// answer, the next one by way of the queue.
func forget(conf Config, id endpoint.ID, log *slog.Logger) error {
	cause := askDel(conf, id)
	var refused *socket.Error
	if cause == nil || errors.As(cause, &refused) && refused.Code != socket.CodeTryAgainLater {
		return cause
	}
	if refused == nil && !errors.Is(cause, socket.ErrBroken) {
		return cause
	}
	if err := socket.Queue(conf.Socket, id); err != nil {
		return &socket.Error{
			Code:    socket.CodeTryAgainLater,
			Message: fmt.Sprintf("no agent takes the DEL of %s, and it cannot be queued", id),
			Details: err.Error() + "; " + cause.Error(),
		}
	}
	log.Warn("DEL queued for the agent's return", "cause", cause)
	return nil
}

func askDel(conf Config, id endpoint.ID) error {
	conn, err := socket.DialOnce(conf.Socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), min(conf.Timeout, delWait))
	defer cancel()
	_, err = conn.Call(ctx, socket.Request{Verb: socket.VerbDel, ID: id})
	return err
}
