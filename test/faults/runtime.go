// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"korat/felix/endpoint"
	"korat/test/lab"
)

// retryPause is between two tries at the same pod. kubelet's is longer.
const retryPause = 200 * time.Millisecond

// Runtime plays a host's container runtime. Its network namespaces are made once and used again and again.
type Runtime struct {
	Host   *lab.Host
	ledger *Ledger
	// Config is the network configuration of its calls.
	Config string
	// Hurry is how many of 100 ADDs are killed in the middle.
	Hurry int
	// Step is called after each call of the plugin.
	Step func()

	pods []*pod
	// failed and killed count ADDs that did not succeed.
	failed, killed atomic.Int64
}

// pod is a network namespace and what is attached in it.
type pod struct {
	name, netns, role string
	// container is of the present sandbox, sandboxes how many there have been.
	container string
	sandboxes int
	addrs     []netip.Addr
	rand      *rand.Rand
}

// NewRuntime makes the namespaces of n pods on a host. What its calls do at random follows from the seed.
func NewRuntime(ctx context.Context, h *lab.Host, n int, ledger *Ledger, seed uint64) (*Runtime, error) {
	r := &Runtime{Host: h, ledger: ledger, Config: h.NetworkConfig(), Step: func() {}}
	var batch strings.Builder
	for i := range n {
		name := fmt.Sprintf("%s-%d", h.Name, i)
		r.pods = append(r.pods, &pod{name: name, netns: "/run/netns/" + name, role: roles[i%len(roles)], rand: rand.New(rand.NewPCG(seed, uint64(i)))})
		fmt.Fprintf(&batch, "ip netns add %[1]s && ip -n %[1]s link set lo up || exit 1\n", name)
	}
	if _, err := h.Exec(ctx, "sh", "-c", batch.String()); err != nil {
		return nil, err
	}
	return r, nil
}

// each calls do for every pod, so many at a time, and joins the errors.
func (r *Runtime) each(ctx context.Context, parallel chan struct{}, do func(context.Context, *pod) error) error {
	errs := make([]error, len(r.pods))
	var all sync.WaitGroup
	for i, p := range r.pods {
		all.Go(func() {
			parallel <- struct{}{}
			defer func() { <-parallel }()
			errs[i] = do(ctx, p)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// call is one call of the plugin for a pod's present sandbox.
func (r *Runtime) call(ctx context.Context, command string, p *pod) (string, error) {
	defer r.Step()
	return r.Host.CNI(ctx, lab.CNI{
		Command: command, ContainerID: p.container, NetNS: p.netns, IfName: "eth0", Config: labelled(r.Config, p.role),
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + p.name,
	})
}

// Attach gives a pod a sandbox with a network: after an ADD that fails it removes that sandbox and makes another,
// until ctx ends.
func (r *Runtime) attach(ctx context.Context, p *pod) error {
	for {
		p.sandboxes++
		p.container = fmt.Sprintf("%s-sandbox-%d", p.name, p.sandboxes)
		err := r.add(ctx, p)
		if err == nil {
			return nil
		}
		r.failed.Add(1)
		if undo := r.detach(ctx, p); undo != nil {
			return errors.Join(err, undo)
		}
		if !pause(ctx, retryPause) {
			return fmt.Errorf("attach pod %s: %w: %w", p.name, context.Cause(ctx), err)
		}
	}
}

// add is one ADD. A runtime that is in a hurry kills the plugin.
func (r *Runtime) add(ctx context.Context, p *pod) error {
	if p.rand.IntN(100) < r.Hurry {
		r.killed.Add(1)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(p.rand.IntN(60))*time.Millisecond)
		defer cancel()
	}
	out, err := r.call(ctx, "ADD", p)
	if err != nil {
		return err
	}
	addrs, err := addresses(out)
	if err != nil {
		return fmt.Errorf("attach pod %s: %w", p.name, err)
	}
	p.addrs = addrs
	r.ledger.Take(p.name, addrs...)
	return nil
}

// addresses reads those of an ADD's result.
func addresses(out string) ([]netip.Addr, error) {
	parsed, err := types100.NewResult([]byte(out))
	if err != nil {
		return nil, fmt.Errorf("read CNI result %q: %w", out, err)
	}
	var addrs []netip.Addr
	for _, ip := range parsed.(*types100.Result).IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			return nil, fmt.Errorf("read CNI result %q: %s is no address", out, ip.Address.IP)
		}
		addrs = append(addrs, addr.Unmap())
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("read CNI result %q: it has no address", out)
	}
	return addrs, nil
}

// detach calls DEL until it succeeds or ctx ends, for the pod's present sandbox.
func (r *Runtime) detach(ctx context.Context, p *pod) error {
	r.ledger.Return(p.name, p.addrs...)
	p.addrs = nil
	for {
		_, err := r.call(ctx, "DEL", p)
		if err == nil || !pause(ctx, retryPause) {
			return err
		}
	}
}

// pause returns false if ctx has ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// verify holds what is in the pods, in the host's routes and in its packet filter against the results that the plugin gave.
func (r *Runtime) verify(ctx context.Context) error {
	want := map[string]bool{}
	for _, p := range r.pods {
		for _, addr := range p.addrs {
			want[addr.String()] = true
		}
	}
	inside, err := r.Host.Exec(ctx, "ip", "-all", "netns", "exec", "ip", "-o", "addr", "show", "dev", "eth0", "scope", "global")
	if err != nil {
		return err
	}
	routes, err := r.Host.Exec(ctx, "sh", "-c", "ip -4 route show proto 75; ip -6 route show proto 75")
	if err != nil {
		return err
	}
	if err := same("addresses in pods", want, fieldAfter(inside, "inet", "inet6")); err != nil {
		return fmt.Errorf("%s: %w", r.Host.Name, err)
	}
	var toPods []string
	for line := range strings.Lines(routes) {
		if to, rest, _ := strings.Cut(line, " "); strings.HasPrefix(rest, "dev "+endpoint.InterfacePrefix) {
			toPods = append(toPods, to)
		}
	}
	if err := same("routes to pods", want, toPods); err != nil {
		return fmt.Errorf("%s: %w", r.Host.Name, err)
	}
	return r.policed(ctx)
}

// fieldAfter gives the words that follow one of the given words, without a prefix length.
func fieldAfter(text string, words ...string) []string {
	var all []string
	fields := strings.Fields(text)
	for i := range len(fields) - 1 {
		if slices.Contains(words, fields[i]) {
			addr, _, _ := strings.Cut(fields[i+1], "/")
			all = append(all, addr)
		}
	}
	return all
}

// same holds a list against a set: each exactly once.
func same(what string, want map[string]bool, have []string) error {
	seen := map[string]bool{}
	for _, entry := range have {
		if !want[entry] || seen[entry] {
			return fmt.Errorf("%s: %s is not wanted, or there twice", what, entry)
		}
		seen[entry] = true
	}
	for entry := range want {
		if !seen[entry] {
			return fmt.Errorf("%s: %s is missing", what, entry)
		}
	}
	return nil
}
