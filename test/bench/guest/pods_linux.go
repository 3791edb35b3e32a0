// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
	"korat/ipam/journal"
)

// Pods are the input's endpoints on a host: interfaces, whose other ends are in one network namespace, and an agent's
// record of them.
type Pods struct {
	ctx   context.Context
	input Input
}

const (
	podsSpace   = "pods"
	journalFile = "/run/korat/endpoints.journal"
)

// Prepare makes the interfaces and writes the record, for an agent that starts later.
func (p *Pods) Prepare(in Input, _ *Nothing) (err error) {
	p.input = in
	if err := os.MkdirAll("/run/korat", 0o700); err != nil {
		return fmt.Errorf("make pods: %w", err)
	}
	record, err := journal.Open[endpoint.Endpoint](journalFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, record.Close()) }()
	var batch strings.Builder
	fmt.Fprintf(&batch, "netns add %s\n", podsSpace)
	for i := range in.Endpoints {
		r := in.record(i)
		batch.WriteString(pair(r))
		if err := record.Put(r.ID.String(), r); err != nil {
			return err
		}
	}
	return ip(p.ctx, batch.String())
}

// pair makes an endpoint's interface, as the plugin leaves it.
func pair(r endpoint.Endpoint) string {
	return fmt.Sprintf("link add %[1]s mtu %[2]d address ee:ee:ee:ee:ee:ee type veth peer name %[3]s mtu %[2]d address %[4]s netns %[5]s\n"+
		"link set %[1]s alias %[6]q\nlink set %[1]s up\n",
		r.Interface, r.MTU, "p"+strings.TrimPrefix(r.Interface, endpoint.InterfacePrefix), r.MAC, podsSpace, endpoint.FormatAlias(r.Alias()))
}

// ip runs commands of ip's.
func ip(ctx context.Context, batch string) error {
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run ip: %w: %s", err, out)
	}
	return nil
}

// Add attaches endpoint i by the agent: it is asked for addresses and, once the interface is there, waited for until
// the kernel has all. Time is what the agent took.
func (p *Pods) Add(i int, took *time.Duration) error {
	r := p.input.record(i)
	conn, err := socket.Dial(p.ctx, socket.DefaultPath)
	if err != nil {
		return err
	}
	defer conn.Close()
	began := time.Now()
	reply, err := conn.Call(p.ctx, socket.Request{
		Verb: socket.VerbAdd, ID: r.ID, Network: r.Network, NetNS: r.NetNS, Namespace: r.Namespace, Pod: r.Pod, Traits: r.Traits,
		Wish: socket.Wish{Families: []socket.Family{{Version: 4}}},
	})
	if err != nil {
		return fmt.Errorf("add pod %s: %w", r.Pod, err)
	}
	*took = time.Since(began)
	r.Interface, r.Addresses, r.MTU = reply.Endpoint.Interface, reply.Endpoint.Addresses, reply.Endpoint.MTU
	if err := ip(p.ctx, pair(r)); err != nil {
		return err
	}
	began = time.Now()
	_, err = conn.Call(p.ctx, socket.Request{Verb: socket.VerbReady, ID: r.ID, MAC: r.MAC})
	*took += time.Since(began)
	if err != nil {
		return fmt.Errorf("add pod %s: %w", r.Pod, err)
	}
	return nil
}
