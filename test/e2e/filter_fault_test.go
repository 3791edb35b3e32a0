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
			p.koratctl(p.h, "apply", strings.Replace(strings.ReplaceAll(serverPolicy, "name: server}", fmt.Sprintf("name: other-%d}", n%3)),
				"role == 'server'", fmt.Sprintf("role == 'role-%d'", n), 1))
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
	err = lab.Until(p.ctx, "ADD of "+name, func(ctx context.Context) (err error) {
		pod, err = p.h.AddPod(ctx, lab.PodConfig{Name: name, Labels: map[string]string{"role": role}})
		var refused *types.Error
		if err != nil && (!errors.As(err, &refused) || refused.Code != 11) {
			p.Errorf("ADD of %s: %v", name, err)
		}
		return err
	})
	return pod, err
}

// comesAndGoes has a pod attached, and detached again unless it stays.
func (p *policed) comesAndGoes(name string, stays bool) {
	pod, err := p.attach(name, "client")
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
		stopped := p.writers()
		if len(stopped) != 2 {
			t.Fatalf("writers %v, want two", stopped)
		}
		for _, pid := range stopped {
			p.kill(pid, syscall.SIGSTOP)
		}
		p.heldUp("late", stopped)
		late, err := p.attach("late", "server")
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

// heldUp has an ADD fail for a loop that is held up, and a policy applied that stands behind it.
func (p *policed) heldUp(name string, stopped []int) {
	p.Helper()
	_, err := p.h.AddPod(p.limit(), lab.PodConfig{Name: name, Labels: map[string]string{"role": "server"}})
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

// TestLockHeld has another program hold the lock of the legacy backend until an ADD has given up.
func TestLockHeld(t *testing.T) {
	p := newPoliced(t, "Legacy")
	since := p.now()
	holder, err := p.h.Start("lock", "flock", "--no-fork", "/run/xtables.lock", "sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	p.until("the lock is held", func(ctx context.Context) error {
		if _, err := p.h.Exec(ctx, "flock", "-n", "/run/xtables.lock", "true"); err == nil {
			return errors.New("it is not")
		}
		return nil
	})
	writers := p.writers()
	p.koratctl(p.h, "apply", strings.Replace(serverPolicy, "name: server}", "name: more}", 1))
	p.heldUp("late", writers)
	if err := holder.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.attach("late", "server"); err != nil {
		t.Error(err)
	}
	p.until("the policy that was made meanwhile is in the kernel", func(ctx context.Context) error {
		ours, _, err := p.filter(ctx, p.h, p.backend)
		if err == nil && !strings.Contains(ours, "NetworkPolicy default/more ingress") {
			err = errors.New(ours)
		}
		return err
	})
	if now := p.writers(); fmt.Sprint(now) != fmt.Sprint(writers) {
		t.Errorf("the writers %v have become %v: they were to wait", writers, now)
	}
	p.lostNone("meanwhile", since)
	p.noneIn("meanwhile", since)
}
