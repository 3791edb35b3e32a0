// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"korat/test/lab"
)

// policed is a host with a policy: two ports of the server's are for clients alone. Client and stranger send to them.
type policed struct {
	*world
	h                        *lab.Host
	backend                  string
	agent                    *lab.Agent
	server, client, stranger *lab.Pod
	// allowed and forbidden are what client and stranger send, of which nothing is answered: each packet of it is a new
	// connection's. Established is what the client sends and is answered, and intruding what the stranger would have
	// answered: once let in, it is a known connection's.
	allowed, forbidden, established, intruding *flow
}

// serverPolicy has a set of its own, of clients.
const serverPolicy = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: server}
spec:
  selector: role == 'server'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: UDP, source: {selector: role == 'client'}, destination: {ports: ["7000:7001"]}}
  - {action: Allow, protocol: ICMP}
  - {action: Allow, protocol: ICMPv6}
`

// felixDefault is the FelixConfiguration with a backend and short periods of the reading of what tells nothing of changes.
func felixDefault(backend, more string) string {
	return "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\n" +
		"spec: {iptablesBackend: " + backend + ", iptablesRefreshInterval: 1s, ipsetsRefreshInterval: 1s" + more + "}\n"
}

// eachBackend runs a test with each of iptables' backends.
func eachBackend(t *testing.T, test func(*policed)) {
	t.Helper()
	eachUnstarted(t, func(p *policed) {
		p.agent = p.start(p.h)
		p.begin()
		test(p)
	})
}

// eachUnstarted has no agent yet.
func eachUnstarted(t *testing.T, test func(*policed)) {
	t.Helper()
	t.Parallel()
	for _, backend := range []string{"NFT", "Legacy"} {
		t.Run(backend, func(t *testing.T) { test(unstarted(t, backend)) })
	}
}

// newPoliced starts the agent, and all that is sent.
func newPoliced(t *testing.T, backend string) *policed {
	t.Helper()
	p := unstarted(t, backend)
	p.agent = p.start(p.h)
	p.begin()
	return p
}

// unstarted has no agent yet.
func unstarted(t *testing.T, backend string) *policed {
	t.Helper()
	w := hostsOf(t, lab.Dual, 1, "")
	return &policed{world: w, h: w.host("a"), backend: backend}
}

// begin makes policy and pods with an agent that runs.
func (p *policed) begin() {
	p.Helper()
	p.choose()
	p.koratctl(p.h, "apply", serverPolicy)
	p.server, p.client, p.stranger = p.labelled("server"), p.labelled("client"), p.labelled("stranger")
	p.serve()
	since := p.now()
	p.until("the policy is in force", func(context.Context) error { return p.inForce(since) })
}

// choose makes an agent that runs use the backend.
func (p *policed) choose() {
	p.Helper()
	p.ready(p.agent)
	p.settled(p.h)
	p.koratctl(p.h, "apply", felixDefault(p.backend, ""))
	p.until("the backend is "+p.backend, func(context.Context) error {
		log, err := p.agent.Log()
		if err == nil && !strings.Contains(log, "backend="+p.backend+" reason=configured") {
			err = fmt.Errorf("not by the log")
		}
		return err
	})
}

// labelled makes a pod of which the label role is its name.
func (p *policed) labelled(name string) *lab.Pod {
	p.Helper()
	pod, err := p.h.AddPod(p.limit(), lab.PodConfig{Name: name, Labels: map[string]string{"role": name}})
	if err != nil {
		p.Fatal(err)
	}
	return pod
}

// serve has the server listen, and the other two send.
func (p *policed) serve() {
	p.Helper()
	silent := p.receiver(p.server, 7000, false)
	p.allowed, p.forbidden = p.send(silent, p.client), p.send(silent, p.stranger)
	answering := p.receiver(p.server, 7001, true)
	p.established, p.intruding = p.send(answering, p.client), p.send(answering, p.stranger)
}

// inForce says whether of what has been sent since then what is allowed has been let through of late, and nothing else.
func (p *policed) inForce(since moment) error {
	for _, c := range []struct {
		*flow
		from    int
		allowed bool
	}{{p.allowed, since.allowed, true}, {p.established, since.established, true}, {p.forbidden, since.forbidden, false}, {p.intruding, since.intruding, false}} {
		want := 0
		if c.allowed {
			want = some
		}
		if n, of := c.lately(c.from); of < some || n != want {
			return fmt.Errorf("of the last %d packets %d have passed, allowed: %t", of, n, c.allowed)
		}
	}
	return nil
}

// holds wants what is allowed to pass from now on for a while, and what is forbidden not to.
func (p *policed) holds(what string) {
	p.Helper()
	since := p.now()
	p.goesOn(what)
	p.lostNone(what, since)
	p.noneIn(what, since)
}

// moment is the number of the next packet of each flow.
type moment struct{ allowed, established, forbidden, intruding int }

func (p *policed) now() moment {
	return moment{p.allowed.next(), p.established.next(), p.forbidden.next(), p.intruding.next()}
}

// noneIn wants nothing to have passed since then that is forbidden.
func (p *policed) noneIn(what string, since moment) {
	p.Helper()
	if n := len(p.forbidden.passed(since.forbidden)); n > 0 {
		p.Errorf("%s: %d packets forbidden have passed", what, n)
	}
	if n := len(p.intruding.passed(since.intruding)); n > 0 {
		p.Errorf("%s: %d packets of a forbidden connection have passed", what, n)
	}
}

// lostNone wants all to have passed since then that is allowed.
func (p *policed) lostNone(what string, since moment) {
	p.Helper()
	if lost := p.lost(p.allowed, since.allowed); lost > 0 {
		p.Errorf("%s: %d packets allowed did not pass", what, lost)
	}
	if lost := p.lost(p.established, since.established); lost > 0 {
		p.Errorf("%s: %d packets of an established connection did not pass", what, lost)
	}
}

// lost counts packets from a number on that have not come, with some time for what a busy machine is late with.
func (p *policed) lost(f *flow, from int) int {
	end := f.next()
	ctx, cancel := context.WithTimeout(p.ctx, time.Second)
	defer cancel()
	err := lab.Until(ctx, "no packet is lost", func(context.Context) error {
		if lost := f.lost(from, end); lost > 0 {
			return fmt.Errorf("%d packets are lost", lost)
		}
		return nil
	})
	if err == nil {
		return 0
	}
	return f.lost(from, end)
}

// goesOn waits until some packets of each kind have been sent, and what is allowed passes.
func (p *policed) goesOn(what string) {
	p.Helper()
	since := p.now()
	p.until(what+": packets are sent", func(context.Context) error {
		for _, c := range []struct {
			*flow
			from int
		}{{p.allowed, since.allowed}, {p.established, since.established}} {
			if n, of := c.lately(c.from); of < some || n < of {
				return fmt.Errorf("of the last %d packets allowed %d have passed", of, n)
			}
		}
		return nil
	})
}

// programs gives the name of one of the backend's programs for each family.
func programs(backend, suffix string) []string {
	b := strings.ToLower(backend)
	return []string{"iptables-" + b + suffix, "ip6tables-" + b + suffix}
}

var (
	chainCounters = regexp.MustCompile(`\[\d+:\d+\]`)
	setInternal   = regexp.MustCompile(` (hashsize|bucketsize|initval) \S+`)
)

// filter gives what a host has of its packet filter: what is ours, and what is others', in its order.
func (w *world) filter(ctx context.Context, h *lab.Host, backend string) (ours, theirs string, err error) {
	var all []string
	for _, program := range programs(backend, "-save") {
		out, err := h.Exec(ctx, program, "-c")
		if err != nil {
			return "", "", err
		}
		all = append(all, rulesOf(program, out)...)
	}
	out, err := h.Exec(ctx, "ipset", "save")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(setInternal.ReplaceAllString(out, "")) {
		all = append(all, strings.TrimSpace(line))
	}
	ours, theirs = sortOut(all)
	return ours, theirs, nil
}

// sortOut gives the lines that are ours, with where our rules in the kernel's own chains are, and others'. Tables, chains and
// sets come in any order.
func sortOut(all []string) (ours, theirs string) {
	slices.SortStableFunc(all, func(a, b string) int { return strings.Compare(chainIn(a), chainIn(b)) })
	var own, foreign []string
	for i, line := range all {
		switch {
		case !strings.Contains(line, "cali"):
			foreign = append(foreign, line)
		case kernelsOwn.MatchString(line):
			own = append(own, fmt.Sprintf("%s (others before: %t, behind: %t)", line, others(all[:i], line), others(all[i:], line)))
		default:
			own = append(own, line)
		}
	}
	return strings.Join(own, "\n"), strings.Join(foreign, "\n")
}

// kernelsOwn matches the rules in the kernel's own chains.
var kernelsOwn = regexp.MustCompile(` -A [A-Z]+ `)

// others says whether there is a rule of others' in the chain of a rule.
func others(all []string, rule string) bool {
	return slices.ContainsFunc(all, func(line string) bool {
		return chainIn(line) == chainIn(rule) && !strings.Contains(line, "cali")
	})
}

// rulesOf gives the lines of iptables-save with the program and the table in front, without most counters.
func rulesOf(program, text string) []string {
	var all []string
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"), line == "COMMIT":
			continue
		case strings.HasPrefix(line, "*"):
			table = line
			continue
		case !strings.Contains(line, keepsCounters):
			line = strings.TrimSpace(chainCounters.ReplaceAllString(line, ""))
		}
		all = append(all, program+" "+table+" "+line)
	}
	return all
}

// chainIn gives what a line is of: "iptables-nft-save *filter -A FORWARD", or all of it.
func chainIn(line string) string {
	words := strings.Fields(line)
	if at := slices.Index(words, "-A"); at >= 0 && at+1 < len(words) {
		return strings.Join(append(words[:2:2], words[at:at+2]...), " ")
	}
	return line
}

// keepsCounters is a chain of others' of which the counters count.
const keepsCounters = "KUBE-EXTERNAL-SERVICES"

// kubeProxy is what a kube-proxy has, and writes again and again.
const kubeProxy = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SVC-X - [0:0]
:KUBE-SEP-A - [0:0]
:KUBE-SEP-B - [0:0]
-A KUBE-SERVICES -d ADDRESS -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80 -j KUBE-SVC-X
-A KUBE-SVC-X -m comment --comment "default/web:http" -m statistic --mode random --probability 0.33332999982 -j KUBE-SEP-A
-A KUBE-SVC-X -m comment --comment "default/web:http" -j KUBE-SEP-B
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-SERVICES - [0:0]
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
COMMIT
`

// kubeHooks lead there, and have what kube-proxy writes seldom, with counters.
const kubeHooks = `*nat
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
COMMIT
*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
[77:4711] -A KUBE-EXTERNAL-SERVICES -d ADDRESS -j REJECT
COMMIT
`

// plantKube has a kube-proxy's rules planted, and gives a process that writes its own chains again and again.
func (p *policed) plantKube() *lab.Process {
	p.Helper()
	loop := "set -e; while :; do"
	for i, program := range programs(p.backend, "-restore") {
		address := []string{"203.0.113.10/32", "2001:db8::10/128"}[i]
		text := strings.ReplaceAll(kubeProxy, "ADDRESS", address)
		p.restore(program, text)
		p.restore(program, strings.ReplaceAll(kubeHooks, "ADDRESS", address))
		file := "/run/kube-" + program
		if err := p.h.WriteFile(file, []byte(text), 0o600); err != nil {
			p.Fatal(err)
		}
		loop += " " + program + " -w --noflush " + file + ";"
	}
	p.run(p.h, "ipset create KUBE-CLUSTER-IP hash:ip,port")
	p.run(p.h, "ipset add KUBE-CLUSTER-IP 203.0.113.10,tcp:80")
	process, err := p.h.Start("kube-proxy", "sh", "-c", loop+" done")
	if err != nil {
		p.Fatal(err)
	}
	return process
}

// restore gives a program a text, beside what there is.
func (p *policed) restore(program, text string) {
	p.Helper()
	if r := p.try(p.h, text, program, "-w", "--noflush", "-c"); r.status != 0 {
		p.Fatalf("%s: status %d: %s", program, r.status, r.stderr)
	}
}
