// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"korat/test/bench/guest"
	"korat/test/lab"
)

const (
	// cniPairs is how many pods each side attaches one after the other.
	cniPairs = 60
	// cniRounds of cniTogether pods at the same time follow.
	cniRounds, cniTogether = 6, 10
	// cniWarm pods are not counted.
	cniWarm = 3
)

// cniTurn is the rest that processes are given before it is the other side's turn. Within cniSettle an
// agent does what is left to do after a pod is attached (blocks are published within a second).
const (
	cniTurn   = 15 * time.Millisecond
	cniSettle = 1500 * time.Millisecond
)

// ptpConfig is the baseline. Its store is on tmpfs here, on a real host it is on disk.
const ptpConfig = `{"cniVersion":"1.0.0","name":"ptp","type":"ptp",` +
	`"ipam":{"type":"host-local","subnet":"10.89.0.0/16","routes":[{"dst":"0.0.0.0/0"}]}}`

// attacher is one of the two that are compared, on a host of its own.
type attacher struct {
	*guest.Guest
	plugin guest.PluginCall
	pods   int
}

// comparison is ours and ptp. The agent's host is not the one with the datastore.
type comparison struct {
	*Suite
	ours, ptp *attacher
	host      *lab.Host
	// local are the agent and the speaker of our host, all has the datastore's agent as well.
	local, all []int
}

// cni compares attaching and detaching pods with ptp and host-local.
func cni(ctx context.Context, s *Suite) (rows []Row, err error) {
	c, err := s.cluster(ctx, "cni", 2)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	other, err := c.Host(ctx, lab.HostConfig{Name: "ptp"})
	if err != nil {
		return nil, err
	}
	guests, err := s.guests(ctx, c.Agents[1].Host, other)
	if err != nil {
		return nil, err
	}
	child, err := speaker(c.Agents[1].Host)
	if err != nil {
		return nil, err
	}
	m := comparison{
		Suite: s, host: c.Agents[1].Host,
		ours:  &attacher{Guest: guests[0], plugin: guest.PluginCall{Path: "/opt/cni/bin", Plugin: "korat", Config: lab.NetworkConfig}},
		ptp:   &attacher{Guest: guests[1], plugin: guest.PluginCall{Path: "/usr/lib/cni", Plugin: "ptp", Config: ptpConfig}},
		local: []int{c.Agents[1].PID, child}, all: []int{c.Agents[0].PID, c.Agents[1].PID, child},
	}
	if rows, err = m.oneByOne(ctx); err != nil {
		return rows, err
	}
	row, err := m.together(ctx)
	if err != nil {
		return rows, err
	}
	execs, err := m.execs(ctx)
	return append(rows[:1], append([]Row{row}, append(rows[1:], execs)...)...), err
}

// oneByOne gives ADD, DEL and CPU.
func (m *comparison) oneByOne(ctx context.Context) ([]Row, error) {
	for _, a := range []*attacher{m.ours, m.ptp} {
		if err := a.warm(ctx); err != nil {
			return nil, err
		}
	}
	m.say("cni: %d ADDs each, one by one", cniPairs)
	var add, del phase
	ours, ptp, err := m.pods(ctx, cniPairs)
	if err != nil {
		return nil, err
	}
	if err := add.run(ctx, m, "ADD", ours, ptp); err != nil {
		return nil, err
	}
	m.say("cni: %d DELs each, one by one", cniPairs)
	if err := del.run(ctx, m, "DEL", ours, ptp); err != nil {
		return nil, err
	}
	share := Milliseconds(add.agent) / cniPairs
	return []Row{
		Medians("CNI ADD, p50", add.ours.wall, add.ptp.wall, 0.25),
		Medians("CNI DEL, p50", del.ours.wall, del.ptp.wall, 0.6),
		Against("CNI CPU per ADD, with agent and speaker", "ms", add.ours.cpu.Mean()+share, add.ptp.cpu.Mean(), 0.4),
		Below("  of which agent and speaker", "ms", share, 0),
		Below("  passes of the agent per ADD", "passes", add.passes/cniPairs, 0),
		Against("CNI CPU per DEL, with agent and speaker", "ms",
			del.ours.cpu.Mean()+Milliseconds(del.agent)/cniPairs, del.ptp.cpu.Mean(), 0),
	}, nil
}

// phase is one command for many pods.
type phase struct {
	ours, ptp costs
	// agent is what agent and speaker used in all, passes how often the agent's loop ran.
	agent  time.Duration
	passes float64
}

type costs struct{ wall, cpu Series }

func (c *costs) add(cost guest.Cost) {
	c.wall.Add(cost.Wall)
	c.cpu.Add(cost.CPU)
}

func (p *phase) run(ctx context.Context, m *comparison, command string, ours, ptp []string) error {
	if err := pass(ctx, cniSettle); err != nil {
		return err
	}
	passes, err := metric(ctx, m.host, "korat_passes_total")
	if err != nil {
		return err
	}
	before, err := guest.CPU(m.local...)
	if err != nil {
		return err
	}
	for i := range ours {
		cost, err := m.ours.one(ctx, command, ours[i])
		if err != nil {
			return err
		}
		p.ours.add(cost)
		if err := quiet(ctx, cniTurn, m.all...); err != nil {
			return err
		}
		if cost, err = m.ptp.one(ctx, command, ptp[i]); err != nil {
			return err
		}
		p.ptp.add(cost)
	}
	if err := pass(ctx, cniSettle); err != nil {
		return err
	}
	after, err := guest.CPU(m.local...)
	if err != nil {
		return err
	}
	p.agent = after - before
	p.passes, err = metric(ctx, m.host, "korat_passes_total")
	p.passes -= passes
	return err
}

// together gives ADD for pods that come at once.
func (m *comparison) together(ctx context.Context) (Row, error) {
	m.say("cni: %d times %d ADDs at once each", cniRounds, cniTogether)
	var ours, ptp Series
	for range cniRounds {
		for _, side := range []struct {
			*attacher
			to *Series
		}{{m.ours, &ours}, {m.ptp, &ptp}} {
			if err := side.crowd(ctx, side.to); err != nil {
				return Row{}, err
			}
			if err := quiet(ctx, 10*cniTurn, m.all...); err != nil {
				return Row{}, err
			}
		}
	}
	return Medians(fmt.Sprintf("CNI ADD, %d at once, p50", cniTogether), ours, ptp, 0.2), nil
}

// execs counts the programs that an ADD starts.
func (m *comparison) execs(ctx context.Context) (Row, error) {
	ours, ptp, err := m.pods(ctx, 1)
	if err != nil {
		return Row{}, err
	}
	var a, b int
	err = errors.Join(
		m.ours.Call(ctx, "Plugins.Execs", guest.TracedCall{PluginCall: m.ours.call("ADD", ours[0]), PIDs: m.local}, &a),
		m.ptp.Call(ctx, "Plugins.Execs", guest.TracedCall{PluginCall: m.ptp.call("ADD", ptp[0])}, &b),
	)
	if err != nil {
		return Row{}, err
	}
	row := Below("CNI execs per ADD", "programs", float64(a), 1)
	m.say("cni: ptp and host-local are %d execs", b)
	return row, nil
}

// pods makes pods for both sides.
func (m *comparison) pods(ctx context.Context, n int) (ours, ptp []string, err error) {
	if ours, err = m.ours.make(ctx, n); err != nil {
		return nil, nil, err
	}
	ptp, err = m.ptp.make(ctx, n)
	return ours, ptp, err
}

// make makes pods that are not attached.
func (a *attacher) make(ctx context.Context, n int) ([]string, error) {
	names := make([]string, n)
	for i := range names {
		a.pods++
		names[i] = fmt.Sprintf("pod-%d", a.pods)
	}
	return names, a.Call(ctx, "Plugins.MakePods", names, nil)
}

func (a *attacher) call(command, pod string) guest.PluginCall {
	call := a.plugin
	call.Command, call.Pod = command, pod
	return call
}

func (a *attacher) one(ctx context.Context, command, pod string) (cost guest.Cost, err error) {
	err = a.Call(ctx, "Plugins.One", a.call(command, pod), &cost)
	return cost, err
}

// all makes the same call for several pods at once.
func (a *attacher) all(ctx context.Context, command string, pods []string) (costs []guest.Cost, err error) {
	var calls []guest.PluginCall
	for _, pod := range pods {
		calls = append(calls, a.call(command, pod))
	}
	err = a.Call(ctx, "Plugins.Together", calls, &costs)
	return costs, err
}

// warm attaches and detaches some pods.
func (a *attacher) warm(ctx context.Context) error {
	pods, err := a.make(ctx, cniWarm)
	for _, command := range []string{"ADD", "DEL"} {
		for i := 0; i < len(pods) && err == nil; i++ {
			_, err = a.one(ctx, command, pods[i])
		}
	}
	return err
}

// crowd attaches several pods at once, notes how long each took, and detaches them.
func (a *attacher) crowd(ctx context.Context, to *Series) error {
	pods, err := a.make(ctx, cniTogether)
	if err != nil {
		return err
	}
	costs, err := a.all(ctx, "ADD", pods)
	if err != nil {
		return err
	}
	for _, cost := range costs {
		to.Add(cost.Wall)
	}
	_, err = a.all(ctx, "DEL", pods)
	return err
}
