// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"korat/api"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/render"
)

// Filter is the way from objects to the packet filter, as an agent goes it, on the host's network.
type Filter struct {
	input    Input
	compiler *compile.Compiler
	// endpoints is how many there are.
	endpoints int

	handle *kernel.Handle
	chains *kernel.Chains
	step   *reconcile.Step[chain.Key, *chain.Chain]
	// writers are the programs that it has started.
	writers []int
	// held are the chains as they were written last.
	held map[chain.Key]*chain.Chain
	// variant numbers the changes of policies.
	variant int
}

// Changed is what a change took. Text is what a program that is started for it would be given, without sets.
type Changed struct {
	Cost
	Text string
}

// FilterConfig is what is there, and which of iptables' backends has it.
type FilterConfig struct {
	Input
	Backend kernel.Backend
}

// Begin writes all that follows from the input, and gives the chains' text.
func (f *Filter) Begin(cfg FilterConfig, text *string) (err error) {
	in := cfg.Input
	f.input, f.held = in, map[chain.Key]*chain.Chain{}
	if f.handle, err = kernel.Open(); err != nil {
		return err
	}
	chains := kernel.ChainsConfig{Backend: cfg.Backend}
	if f.chains, err = f.handle.Chains(chains); err != nil {
		return err
	}
	f.compiler = compile.New(compile.Options{
		Families: []api.Family{api.IPv4}, Groups: f.handle.MatchesGroups(context.Background(), chains, api.IPv4) == nil,
	})
	f.step = reconcile.NewStep("chains", f.chains)
	f.compiler.SetProfile(policy.ImpliedProfile("default"))
	for j := range in.Policies {
		if err := f.setPolicy(in.policy(j, 0)); err != nil {
			return err
		}
	}
	for range in.Endpoints {
		if err := f.add(f.next()); err != nil {
			return err
		}
	}
	changes, err := f.write()
	if err != nil {
		return err
	}
	if f.writers, err = children(os.Getpid()); err != nil {
		return err
	}
	*text, err = f.text(changes)
	return err
}

// End leaves all in the kernel as it is.
func (f *Filter) End(Nothing, *Nothing) error { return errors.Join(f.chains.Close(), f.handle.Close()) }

func (f *Filter) setPolicy(p *api.GlobalNetworkPolicy) error {
	model, err := policy.Of(p)
	if err == nil {
		f.compiler.SetPolicy(model)
	}
	return err
}

// next is the next endpoint.
func (f *Filter) next() *api.WorkloadEndpoint {
	f.endpoints++
	return f.input.workload(f.endpoints - 1)
}

// add adds an endpoint.
func (f *Filter) add(w *api.WorkloadEndpoint) error {
	it, err := policy.ItemOf(w)
	if err != nil {
		return err
	}
	f.compiler.SetPeer(w.Name, it)
	f.compiler.SetLocal(w.Name, compile.Local{
		Interface: w.Spec.InterfaceName, Labels: it.Labels, Parents: it.Parents, Profiles: policy.Profiles(w),
	})
	return nil
}

// Endpoint adds one.
func (f *Filter) Endpoint(_ Nothing, out *Changed) error {
	w := f.next()
	return f.change(out, func() error { return f.add(w) })
}

// Policy changes one in four of its rules.
func (f *Filter) Policy(_ Nothing, out *Changed) error {
	f.variant++
	p := f.input.policy(f.variant%f.input.Policies, f.variant)
	return f.change(out, func() error { return f.setPolicy(p) })
}

func (f *Filter) change(out *Changed, tell func() error) error {
	before, err := f.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := tell(); err != nil {
		return err
	}
	changed, err := f.write()
	out.Wall = time.Since(began)
	if err != nil {
		return err
	}
	after, err := f.cpu()
	if err != nil {
		return err
	}
	out.CPU = after - before
	out.Text, err = f.text(changed)
	return err
}

// write makes the kernel's what the compiler gives: first what is added to sets, then chains, then what sets lose.
func (f *Filter) write() ([]chain.Key, error) {
	ctx := context.Background()
	changes := f.compiler.Update()
	var early, late []kernel.SetChange
	for key, c := range changes.Sets {
		switch {
		case c.Gone:
			late = append(late, kernel.SetChange{Key: key, Destroy: true})
		case c.New:
			early = append(early, kernel.SetChange{Key: key, Add: c.Added, Replace: true})
		default:
			early = append(early, kernel.SetChange{Key: key, Add: c.Added})
			late = append(late, kernel.SetChange{Key: key, Remove: c.Removed})
		}
	}
	if err := f.handle.Sets(0).Write(ctx, early); err != nil {
		return nil, err
	}
	if _, err := f.step.ApplyChanged(ctx, f.compiler.Chains(), changes.Chains); err != nil {
		return nil, err
	}
	f.compiler.TakeAffected()             // for revocation, which judges flows
	for _, name := range changes.Groups { // which an agent writes with the interface's other settings
		f.compiler.SetGroup(name, f.compiler.Group(name))
	}
	return changes.Chains, f.handle.Sets(0).Write(ctx, late)
}

// text gives what iptables-restore --noflush has to be told of the changed chains.
func (f *Filter) text(keys []chain.Key) (string, error) {
	want := f.compiler.Chains()
	var all strings.Builder
	for _, table := range render.Tables() {
		c := render.Change{Family: api.IPv4, Table: table, Have: map[string]render.Held{}, Set: map[string]*chain.Chain{}}
		for _, k := range keys {
			if k.Table == table {
				f.hold(k, want[k], &c)
			}
		}
		if len(c.Set)+len(c.Delete) == 0 {
			continue
		}
		t, bad := c.Transaction()
		for name, err := range bad {
			return "", fmt.Errorf("chain %s: %w", name, err)
		}
		all.Write(t.Text)
	}
	return all.String(), nil
}

// hold adds what becomes of a chain; nil is one that goes.
func (f *Filter) hold(k chain.Key, want *chain.Chain, c *render.Change) {
	if have := f.held[k]; have != nil {
		c.Have[k.Name] = heldChain(have)
	}
	if f.held[k] = want; want != nil {
		c.Set[k.Name] = want
	} else {
		c.Delete = append(c.Delete, k.Name)
	}
}

func heldChain(c *chain.Chain) render.Held {
	var h render.Held
	for _, r := range c.Rules {
		h.IDs = append(h.IDs, r.ID)
	}
	return h
}

// cpu is what this process and the programs that write chains have used.
func (f *Filter) cpu() (time.Duration, error) {
	return CPU(append([]int{os.Getpid()}, f.writers...)...)
}
