// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"korat/api"
	"korat/cmd/koratctl/show"
	"korat/policy/explain"
	"korat/test/lab"
)

const explainedPolicies = `
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: security}
spec: {order: 100}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: watch}
spec:
  tier: security
  order: 5
  selector: role == 'db'
  types: [Ingress]
  ingress:
  - {action: Deny, protocol: UDP, destination: {ports: [99]}}
  - {action: Log, protocol: UDP, destination: {ports: [53]}}
  - {action: Pass}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: db}
spec:
  order: 20
  selector: role == 'db'
  types: [Ingress]
  ingress:
  - {action: Allow, source: {selector: role == 'web'}, protocol: UDP, destination: {ports: [80]}}
  - {action: Allow, source: {namespaceSelector: team == 'blue', selector: role == 'job'}, protocol: UDP, destination: {ports: [80]}}
  - {action: Deny, protocol: UDP, destination: {ports: [81]}}
---
apiVersion: projectcalico.org/v3
kind: StagedNetworkPolicy
metadata: {name: soon}
spec:
  order: 1
  selector: role == 'db'
  types: [Ingress]
  ingress: [{action: Deny, protocol: UDP, destination: {ports: [80]}}]
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: job}
spec:
  selector: role == 'job'
  types: [Egress]
  egress:
  - {action: Deny, protocol: UDP, destination: {ports: [443]}}
  - {action: Allow, destination: {ports: [80, 81, 82], selector: role == 'db'}, protocol: UDP}
  - {action: Allow, protocol: TCP}
`

// explainedWorld is hosts a, b and c, with the pods web on a, db and near on b, and job on c.
type explainedWorld struct {
	*world
	web, db, near, job *lab.Pod
}

func newExplainedWorld(t *testing.T) *explainedWorld {
	t.Helper()
	w := &explainedWorld{world: clusterOf(t, lab.Dual, 3)}
	a, b, c := w.host("a"), w.host("b"), w.host("c")
	w.web, w.db, w.near, w.job = w.labelled(a, "web", "web"), w.labelled(b, "db", "db"), w.labelled(b, "near", "web"), w.labelled(c, "job", "job")
	w.echoes(w.db)
	w.koratctl(a, "apply", explainedPolicies)
	w.settledPolicies()
	return w
}

// settledPolicies waits until the agents of both ends have all rules in the kernel.
func (w *explainedWorld) settledPolicies() {
	w.Helper()
	for _, at := range []struct {
		host     string
		from, to *lab.Pod
	}{{"a", w.web, w.db}, {"b", w.near, w.db}, {"c", w.job, w.db}} {
		w.until("rules are in the kernel of "+at.host, func(context.Context) error {
			e := w.explained(w.host(at.host), "--from", podName(at.from), "--to", podName(at.to), "--proto", "udp", "--port", "80")
			for _, s := range e.Verdict.Sides {
				if l := s.Decided.Located; s.Node == at.host && (l == nil || l.Expected) {
					return fmt.Errorf("not for %s: %v", s.Endpoint, e.Verdict.Notes)
				}
			}
			return nil
		})
	}
}

func podName(p *lab.Pod) string { return p.Namespace + "/" + p.Name }

// explained is what koratctl explain says on a host.
func (w *explainedWorld) explained(h *lab.Host, args ...string) show.Explained {
	w.Helper()
	r := w.try(h, "", append([]string{"koratctl", "explain", "-o", "json"}, args...)...)
	var e show.Explained
	if err := json.Unmarshal([]byte(r.stdout), &e); err != nil {
		w.Fatalf("explain %v: status %d: %s%s", args, r.status, r.stdout, r.stderr)
	}
	if allowed := r.status == 0; allowed != e.Verdict.Allowed || r.status > 1 {
		w.Errorf("explain %v: status %d, allowed: %t", args, r.status, e.Verdict.Allowed)
	}
	return e
}

// knock sends one datagram from a port of its own: to the connection tracking it is a new flow.
func (w *explainedWorld) knock(from *lab.Pod, to netip.Addr, port string) (sender netip.AddrPort) {
	w.Helper()
	c, err := from.Dial(w.limit(), "udp", net.JoinHostPort(to.String(), port))
	if err == nil {
		_, err = c.Write([]byte("knock"))
		sender = netip.MustParseAddrPort(c.LocalAddr().String())
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		w.Fatal(err)
	}
	return sender
}

// TestExplain asks on the nodes of both ends what becomes of flows, sends some of them, and wants the rule that explain
// names to be there with that number, and to have counted just these.
func TestExplain(t *testing.T) {
	w := newExplainedWorld(t)
	const profile = "profile kns.default"
	for _, c := range []struct {
		from, to *lab.Pod
		port     string
		allowed  bool
		// by is what decides at both ends: a policy and the number of its rule, or a tier's end.
		egress, ingress string
	}{
		{w.web, w.db, "80", true, profile + " 0", "np/default/db 0"},
		{w.near, w.db, "80", true, profile + " 0", "np/default/db 0"},
		{w.web, w.db, "81", false, profile + " 0", "np/default/db 2"},
		{w.web, w.db, "99", false, profile + " 0", "gnp/watch 0"},
		{w.near, w.db, "82", false, profile + " 0", "tier default"},
		{w.job, w.db, "80", false, "np/default/job 1", "tier default"},
		{w.job, w.db, "443", false, "np/default/job 0", ""},
		{w.job, w.web, "80", false, "tier default", ""},
		{w.db, w.web, "80", true, profile + " 0", profile + " 0"}, // the reverse
	} {
		for family := range 2 {
			args := []string{"--from", podName(c.from), "--to", podName(c.to), "--proto", "udp", "--port", c.port}
			if family == 1 {
				args = append(args, "--ipv6")
			}
			t.Run(strings.Join(args, " "), func(t *testing.T) {
				in := *w
				in.world = &world{T: t, Cluster: w.Cluster, ctx: w.ctx}
				in.compares(args, []*lab.Pod{c.from, c.to}, c.allowed, []string{c.egress, c.ingress}, func() {
					in.knock(c.from, c.to.Addresses()[family], c.port)
				})
			})
		}
	}
	t.Run("staged", w.countsStaged)
	t.Run("addresses", func(t *testing.T) {
		e := w.explained(w.host("b"), "--from", "192.0.2.7", "--to", podName(w.db), "--port", "80")
		if e.Verdict.Allowed || len(e.Verdict.Sides) != 1 || e.Verdict.Sides[0].Decided.Located == nil {
			t.Errorf("%+v", e.Verdict)
		}
		e = w.explained(w.host("b"), "--from", w.db.Address().String(), "--to", "192.0.2.7", "--port", "80")
		if !e.Verdict.Allowed || e.From.Name != podName(w.db) || e.Verdict.Sides[0].Decided.Located == nil {
			t.Errorf("%+v", e)
		}
	})
}

// countsStaged wants explain to say where a staged policy's rule is, and what it has counted.
func (w *explainedWorld) countsStaged(t *testing.T) {
	ask := []string{"--from", podName(w.web), "--to", podName(w.db), "--proto", "udp", "--port", "80"}
	before := w.staged(w.host("b"), ask)
	if elsewhere := w.staged(w.host("a"), ask); !elsewhere.Expected || elsewhere.Chain != before.Chain || elsewhere.Number != before.Number {
		t.Errorf("a says of b's rule %+v, which is %+v", elsewhere, before)
	}
	for range 3 {
		w.knock(w.web, w.db.Address(), "80")
	}
	w.until("the packets have been counted", func(context.Context) error {
		if after := w.staged(w.host("b"), ask); after.Packets != before.Packets+3 {
			return fmt.Errorf("%d packets, and %d before", after.Packets, before.Packets)
		}
		return nil
	})
	rule := w.run(w.host("b"), fmt.Sprintf("iptables -vnx -L %s %d", before.Chain, before.Number))
	if fields := strings.Fields(rule); fields[0] != strconv.FormatUint(before.Packets+3, 10) || !slices.Contains(fields, "NFLOG") {
		t.Errorf("the rule is %s", rule)
	}
}

// staged gives where the rule is by which the staged policy would decide.
func (w *explainedWorld) staged(h *lab.Host, ask []string) explain.Located {
	w.Helper()
	e := w.explained(h, ask...)
	for _, s := range e.Verdict.Sides {
		for _, tier := range s.Tiers {
			for _, p := range tier.Policies {
				if p.Staged && p.Located != nil {
					return *p.Located
				}
			}
		}
	}
	w.Fatalf("%s does not say where the staged rule is: %+v", h.Name, e.Verdict)
	return explain.Located{}
}

// compares asks on the node of each end, before and after some flows have begun.
func (w *explainedWorld) compares(args []string, ends []*lab.Pod, allowed bool, deciding []string, begin func()) {
	w.Helper()
	const flows = 3
	var before [2]explain.Located
	for i, end := range ends {
		if e := w.explained(end.Host, args...); deciding[i] != "" {
			before[i] = w.located(end.Host, &e, i)
		}
	}
	for range flows {
		begin()
	}
	for i, end := range ends {
		want := uint64(flows)
		if deciding[i] == "" { // or nobody sees it
			continue
		}
		if i == 1 && w.deniedBefore(args, end.Host) {
			want = 0
		}
		w.until("the packets have been counted", func(context.Context) error {
			e := w.explained(end.Host, args...)
			if have := decidedBy(&e.Verdict.Sides[i]); e.Verdict.Allowed != allowed || have != deciding[i] {
				w.Fatalf("allowed: %t by %s, want %t by %s", e.Verdict.Allowed, have, allowed, deciding[i])
			}
			at := w.located(end.Host, &e, i)
			if at.Chain != before[i].Chain || at.Number != before[i].Number {
				w.Fatalf("rule %d of %s was rule %d of %s", at.Number, at.Chain, before[i].Number, before[i].Chain)
			}
			if have := at.Packets - before[i].Packets; have != want {
				return fmt.Errorf("%d packets, want %d", have, want)
			}
			return nil
		})
		w.foretold(args, ends[1-i].Host, end.Host, i, before[i])
	}
}

// foretold wants another node to say where the rule is, by the datastore.
func (w *explainedWorld) foretold(args []string, here, there *lab.Host, side int, want explain.Located) {
	w.Helper()
	if here == there {
		return
	}
	e := w.explained(here, args...)
	at := e.Verdict.Sides[side].Decided.Located
	if at == nil || !at.Expected || at.Counted != nil || at.Table != want.Table || at.Chain != want.Chain || at.Number != want.Number {
		w.Errorf("%s says of %s's rule %+v, which is %+v", here.Name, there.Name, at, want)
	}
}

// deniedBefore says whether the first end's check fails, so that the second never sees the flow.
func (w *explainedWorld) deniedBefore(args []string, h *lab.Host) bool {
	w.Helper()
	e := w.explained(h, args...)
	return !e.Verdict.Sides[0].Allowed
}

// decidedBy says what has decided.
func decidedBy(s *explain.Side) string {
	if d := s.Decided; d.Policy != nil {
		return strings.TrimSpace(map[bool]string{true: "profile "}[d.Policy.Kind == "profile"] + fmt.Sprintf("%s %d", d.Policy, d.Rule))
	}
	return "tier " + s.Decided.Tier
}

// located gives where a side's rule is, and holds its counter against what iptables says.
func (w *explainedWorld) located(h *lab.Host, e *show.Explained, side int) explain.Located {
	w.Helper()
	s := e.Verdict.Sides[side]
	at := s.Decided.Located
	if at == nil || at.Expected {
		w.Fatalf("%s has no rule for %s of %s: %v", h.Name, s.Direction, s.Endpoint, e.Verdict.Notes)
	}
	program := "iptables"
	if e.From.Address.Is6() {
		program = "ip6tables"
	}
	// The rule that reports stands before the one that drops, and both see the same packets.
	fields := strings.Fields(w.run(h, fmt.Sprintf("%s -t %s -vnx -L %s %d", program, at.Table, at.Chain, at.Number)))
	if want := strconv.FormatUint(at.Packets, 10); len(fields) < 2 || fields[0] != want {
		w.Errorf("%s: rule %d of %s: explain has %s packets, %s %v", h.Name, at.Number, at.Chain, want, program, fields)
	}
	if s.Allowed && !slices.Contains(fields, "[goto]") || !s.Allowed && !slices.Contains(fields, "NFLOG") {
		w.Errorf("%s: rule %d of %s decides allowed: %t, and is %v", h.Name, at.Number, at.Chain, s.Allowed, fields)
	}
	return *at
}

// TestPolicyOrder lists what applies to a pod, in order, with its chains on its own node; and has labels of a pod and of a
// namespace changed, which takes effect.
func TestPolicyOrder(t *testing.T) {
	w := newExplainedWorld(t)
	a, b := w.host("a"), w.host("b")
	order := func(h *lab.Host, name string) explain.Order {
		t.Helper()
		var all []explain.Order
		if err := json.Unmarshal([]byte(w.run(h, "koratctl policy order -o json "+name)), &all); err != nil || len(all) != 1 {
			t.Fatal(err, len(all))
		}
		return all[0]
	}
	text := func(tiers []explain.OrderedTier) string {
		var all []string
		for _, tier := range tiers {
			for _, p := range tier.Policies {
				all = append(all, tier.Tier+" "+p.Policy.String())
			}
		}
		return strings.Join(all, ", ")
	}
	o := order(b, "default/db")
	if have, want := text(o.Ingress), "security gnp/watch, default snp/default/soon, default np/default/db"; have != want || len(o.Egress) > 0 {
		t.Errorf("have %s and %v, want %s", have, o.Egress, want)
	}
	if saved := w.run(b, "iptables-save -t filter"); len(o.Chains) < 2 || slices.ContainsFunc(o.Chains, func(c string) bool { return !strings.Contains(saved, ":"+c+" ") }) {
		t.Errorf("chains %v are not in the kernel", o.Chains)
	}
	if elsewhere := order(a, "default/db"); len(elsewhere.Chains) > 0 || text(elsewhere.Ingress) != text(o.Ingress) {
		t.Errorf("on another node: %+v", elsewhere)
	}

	ask := []string{"koratctl", "explain", "--from", "default/job", "--to", "default/db", "--proto", "udp", "--port", "80"}
	becomes := func(what string, status int) {
		t.Helper()
		r := w.try(b, "", ask...)
		if r.status != status {
			t.Errorf("%s: status %d, want %d: %s%s", what, r.status, status, r.stdout, r.stderr)
		}
		w.until(what, func(ctx context.Context) error {
			if passes := w.answers(w.job, w.db.Address()); passes != (status == 0) {
				return fmt.Errorf("passes: %t", passes)
			}
			return nil
		})
	}
	becomes("before", 1)
	w.run(a, "koratctl label namespace default team=blue")
	becomes("the namespace has its label", 0)
	w.run(a, "koratctl label namespace default team-")
	becomes("it has lost it", 1)
	w.run(a, "koratctl label pod job role=web --overwrite") // that frees it from its own policy, too
	becomes("the pod is another by its label", 0)
	if have := text(order(a, "default/job").Egress); have != "" {
		t.Errorf("policies for egress: %s", have)
	}
	w.run(a, "koratctl label pod job role-")
	becomes("it has none", 1)
}

// answers says whether a datagram comes back.
func (w *explainedWorld) answers(from *lab.Pod, to netip.Addr) bool {
	w.Helper()
	c, err := from.Dial(w.limit(), "udp", net.JoinHostPort(to.String(), echoPort))
	if err != nil {
		w.Fatal(err)
	}
	defer c.Close()
	s := &stream{}
	if _, err := c.Write([]byte("knock")); err != nil {
		return false
	}
	return s.hearDatagram(c, []byte("knock")) == nil && s.echoed.Load() == 1
}

// TestExplainWithoutAgent asks where nobody answers: on a node whose agent is down, and with the datastore down.
func TestExplainWithoutAgent(t *testing.T) {
	w := newExplainedWorld(t)
	b := w.host("b")
	ask := []string{"koratctl", "explain", "--from", podName(w.near), "--to", podName(w.db), "--proto", "udp", "--port", "80"}
	if r := w.try(b, "", ask...); r.status != 0 || strings.Count(r.stdout, "in the kernel: rule ") != 3 || strings.Contains(r.stdout, "Note") {
		t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
	}
	if err := w.Agents[1].Stop(w.limit()); err != nil {
		t.Fatal(err)
	}
	if r := w.try(b, "", ask...); r.status != 0 || !strings.Contains(r.stdout, "run this on b (no agent answers here)") {
		t.Errorf("without an agent: status %d: %s%s", r.status, r.stdout, r.stderr)
	}
	if r := w.try(b, "", "koratctl", "flows", "--follow"); r.status != 1 || !strings.Contains(r.stderr, "start korat-node on this host") {
		t.Errorf("flows: status %d: %s%s", r.status, r.stdout, r.stderr)
	}
	w.ready(w.start(b))
	if err := w.Agents[0].Stop(w.limit()); err != nil { // with its datastore
		t.Fatal(err)
	}
	if r := w.try(b, "", append(ask, "--timeout", "1s")...); r.status != 2 || !strings.Contains(r.stderr, "check that etcd runs at https://192.168.100.100:2379") {
		t.Errorf("without the datastore: status %d: %s%s", r.status, r.stdout, r.stderr)
	}
	f := w.follow(b, "-o", "json")
	f.tells("the agent has what it knew", string(api.Ingress)+" np/default/db 2", func() { w.knock(w.near, w.db.Address(), "81") })
}
