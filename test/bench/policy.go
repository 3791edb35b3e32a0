// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"korat/test/bench/guest"
	"korat/test/lab"
)

const (
	// policyChanges are made of each kind, one after the other, each after a rest.
	policyChanges = 20
	policyRest    = 50 * time.Millisecond
	policySettle  = 700 * time.Millisecond
	// policyIdle is one period of the resync, so that it counts once.
	policyIdle = 90 * time.Second
	// felixRules is how many rules Felix makes of 100 × 100.
	felixRules = 4017
)

// policies measures an agent with policies.
func policies(ctx context.Context, s *Suite) (rows []Row, err error) {
	for i, in := range inputs() {
		more, err := s.policiesOf(ctx, fmt.Sprintf("policies%d", i), in, i == 0)
		rows = append(rows, more...)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", in, err)
		}
	}
	return rows, nil
}

// policed is a host whose agent has an input's policies and pods.
type policed struct {
	*Suite
	input guest.Input
	host  *lab.Host
	guest *guest.Guest
	flags []string
	agent *lab.Agent
	// small is the input that targets are for.
	small bool
}

func (s *Suite) policiesOf(ctx context.Context, name string, in guest.Input, small bool) (rows []Row, err error) {
	h, err := s.lone(ctx, name, scaleAddress)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	p := &policed{Suite: s, input: in, host: h.Host, guest: h.guest, small: small}
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	for _, measure := range []func(context.Context) ([]Row, error){p.first, p.changes, p.unchanged} {
		more, err := measure(ctx)
		rows = append(rows, more...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// prepare lets an agent see everything once, so that the datastore has the pods, and takes from the kernel what it
// wrote.
func (p *policed) prepare(ctx context.Context) error {
	p.say("policies: %s: making them", p.input)
	var url string
	err := p.guest.Call(ctx, "Etcd.Serve", "/var/lib/korat/etcd", &url)
	p.flags = []string{"--datastore=etcd", "--etcd-endpoints=" + url, "--no-default-pool"}
	for _, method := range []string{"Etcd.FillInput", "Pods.Prepare"} {
		if err == nil {
			err = p.guest.Call(ctx, method, p.input, nil)
		}
	}
	if err != nil {
		return err
	}
	if err := p.start(ctx); err != nil {
		return err
	}
	if err := p.agent.Stop(ctx); err != nil {
		return err
	}
	const wipe = `for i in iptables ip6tables; do for t in raw mangle filter; do $i-nft -t $t -F; $i-nft -t $t -X; done; done; ipset destroy`
	_, err = p.host.Exec(ctx, "sh", "-c", wipe)
	return err
}

// start starts the agent and waits until it has done what there is to do.
func (p *policed) start(ctx context.Context) (err error) {
	if p.agent, err = p.host.StartAgent(p.flags...); err != nil {
		return err
	}
	if err := p.agent.WaitReady(ctx); err != nil {
		return err
	}
	return quiet(ctx, policySettle, p.pids()...)
}

// pids are the agent and the programs that it has running for the packet filter.
func (p *policed) pids() []int {
	pids := []int{p.agent.PID}
	for _, name := range []string{"iptables-nft-restore", "ip6tables-nft-restore"} {
		pids = append(pids, p.host.Pids(name)...)
	}
	return pids
}

// first measures a start with nothing in the packet filter.
func (p *policed) first(ctx context.Context) ([]Row, error) {
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	pids := p.pids()
	used, err := guest.CPU(pids...)
	if err != nil {
		return nil, err
	}
	ended, err := endedChildren(p.agent.PID)
	if err != nil {
		return nil, err
	}
	rss, err := Memory("VmRSS", p.agent.PID)
	if err != nil {
		return nil, err
	}
	text, err := p.host.Exec(ctx, "iptables-nft-save")
	rules := strings.Count(text, "\n-A ")
	return []Row{
		Below("CPU of the agent from start to first sync, "+p.input.String(), "s", (used + ended).Seconds(), p.target(0.4)),
		Below("  RSS then", "MB", rss, p.target(70)),
		p.against("  rules in iptables-save, to Felix's 4,017", "rules", float64(rules), felixRules, 0.6),
	}, err
}

// target is one for the small input alone.
func (p *policed) target(v float64) float64 {
	if p.small {
		return v
	}
	return 0
}

// against compares with what is known for the small input alone.
func (p *policed) against(name, unit string, ours, baseline, target float64) Row {
	if p.small {
		return Against(name, unit, ours, baseline, target)
	}
	name, _, _ = strings.Cut(name, ", to ")
	return Below(name, unit, ours, 0)
}

// endedChildren is what the programs have used that a process has started and waited for, in hundredths of a second.
func endedChildren(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU time of children of process %d: %w", pid, err)
	}
	// The name, in parentheses, may have spaces; cutime and cstime are fields 16 and 17 (proc_pid_stat(5)).
	words := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks := 0
	for _, word := range words[13:15] {
		n, err := strconv.Atoi(word)
		if err != nil {
			return 0, fmt.Errorf("read CPU time of children of process %d: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// changes measures pods that come and policies that change.
func (p *policed) changes(ctx context.Context) ([]Row, error) {
	if err := p.guest.Call(ctx, "Rules.Begin", guest.Nothing{}, nil); err != nil {
		return nil, err
	}
	pod := func(i int) (took time.Duration, err error) {
		err = p.guest.Call(ctx, "Pods.Add", p.input.Endpoints+i, &took)
		return took, err
	}
	policy := func(i int) (time.Duration, error) {
		var began, done time.Duration
		err := p.guest.Call(ctx, "Etcd.ChangePolicy", guest.ChangedPolicy{Input: p.input, Policy: i % p.input.Policies, Variant: i + 1}, &began)
		if err == nil {
			err = p.guest.Call(ctx, "Rules.Await", began, &done)
		}
		return done - began, err
	}
	var rows []Row
	for _, c := range []struct {
		name   string
		change func(int) (time.Duration, error)
	}{{"pod attached", pod}, {"policy changed", policy}} {
		cpu, took, err := p.measure(ctx, c.change)
		if err != nil {
			return rows, err
		}
		rows = append(rows,
			Below(fmt.Sprintf("CPU of the agent for a %s, %s there", c.name, p.input), "ms", cpu, p.target(5)),
			Below("  time to kernel, p50", "ms", took.Quantile(0.5), 0))
	}
	return rows, nil
}

// measure makes changes. CPU is the mean of the agent's and its programs', as what they do goes on after a change.
func (p *policed) measure(ctx context.Context, change func(i int) (time.Duration, error)) (cpu float64, took Series, err error) {
	pids := p.pids()
	var before time.Duration
	for i := range policyChanges + 1 {
		t, err := change(i)
		if err != nil {
			return 0, nil, err
		}
		if err := quiet(ctx, policyRest, pids...); err != nil {
			return 0, nil, err
		}
		if i > 0 {
			took.Add(t)
			continue
		}
		if before, err = guest.CPU(pids...); err != nil {
			return 0, nil, err
		}
	}
	if err := pass(ctx, cniSettle); err != nil {
		return 0, nil, err
	}
	after, err := guest.CPU(pids...)
	return Milliseconds(after-before) / policyChanges, took, err
}

// unchanged measures an idle agent, and what the next one writes that starts where this one was.
func (p *policed) unchanged(ctx context.Context) ([]Row, error) {
	if !p.small {
		return nil, nil
	}
	pids := p.pids()
	p.say("policies: %s: idle for %.0f s", p.input, policyIdle.Seconds())
	before, err := guest.CPU(pids...)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := pass(ctx, policyIdle); err != nil {
		return nil, err
	}
	after, err := guest.CPU(pids...)
	if err != nil {
		return nil, err
	}
	share := 100 * float64(after-before) / float64(time.Since(began))
	if err := p.agent.Stop(ctx); err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	written, err := p.written(ctx)
	return []Row{
		Below("idle CPU of the agent, "+p.input.String(), "% of a core", share, 0.2),
		// A target of 0 would be none.
		Below("chains and sets that an unchanged restart writes, "+p.input.String(), "entries", written, 0.5),
	}, err
}

// written is how many chains and sets the agent has written since its start.
func (p *policed) written(ctx context.Context) (sum float64, err error) {
	for _, step := range []string{"chains", "sets", "sets, what is not needed any more"} {
		for _, change := range []string{"set", "delete"} {
			n, err := metric(ctx, p.host, fmt.Sprintf("korat_step_changes_total{change=%q,step=%q}", change, step))
			if err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}
