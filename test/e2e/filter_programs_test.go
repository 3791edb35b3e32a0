// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"korat/test/lab"
)

// ownPrograms is a directory of a host that has iptables' programs and no others.
const ownPrograms = "/run/programs"

// install puts iptables' programs there, as links.
func (p *policed) install() {
	p.Helper()
	p.shell("mkdir -p " + ownPrograms + "; for i in /usr/sbin/*tables*; do ln -sf $i " + ownPrograms + "/; done")
}

// replaced has a script in the place of programs, or nothing.
func (p *policed) replaced(script string, names ...string) {
	p.Helper()
	for _, name := range names {
		p.shell("rm " + ownPrograms + "/" + name)
		if script == "" {
			continue
		}
		if err := p.h.WriteFile(ownPrograms+"/"+name, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			p.Fatal(err)
		}
	}
}

// startWith starts an agent that finds its programs there alone.
func (p *policed) startWith(path string) *lab.Agent {
	p.Helper()
	program, err := filepath.Abs(binDir + "/korat-node")
	if err != nil {
		p.Fatal(err)
	}
	process, err := p.h.Start(lab.AgentLog, "/usr/bin/env", "PATH="+path, program, "run")
	if err != nil {
		p.Fatal(err)
	}
	return &lab.Agent{Process: process, Host: p.h}
}

// TestProgramsFail has iptables' programs missing, failing and hanging when an agent starts, and later: no pod is
// reached, each ADD waits or says why, and all is well as soon as they are.
func TestProgramsFail(t *testing.T) { eachUnstarted(t, programsFail) }

// mishap is what becomes of programs: a script takes their place, or nothing.
type mishap struct {
	name, script, why string
	programs          []string
	// lasts says that it goes on for longer than an ADD waits.
	lasts bool
}

func (p *policed) mishaps() []mishap {
	restore, read := programs(p.backend, "-restore"), programs(p.backend, "-save")
	if p.backend == "NFT" { // of which the agent reads the chain alone that it is told of, and all when this has failed
		read = append(read, programs(p.backend, "")...)
	}
	return []mishap{
		{name: "exits", script: "exit 4", why: "ended: exit status 4", programs: restore},
		{name: "complains", script: "echo 'iptables-restore: no such luck' >&2; exit 4", why: "no such luck", programs: restore},
		{name: "ends at once", script: "exit 0", why: "ended before its time", programs: restore},
		{name: "reads nothing", script: "echo 'iptables: nothing to see' >&2; exit 1", why: "nothing to see", programs: read},
		{name: "is gone", why: "executable file not found", programs: restore},
		{name: "hangs", script: "exec /bin/sleep 1000", why: "no answer for 20", programs: restore, lasts: true},
	}
}

func programsFail(p *policed) {
	p.install()
	p.shell("rm " + ownPrograms + "/*-restore")
	p.agent = p.startWith(ownPrograms)
	p.notReady(p.h, "install iptables")
	p.koratctl(p.h, "apply", felixDefault(p.backend, ""))
	p.refusedFor("iptables backend " + p.backend + ": install iptables")
	p.install()
	p.begin()
	since := p.now()
	for _, m := range p.mishaps() {
		p.happens(m)
	}
	p.ready(p.agent)
	p.lostNone("meanwhile", since)
	p.noneIn("meanwhile", since)
	p.isFresh()
}

// happens has programs fail in the middle of a run, and a pod be attached meanwhile.
func (p *policed) happens(m mishap) {
	p.Helper()
	p.replaced(m.script, m.programs...)
	for _, pid := range p.writers() {
		p.kill(pid, syscall.SIGKILL)
	}
	// Somebody else's change has it notice.
	iptables := programs(p.backend, "")[0]
	p.shell(iptables + " -w -I FORWARD -d 203.0.113.1 -j ACCEPT")
	p.notReady(p.h, m.why)
	p.Logf("%s: %s", m.name, p.problems())
	if m.lasts {
		_, err := p.h.AddPod(p.limit(), lab.PodConfig{Name: "refused"})
		p.isCNIError(err, 11, "chains has taken ")
	}
	attached := make(chan error, 1)
	go func() {
		_, err := p.attach(strings.ReplaceAll(m.name, " ", "-"), "client")
		attached <- err
	}()
	p.shell(iptables + " -w -D FORWARD -d 203.0.113.1 -j ACCEPT")
	p.install()
	if err := <-attached; err != nil {
		p.Errorf("%s: %v", m.name, err)
	}
}

// refusedFor has an ADD fail, and nothing left of it, and the agent say that it is not ready, all with the reason.
func (p *policed) refusedFor(why string) {
	p.Helper()
	p.notReady(p.h, why)
	_, err := p.h.AddPod(p.limit(), lab.PodConfig{Name: "refused"})
	p.isCNIError(err, 11, why)
	p.notReady(p.h, why)
	if out := p.run(p.h, "ip route show proto 75"); strings.Count(out, "dev cali") != len(p.h.Pods()) {
		p.Errorf("pods %d, routes\n%s", len(p.h.Pods()), out)
	}
}

// problems are those of the node's status.
func (p *policed) problems() string {
	p.Helper()
	s, err := p.status(p.limit(), p.h)
	if err != nil {
		p.Fatal(err)
	}
	return strings.Join(s.Problems, "\n")
}

// portsPolicy takes a match for many ports, and of them alone for the pods that it is of.
const portsPolicy = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: ports}
spec:
  selector: role == 'ports'
  ingress:
  - {action: Allow, protocol: UDP, destination: {ports: [7000, 7003, 7005]}}
`

// TestRefusedRule has rules that iptables does not know a match for: an installation without one of its extensions. The
// endpoints that need them are closed, all others go on, and the status names chain and reason, until it is there.
func TestRefusedRule(t *testing.T) { eachUnstarted(t, refusedRule) }

func refusedRule(p *policed) {
	p.install()
	p.shell("mkdir /run/extensions; ln -s " + extensions(p) + "/* /run/extensions/; rm /run/extensions/libxt_multiport.so")
	for _, name := range programs(p.backend, "-restore") {
		p.replaced("XTABLES_LIBDIR=/run/extensions exec /usr/sbin/"+name+` "$@"`, name)
	}
	p.agent = p.startWith(ownPrograms)
	p.begin()
	since := p.now()
	p.koratctl(p.h, "apply", portsPolicy)
	closed, err := p.attach("closed", "ports")
	if err != nil {
		p.Fatal(err)
	}
	in := p.send(p.receiver(closed, 7000, false), p.client)
	p.until("the status names it", func(context.Context) error {
		if text := p.problems(); !strings.Contains(text, "policy: ") || !strings.Contains(text, "filter cali-pi-np/default/ports: ") || !strings.Contains(text, "multiport") {
			return errors.New(text)
		}
		return nil
	})
	p.Log(p.problems())
	p.ready(p.agent)
	p.goesOn("refused")
	if n := len(in.passed(0)); n > 0 {
		p.Errorf("%d packets have passed to a pod of which the policy was refused", n)
	}
	if _, err := p.attach("another", "client"); err != nil {
		p.Error(err)
	}
	p.koratctl(p.h, "delete", "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: ports}\n")
	from := in.next()
	p.opens("a policy without it", in, from)
	p.koratctl(p.h, "apply", portsPolicy)
	p.until("it is refused again", func(context.Context) error {
		if text := p.problems(); !strings.Contains(text, "cali-pi-np/default/ports") {
			return errors.New(text)
		}
		return nil
	})
	p.shell("ln -s " + extensions(p) + "/libxt_multiport.so /run/extensions/")
	from = in.next()
	p.opens("the extension is there", in, from)
	p.until("the status is good", func(context.Context) error {
		if text := p.problems(); text != "" {
			return errors.New(text)
		}
		return nil
	})
	p.lostNone("meanwhile", since)
	p.noneIn("meanwhile", since)
	p.isFresh()
}

// opens waits until a flow passes.
func (p *policed) opens(what string, f *flow, from int) {
	p.Helper()
	p.until(what+": packets pass", func(context.Context) error {
		if n, of := f.lately(from); of < some || n < of {
			return fmt.Errorf("of the last %d packets %d have passed", of, n)
		}
		return nil
	})
}

// extensions is where iptables has its own.
func extensions(p *policed) string {
	p.Helper()
	found, err := filepath.Glob("/usr/lib/*/xtables/libxt_multiport.so")
	if err != nil || len(found) != 1 {
		found = []string{"/usr/lib/xtables/libxt_multiport.so"}
	}
	if _, err := os.Stat(found[0]); err != nil {
		p.Fatal(err)
	}
	return filepath.Dir(found[0])
}

// denyPolicy lets everybody in but the strangers, of whom a set has the addresses.
const denyPolicy = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: strangers}
spec:
  selector: role == 'open'
  types: [Ingress]
  ingress:
  - {action: Deny, source: {selector: role == 'stranger'}}
  - {action: Allow}
`

// TestSetIsFull has a set that may have no more members. What it lacks may be what a rule denies: the pods that need it are
// closed, and no others, until it may have as many as it is to have.
func TestSetIsFull(t *testing.T) {
	eachBackend(t, func(p *policed) {
		since := p.now()
		p.koratctl(p.h, "apply", denyPolicy)
		open := p.labelled("open")
		in := p.receiver(open, 7000, false)
		client, stranger := p.send(in, p.client), p.send(in, p.stranger)
		p.opens("before", client, 0)
		p.koratctl(p.h, "apply", felixDefault(p.backend, ", maxIpsetSize: 2"))
		p.until("sets are made for two", func(ctx context.Context) error {
			out, err := p.h.Exec(ctx, "ipset", "save")
			if err == nil && (strings.Contains(out, "maxelem 1048576") || !strings.Contains(out, "maxelem 2")) {
				err = errors.New(out)
			}
			return err
		})
		p.holds("sets of another size")
		late := []*flow{}
		for i := range 2 {
			pod, err := p.attach(fmt.Sprintf("stranger-%d", i), "stranger")
			if err != nil {
				t.Fatal(err)
			}
			late = append(late, p.send(in, pod))
		}
		p.until("the status names it", func(context.Context) error {
			if text := p.problems(); !strings.Contains(text, "cali-pi-np/default/strangers: ") || !strings.Contains(text, "raise maxIpsetSize in the FelixConfiguration") {
				return errors.New(text)
			}
			return nil
		})
		p.Log(p.problems())
		p.ready(p.agent)
		from := client.next()
		p.holds("full")
		if n := len(client.passed(from + some)); n > 0 {
			t.Errorf("%d packets have passed to a pod of which a set is full", n)
		}
		p.koratctl(p.h, "apply", felixDefault(p.backend, ", maxIpsetSize: 100"))
		p.opens("there is room again", client, client.next())
		for _, f := range append(late, stranger) {
			if n := len(f.passed(0)); n > 0 {
				t.Errorf("%d packets of a stranger have passed", n)
			}
		}
		if text := p.problems(); text != "" {
			t.Error(text)
		}
		p.lostNone("meanwhile", since)
		p.noneIn("meanwhile", since)
		p.isFresh()
	})
}
