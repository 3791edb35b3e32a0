// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/test/lab"
)

// TestRestartWritesNoRule stops and kills an agent whose policies stay as they are: it writes no rule and no set, and
// packets pass or don't meanwhile as they did.
func TestRestartWritesNoRule(t *testing.T) {
	eachBackend(t, func(p *policed) {
		p.labelled("quiet")
		p.holds("before")
		since := p.now()
		for _, stop := range []struct {
			name string
			how  func() error
		}{
			{"killed", func() error { return p.agent.Kill() }},
			{"stopped", func() error { return p.agent.Stop(p.limit()) }},
		} {
			before := p.untouched()
			monitor := p.monitorRules()
			if err := stop.how(); err != nil {
				t.Errorf("%s: %v", stop.name, err)
			}
			p.goesOn(stop.name)
			p.agent = p.start(p.h)
			p.ready(p.agent)
			p.readAgain()
			p.goesOn(stop.name + ", and started")
			if n := p.metric(p.h, "korat_step_changes_total"); n != 0 {
				p.Errorf("%s: the agent says that it made %v changes", stop.name, n)
			}
			if text := p.rulesChanged(monitor); text != "" {
				p.Errorf("%s: rules were changed:\n%s", stop.name, text)
			}
			p.isUntouched(stop.name, before, p.untouched())
		}
		p.lostNone("restarts", since)
		p.noneIn("restarts", since)
	})
}

// readAgain waits until the agent has read chains and sets a second time.
func (p *policed) readAgain() {
	p.Helper()
	p.until("the tables are read again", func(ctx context.Context) error {
		_, body, err := p.h.Get(ctx, "http://127.0.0.1:9099/metrics")
		for _, step := range []string{"sets", "chains"} {
			found := regexp.MustCompile(`korat_step_reads_total\{step="` + step + `"\} (\d+)`).FindStringSubmatch(body)
			if err == nil && (found == nil || found[1] == "1") {
				err = fmt.Errorf("%s: %v", step, found)
			}
		}
		return err
	})
}

// untouched gives rules with their counters, and sets with the numbers that each of them got when it was made.
func (p *policed) untouched() []string {
	p.Helper()
	var all []string
	for _, program := range programs(p.backend, "-save") {
		for line := range strings.Lines(p.run(p.h, program+" -c")) {
			if strings.Contains(line, "cali") {
				all = append(all, program+" "+strings.TrimSpace(line))
			}
		}
	}
	return append(all, strings.Split(lines(p.run(p.h, "ipset save")), "\n")...)
}

// isUntouched holds that both have the same rules and sets, and that no counter began anew.
func (p *policed) isUntouched(what string, before, after []string) {
	p.Helper()
	counted := func(all []string) (bare []string, packets []int) {
		for _, line := range all {
			n := 0
			if found := regexp.MustCompile(`\[(\d+):`).FindStringSubmatch(line); found != nil {
				n, _ = strconv.Atoi(found[1]) // it is digits
			}
			bare, packets = append(bare, chainCounters.ReplaceAllString(line, "")), append(packets, n)
		}
		return bare, packets
	}
	want, least := counted(before)
	have, packets := counted(after)
	if diff := cmp.Diff(want, have); diff != "" {
		p.Errorf("%s: before (-), after (+):\n%s", what, diff)
		return
	}
	for i, n := range packets {
		if n < least[i] {
			p.Errorf("%s: counted %d packets before, and %d after: %s", what, least[i], n, have[i])
		}
	}
}

// monitorRules listens to nftables; nothing tells of the other backend's rules.
func (p *policed) monitorRules() *lab.Process {
	p.Helper()
	if p.backend != "NFT" {
		return nil
	}
	p.started++
	m, err := p.h.Start(fmt.Sprintf("rules-%d", p.started), "stdbuf", "-oL", "xtables-monitor", "--event")
	if err != nil {
		p.Fatal(err)
	}
	p.until("the monitor listens", func(context.Context) error { return p.singRule(m) })
	return m
}

// singRule has a chain of nobody's come and go, and says whether the monitor has told so.
func (p *policed) singRule(m *lab.Process) error {
	p.Helper()
	p.shell("iptables-nft -w -N CANARY; iptables-nft -w -X CANARY")
	log, err := m.Log()
	if err == nil && !strings.Contains(log, "CANARY") {
		err = errors.New("not heard")
	}
	return err
}

// rulesChanged ends the monitor and gives what has changed.
func (p *policed) rulesChanged(m *lab.Process) string {
	p.Helper()
	if m == nil {
		return ""
	}
	log, err := m.Log()
	n := strings.Count(log, "CANARY")
	p.shell("iptables-nft -w -N CANARY; iptables-nft -w -X CANARY")
	p.until("the monitor has heard everything", func(context.Context) error {
		if log, err = m.Log(); err == nil && strings.Count(log, "CANARY") < n+2 {
			err = errors.New("not heard")
		}
		return err
	})
	if err := m.Kill(); err != nil {
		p.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "CANARY") && !strings.HasPrefix(line, " NEWGEN") && strings.Contains(line, "EVENT: ") {
			all = append(all, line)
		}
	}
	return strings.Join(all, "")
}

// TestBackendIsSwitched has another backend named while the agent runs: what is forbidden never passes, what is allowed
// always does, and the backend that was left has nothing of ours.
func TestBackendIsSwitched(t *testing.T) {
	p := newPoliced(t, "NFT")
	kube := p.plantKube()
	p.holds("before")
	since := p.now()
	for i, to := range []string{"Legacy", "NFT", "Legacy"} {
		from := p.backend
		p.backend = to
		p.koratctl(p.h, "apply", felixDefault(to, ""))
		if i == 2 { // in the middle of it
			if err := p.agent.Kill(); err != nil {
				t.Error(err)
			}
			p.agent = p.start(p.h)
			p.ready(p.agent)
		}
		p.until("nothing of ours is left in "+from, func(ctx context.Context) error {
			ours, _, err := p.filter(ctx, p.h, from)
			if err == nil && strings.Contains(ours, "-save") {
				err = errors.New(ours)
			}
			return err
		})
		p.goesOn(to)
		if ours, _, err := p.filter(p.limit(), p.h, to); err != nil || !strings.Contains(ours, "-A cali-pi-np/default/server ") {
			t.Errorf("%s: %v\n%s", to, err, ours)
		}
	}
	p.lostNone("switches", since)
	p.noneIn("switches", since)
	if err := kube.Kill(); err != nil {
		t.Error(err)
	}
}
