// SPDX-License-Identifier: Apache-2.0

package cniplugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"korat/cni-plugin/podnet"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
)

// validKey holds the attachments that the runtime still knows. (CNI spec 1.1, section 2, GC)
const validKey = "cni.dev/valid-attachments"

// collectors remove attachments at once: each removal waits for the kernel's RCU.
const collectors = 8

// gc removes the network's attachments that the runtime does not know any more, each as DEL does it. It
// goes on after an error, and may be repeated.
func (p *Plugin) gc(args *skel.CmdArgs) error {
	conf, confErr := p.config(args.StdinData)
	log := p.logger(conf, args)
	if conf.Network == "" {
		return confErr
	}
	if confErr != nil {
		log.Warn("collecting despite bad input", "config", confErr)
	}
	valid, given, err := validAttachments(args.StdinData)
	if err != nil {
		return err
	}
	if !given {
		// Not the same as an empty list, which says that every attachment is stale.
		log.Warn("nothing is collected: the configuration does not say what is valid", "key", validKey)
		return nil
	}
	stale, err := askStale(conf, valid)
	if err != nil {
		return err
	}
	return collect(conf, stale, log)
}

// validAttachments reads the list. A list that is not understood must not be taken for a shorter one.
func validAttachments(data []byte) (valid []endpoint.ID, given bool, err error) {
	object, err := splitObject(data)
	if err != nil {
		return nil, false, types.NewError(socket.CodeDecodingFailure, "network configuration: "+err.Error(), "")
	}
	raw, given := object[validKey]
	if !given || bytes.Equal(raw, []byte("null")) { // null is how libcni writes an empty list
		return nil, given, nil
	}
	var list []types.GCAttachment
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, true, types.NewError(socket.CodeInvalidConfig, fmt.Sprintf("%s: %s: %v", validKey, shown(raw), err), "")
	}
	for i, a := range list {
		if a.ContainerID == "" || a.IfName == "" {
			return nil, true, types.NewError(socket.CodeInvalidConfig, fmt.Sprintf("%s: entry %d: containerID or ifname is missing", validKey, i), "")
		}
		valid = append(valid, endpoint.ID{ContainerID: a.ContainerID, IfName: a.IfName})
	}
	return valid, true, nil
}

func askStale(conf Config, valid []endpoint.ID) ([]endpoint.Endpoint, error) {
	ctx, cancel := context.WithTimeout(context.Background(), conf.Timeout)
	defer cancel()
	var stale []endpoint.Endpoint
	err := withAgent(ctx, conf.Socket, func(conn *socket.Conn) error {
		reply, err := conn.Call(ctx, socket.Request{Verb: socket.VerbGC, Network: conf.Network, Query: socket.Query{Valid: valid}})
		stale = reply.Stale
		return err
	})
	return stale, err
}

func collect(conf Config, stale []endpoint.Endpoint, log *slog.Logger) error {
	results := make(chan error, len(stale))
	slots := make(chan struct{}, collectors)
	for _, ep := range stale {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			log.Info("stale attachment", "endpoint", ep.ID.String(), "pod", ep.Namespace+"/"+ep.Pod, "host_interface", ep.Interface)
			// Another container may be behind the namespace's path by now; the host's side has an alias.
			err := podnet.Delete(ep.ID, "", ep.Interface)
			if err == nil {
				err = forget(conf, ep.ID, log)
			}
			if err != nil {
				err = fmt.Errorf("collect %s: %w", ep.ID, err)
			}
			results <- err
		}()
	}
	var errs []error
	for range stale {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}
