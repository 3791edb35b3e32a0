// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"korat/felix"
	"korat/test/lab"
)

// follower is koratctl flows on a host.
type follower struct {
	*world
	process *lab.Process
}

func (w *world) follow(h *lab.Host, args ...string) *follower {
	w.Helper()
	w.started++
	p, err := h.Start(fmt.Sprintf("flows-%d", w.started), append([]string{"koratctl", "flows", "--follow"}, args...)...)
	if err != nil {
		w.Fatal(err)
	}
	return &follower{w, p}
}

// told gives what has been told so far of -o json.
func (f *follower) told() []felix.ReportedPacket {
	f.Helper()
	log, err := f.process.Log()
	if err != nil {
		f.Fatal(err)
	}
	var all []felix.ReportedPacket
	for line := range strings.Lines(log) {
		if !strings.HasSuffix(line, "\n") {
			continue
		}
		var p felix.ReportedPacket
		d := json.NewDecoder(bytes.NewReader([]byte(line)))
		d.DisallowUnknownFields()
		if err := d.Decode(&p); err != nil {
			f.Fatalf("%q: %v", line, err)
		}
		all = append(all, p)
	}
	return all
}

// reportedBy gives "Ingress np/default/db 2", or why it was.
func reportedBy(p felix.ReportedPacket) string {
	if p.Policy == nil {
		return string(p.Direction) + " " + p.Why
	}
	return fmt.Sprintf("%s %s %d", p.Direction, p.Policy, *p.Rule)
}

// tells does something until it is told of what decided.
func (f *follower) tells(what, by string, do func()) {
	f.Helper()
	f.until(what, func(context.Context) error {
		do()
		all := f.told()
		for _, p := range all {
			if reportedBy(p) == by {
				return nil
			}
		}
		return fmt.Errorf("not told of among %d: %s", len(all), by)
	})
}

// TestFlows sends what is denied by a rule, by another node's, and at the end of a tier, what is logged, and what a staged policy
// would deny: koratctl flows tells of each packet on the node that decides, with the rule, and of nothing else.
func TestFlows(t *testing.T) {
	w := newExplainedWorld(t)
	b, c := w.follow(w.host("b"), "-o", "json"), w.follow(w.host("c"), "-o", "json")
	text := w.follow(w.host("b"))
	const denied81, denied443 = "Ingress np/default/db 2", "Egress np/default/job 0"
	b.tells("b is followed", denied81, func() { w.knock(w.near, w.db.Address(), "81") })
	c.tells("c is followed", denied443, func() { w.knock(w.job, w.db.Address(), "443") })
	text.until("b is followed by text", func(context.Context) error {
		w.knock(w.near, w.db.Address(), "81")
		if log, err := text.process.Log(); err != nil || !strings.Contains(log, "by ingress[2] of np/default/db\n") {
			return errors.Join(err, errors.New("nothing told"))
		}
		return nil
	})

	for _, s := range []struct {
		from *lab.Pod
		port string
		at   *follower
		want []string
	}{
		{w.web, "81", b, []string{"denied " + denied81 + " Deny "}},
		{w.web, "99", b, []string{"denied Ingress gnp/watch 0 Deny "}},
		{w.near, "53", b, []string{"logged Ingress gnp/watch 1 Log ", "denied Ingress no rule of tier default matches  "}},
		{w.web, "80", b, []string{"staged Ingress snp/default/soon 0 Deny "}},
		{w.job, "82", b, []string{"denied Ingress no rule of tier default matches  "}},
		{w.job, "443", c, []string{"denied " + denied443 + " Deny "}},
		{w.job, "9", c, []string{"denied Egress no rule of tier default matches  "}},
	} {
		for family := range 2 {
			sender := w.knock(s.from, w.db.Addresses()[family], s.port)
			var have []string
			w.until(fmt.Sprintf("%s to port %s is told of", sender, s.port), func(context.Context) error {
				have = nil
				for _, p := range s.at.told() {
					if p.From.Address != sender.Addr() || p.SourcePort != sender.Port() {
						continue
					}
					have = append(have, fmt.Sprintf("%s %s %s %s", p.Verdict, reportedBy(p), p.Action, p.Name))
					if p.From.Name != podName(s.from) || p.To.Name != podName(w.db) || p.To.Address != w.db.Addresses()[family] ||
						fmt.Sprint(p.DestinationPort) != s.port || p.Protocol != "UDP" || p.Length == 0 || p.Time.IsZero() {
						t.Errorf("%+v", p)
					}
				}
				if len(have) < len(s.want) {
					return fmt.Errorf("have %q, want %q", have, s.want)
				}
				return nil
			})
			if fmt.Sprint(have) != fmt.Sprint(s.want) {
				t.Errorf("%s to port %s: have %q, want %q", sender, s.port, have, s.want)
			}
		}
	}

	log, err := text.process.Log()
	if err != nil {
		t.Fatal(err)
	}
	if line := regexp.MustCompile(`(?m)^\S+Z denied ingress: UDP from default/web \([0-9.]+\) port \d+ to default/db \([0-9.]+\) port 99, by ingress\[0\] of gnp/watch$`); !line.MatchString(log) {
		t.Error(log)
	}
	// Who is interrupted ends; when the agent ends, so does who follows, and says so.
	if err := text.process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = text.process.Wait(w.limit())
	if err := w.Agents[1].Stop(w.limit()); err != nil {
		t.Fatal(err)
	}
	if err := b.process.Wait(w.limit()); err == nil {
		t.Error("flows goes on without an agent")
	}
	if log, _ := b.process.Log(); !strings.Contains(log, "connection to the agent broke") {
		t.Error(log)
	}
}
