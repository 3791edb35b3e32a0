// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"korat/test/lab"
)

// writers are the processes that write the rules of both families.
func (p *policed) writers() []int {
	var all []int
	for _, program := range programs(p.backend, "-restore") {
		all = append(all, p.h.Pids(program, "--noflush")...)
	}
	return all
}

// TestWritersKilled kills whatever writes rules, with pods that come and go and policies that change.
func TestWritersKilled(t *testing.T) {
	eachBackend(t, func(p *policed) {
		since := p.now()
		done, killed := make(chan struct{}), 0
		var killing, working sync.WaitGroup
		killing.Go(func() {
			random := rand.New(rand.NewPCG(4, 7))
			for {
				select {
				case <-done:
					return
				default:
				}
				for _, pid := range p.writers() {
					if random.IntN(4) > 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
						killed++
					}
				}
			}
		})
		for i := range 4 {
			working.Go(func() {
				for n := range 8 {
					p.comesAndGoes(fmt.Sprintf("pod-%d-%d", i, n), n%2 == 0)
				}
			})
		}
		for n := range 12 {
			p.koratctl(p.h, "apply", strings.NewReplacer("name: server}", fmt.Sprintf("name: other-%d}", n%3), "role == 'server'", "role == 'visitor'",
				"7000:7001", fmt.Sprintf("7000:%d", 7001+n)).Replace(serverPolicy))
		}
		working.Wait()
		close(done)
		killing.Wait()
		if killed < 10 {
			t.Errorf("%d processes were killed", killed)
		}
		for n := range 3 {
			p.run(p.h, fmt.Sprintf("koratctl delete networkpolicy other-%d", n))
		}
		p.ready(p.agent)
		p.holds("afterwards")
		p.lostNone("meanwhile", since)
		p.noneIn("meanwhile", since)
		p.isFresh()
	})
}

// attach has a pod attached, as a runtime does it: an ADD that fails is undone and tried again.
func (p *policed) attach(name, role string) (pod *lab.Pod, err error) {
	ctx, cancel := context.WithTimeout(p.ctx, 2*patience)
	defer cancel()
	var wrong error
	err = lab.Until(ctx, "ADD of "+name, func(ctx context.Context) (err error) {
		pod, err = p.h.AddPod(ctx, lab.PodConfig{Name: name, Labels: map[string]string{"role": role}})
		var refused *types.Error
		if err != nil && ctx.Err() == nil && (!errors.As(err, &refused) || refused.Code != 11) {
			wrong, err = err, nil
		}
		return err
	})
	return pod, errors.Join(err, wrong)
}

// comesAndGoes has a pod attached, and detached again unless it stays.
func (p *policed) comesAndGoes(name string, stays bool) {
	pod, err := p.attach(name, "visitor")
	if err == nil && !stays {
		err = pod.Delete(p.ctx)
	}
	if err != nil {
		p.Errorf("%s: %v", name, err)
	}
}

// isFresh wants chains and sets to be just what an agent that starts now wants.
func (p *policed) isFresh() {
	p.Helper()
	p.until("sets that nobody needs are gone", func(ctx context.Context) error {
		before, _, err := p.filter(ctx, p.h, p.backend)
		if err == nil && strings.Contains(before, "other-") {
			err = errors.New(before)
		}
		return err
	})
	if err := p.agent.Stop(p.limit()); err != nil {
		p.Error(err)
	}
	p.agent = p.start(p.h)
	p.ready(p.agent)
	p.readAgain()
	if n := p.metric(p.h, "korat_step_changes_total"); n != 0 {
		p.Errorf("a fresh agent makes %v changes", n)
	}
}

// TestWriterHangs stops the processes that write. Who asks for something meanwhile hears so in time, what others ask
// for is done afterwards, in its order, and nothing is more open than it was.
func TestWriterHangs(t *testing.T) {
	eachBackend(t, func(p *policed) {
		since := p.now()
		p.lateRules()
		stopped := p.writers()
		if len(stopped) != 2 {
			t.Fatalf("writers %v, want two", stopped)
		}
		for _, pid := range stopped {
			p.kill(pid, syscall.SIGSTOP)
		}
		p.heldUp("late", stopped)
		late, err := p.attach("late", "late")
		if err != nil {
			t.Fatal(err)
		}
		if len(p.writers()) == 2 && p.writers()[0] == stopped[0] {
			t.Error("those that hang are used again")
		}
		p.ready(p.agent)
		if err := reach(p.limit(), late, p.server.Address()); err != nil {
			t.Error(err)
		}
		p.lostNone("meanwhile", since)
		p.noneIn("meanwhile", since)
		p.isFresh()
	})
}

// lateRules has a policy for servers, and for pods of which there is none, so that the first one needs chains.
func (p *policed) lateRules() {
	p.Helper()
	p.koratctl(p.h, "apply", strings.NewReplacer("name: server}", "name: late}", "role == 'server'", "role in {'server', 'late'}").Replace(serverPolicy))
	p.programmed("late")
}

// heldUp has an ADD fail for a loop that is held up, and a policy applied that stands behind it.
func (p *policed) heldUp(name string, stopped []int) {
	p.Helper()
	_, err := p.h.AddPod(p.limit(), lab.PodConfig{Name: name, Labels: map[string]string{"role": "late"}})
	p.isCNIError(err, 11, "writing chains has taken ")
	p.notReady(p.h, "writing chains has taken ")
	s, err := p.status(p.limit(), p.h)
	if err != nil || !strings.Contains(strings.Join(s.Problems, "\n"), "kernel: writing chains has taken ") {
		p.Errorf("status %v, %v", s.Problems, err)
	}
	for _, f := range []*flow{p.allowed, p.established} {
		if n, of := f.lately(0); n != of {
			p.Errorf("while writers %v hang %d of %d packets pass", stopped, n, of)
		}
	}
}

// TestLockHeld has another program hold the xtables lock for ten seconds at least, and a rule of ours deleted meanwhile. Who
// writes the legacy backend's rules waits: nothing is lost, and an ADD says who has the lock. The other backend knows
// no lock, its kernel has writers take turns: all goes on.
func TestLockHeld(t *testing.T) {
	eachBackend(t, func(p *policed) {
		since := p.now()
		before := p.policyRules(p.limit())
		p.lateRules()
		holder := p.lock()
		writers := p.writers()
		// This one locks another file, as a program in a container of its own does.
		p.shell("XTABLES_LOCKFILE=/run/other.lock " + programs(p.backend, "")[0] + " -w -D cali-pi-np/default/server 2")
		p.koratctl(p.h, "apply", strings.Replace(serverPolicy, "name: server}", "name: more}", 1))
		if p.backend == "Legacy" {
			p.heldUp("late", writers)
			p.notReady(p.h, fmt.Sprintf("process %d (sleep) holds the xtables lock /run/xtables.lock", holder.PID))
			p.notReady(p.h, "writing chains has taken 1") // and some seconds
		} else {
			p.programmed("more")
			if _, err := p.h.AddPod(p.limit(), lab.PodConfig{Name: "meanwhile"}); err != nil {
				t.Error(err)
			}
		}
		if err := holder.Kill(); err != nil { // it holds it to the end
			t.Fatal(err)
		}
		if _, err := p.attach("late", "late"); err != nil {
			t.Error(err)
		}
		p.programmed("more")
		if now := p.writers(); fmt.Sprint(now) != fmt.Sprint(writers) {
			t.Errorf("the writers %v have become %v: they were to wait", writers, now)
		}
		p.run(p.h, "koratctl delete networkpolicy more late")
		p.until("the policies' rules are as they were", func(ctx context.Context) error {
			if now := p.policyRules(ctx); now != before {
				return fmt.Errorf("have\n%s\nwant\n%s", now, before)
			}
			return nil
		})
		p.lostNone("meanwhile", since)
		p.noneIn("meanwhile", since)
		p.isFresh()
	})
}

// lock has a program hold the xtables lock.
func (p *policed) lock() *lab.Process {
	p.Helper()
	holder, err := p.h.Start("lock", "flock", "--no-fork", "/run/xtables.lock", "sleep", "600")
	if err != nil {
		p.Fatal(err)
	}
	p.until("the lock is held", func(ctx context.Context) error {
		if _, err := p.h.Exec(ctx, "flock", "-n", "/run/xtables.lock", "true"); err == nil {
			return errors.New("it is not")
		}
		return nil
	})
	return holder
}

// policyRules are the rules in policies' chains.
func (p *policed) policyRules(ctx context.Context) string {
	p.Helper()
	ours, _, err := p.filter(ctx, p.h, p.backend)
	if err != nil {
		p.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(ours) {
		if strings.Contains(line, "-A cali-pi-") {
			all = append(all, line)
		}
	}
	return strings.Join(all, "")
}

// programmed waits until a policy is in the kernel.
func (p *policed) programmed(policy string) {
	p.Helper()
	p.until("the policy "+policy+" is in the kernel", func(ctx context.Context) error {
		if rules := p.policyRules(ctx); !strings.Contains(rules, "-A cali-pi-np/default/"+policy+" ") {
			return errors.New(rules)
		}
		return nil
	})
}
