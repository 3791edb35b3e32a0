// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"korat/api"
	"korat/felix/kernel"
	"korat/felix/reconcile"
	"korat/policy/chain"
	"korat/test/netns"
)

// writers gives the processes that write a family's chains of the test's namespace.
func (h filterHost) writers(f api.Family) []int {
	h.t.Helper()
	var here unix.Stat_t
	if err := unix.Stat(h.Path(), &here); err != nil {
		h.t.Fatal(err)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		h.t.Fatal(err)
	}
	var pids []int
	for _, path := range commands {
		dir := filepath.Dir(path)
		command, err := os.ReadFile(path)
		var ns unix.Stat_t
		if err != nil || !bytes.HasPrefix(command, []byte(h.program(f, "-restore\x00"))) || unix.Stat(dir+"/ns/net", &ns) != nil || ns.Ino != here.Ino {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			h.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// writer gives the one of IPv4.
func (h filterHost) writer() int {
	h.t.Helper()
	pids := h.writers(api.IPv4)
	if len(pids) != 1 {
		h.t.Fatalf("have the processes %v", pids)
	}
	return pids[0]
}

// signal sends a signal to a process and waits until it is in a state, of which "Z" includes that it is gone.
func signal(t *testing.T, pid int, s unix.Signal, state string) {
	t.Helper()
	if err := unix.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
	netns.WaitFor(t, "the signal's effect", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return state == "Z"
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		return strings.HasPrefix(rest, state)
	})
}

func one(device string) chains {
	return chains{key(api.IPv4, chain.Filter, "cali-a"): rules(from(device))}
}

func TestWriterThatHangs(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		table := h.chains(h.config())
		step := reconcile.NewStep("chains", table)
		hangs := func(want chains) (reconcile.Result, error) {
			table.SetPatience(200 * time.Millisecond)
			defer table.SetPatience(0)
			return step.Apply(t.Context(), want, nil)
		}
		apply(t, step, one("a"))
		stopped := h.writer()
		signal(t, stopped, unix.SIGSTOP, "T")
		want := one("b")
		result, err := hangs(want)
		if err == nil || !strings.Contains(err.Error(), h.program(api.IPv4, "-restore")+": no answer for ") || result.Failed != 1 {
			t.Errorf("have %+v, %v", result, err)
		}
		equal(t, "afterwards", reconcile.Result{Read: true, Set: 1}, apply(t, step, want))
		if h.writer() == stopped {
			t.Error("the one that hangs is used again")
		}
		if text := h.saved(api.IPv4); !strings.Contains(text, "-A cali-a -i b -j DROP") {
			t.Errorf("have %s", text)
		}

		signal(t, h.writer(), unix.SIGSTOP, "T")
		long := manyChains(100) // more than its pipe holds
		if result, err := hangs(long); err == nil || !strings.Contains(err.Error(), "no answer for ") {
			t.Errorf("of a long text: have %+v, %v", result, err)
		}
		if result := apply(t, step, long); result.Set != len(long) || result.Failed > 0 {
			t.Errorf("after a long text: have %+v", result)
		}
	})
}

func TestWriterKilled(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		step := reconcile.NewStep("chains", h.chains(h.config()))
		apply(t, step, one("a"))
		signal(t, h.writer(), unix.SIGKILL, "Z")
		equal(t, "while idle", reconcile.Result{Set: 1}, apply(t, step, one("b")))

		// In the middle: it has the text, and does not get to its end.
		busy := h.writer()
		signal(t, busy, unix.SIGSTOP, "T")
		want, done := one("c"), make(chan error, 1)
		ctx := t.Context()
		go func() {
			_, err := step.Apply(ctx, want, nil)
			done <- err
		}()
		netns.WaitFor(t, "the text", func() bool { return waiting(t, busy) > 0 })
		if err := unix.Kill(busy, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err == nil || !strings.Contains(err.Error(), h.program(api.IPv4, "-restore")+" ended: signal: killed") {
			t.Errorf("have %v", err)
		}
		equal(t, "afterwards", reconcile.Result{Read: true, Set: 1}, apply(t, step, want))
		if text := h.saved(api.IPv4); !strings.Contains(text, "-A cali-a -i c -j DROP") {
			t.Errorf("have %s", text)
		}
	})
}

// TestReaderThatHangs has the programs that read give no answer: the one that reads all, and the one that reads a chain.
func TestReaderThatHangs(t *testing.T) {
	h := newFilterHost(t, kernel.NFT)
	table := h.chains(h.config())
	step := reconcile.NewStep("chains", table)
	apply(t, step, one("a"))
	dir := t.TempDir()
	ended := filepath.Join(dir, "ended")
	for program, script := range map[string]string{
		"iptables-nft-save": "exec sleep 60", "iptables-nft": "sleep 1; echo >>" + ended,
	} {
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	path := os.Getenv("PATH")
	t.Setenv("PATH", dir+":"+path)
	h.Run("env", "PATH="+path, "iptables-nft", "-w", "-F", "cali-a")
	// The change is noticed in the kernel's own time.
	hangs := func(what, program string) {
		t.Helper()
		table.SetPatience(200 * time.Millisecond)
		defer table.SetPatience(0)
		netns.WaitFor(t, what, func() bool {
			err := readOf(t, table)
			return err != nil && strings.Contains(err.Error(), program+": no answer for 200ms")
		})
	}
	hangs("all are asked for in vain", "iptables-nft-save")
	if err := os.Remove(filepath.Join(dir, "iptables-nft-save")); err != nil {
		t.Fatal(err)
	}
	if err := readOf(t, table); err != nil {
		t.Error(err)
	}
	h.Run("env", "PATH="+path, "iptables-nft", "-w", "-A", "cali-a", "-j", "DROP")
	hangs("one chain is asked for in vain", "iptables-nft")
	netns.WaitFor(t, "the program ends", func() bool { _, err := os.Stat(ended); return err == nil })
	step.Invalidate()
	equal(t, "afterwards", reconcile.Result{Read: true, Set: 1}, apply(t, step, one("a")))
}

func readOf(t *testing.T, table *kernel.Chains) error {
	t.Helper()
	_, err := table.Read(t.Context())
	return err
}

// waiting gives the bytes in the pipe that a process reads.
func waiting(t *testing.T, pid int) int {
	t.Helper()
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/0", pid), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWriteBrokenOff(t *testing.T) {
	t.Parallel()
	h := newFilterHost(t, kernel.NFT)
	table := h.chains(h.config())
	step := reconcile.NewStep("chains", table)
	apply(t, step, one("a"))
	signal(t, h.writer(), unix.SIGSTOP, "T")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := step.Apply(ctx, one("b"), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("have %v", err)
	}
	equal(t, "afterwards", reconcile.Result{Read: true, Set: 1}, apply(t, step, one("b")))
}

// TestLockHeld has another program hold the lock for longer than an answer is waited for, or a long text is written.
func TestLockHeld(t *testing.T) {
	for name, want := range map[string]chains{"short": one("b"), "longer than a pipe holds": manyChains(100)} {
		t.Run(name, func(t *testing.T) { lockHeld(t, want) })
	}
}

func lockHeld(t *testing.T, want chains) {
	t.Parallel()
	h := newFilterHost(t, kernel.Legacy)
	config := h.config()
	config.Patience = 1500 * time.Millisecond
	step := reconcile.NewStep("chains", h.chains(config))
	apply(t, step, one("a"))

	other := exec.CommandContext(t.Context(), "flock", h.lock, "sh", "-c", "echo held; exec sleep 2.2")
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	writer := h.writer()
	if result := apply(t, step, want); result.Set != len(want) || result.Failed != 0 {
		t.Errorf("have %+v", result)
	}
	if other.ProcessState == nil {
		if err := other.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "the writer", writer, h.writer())
	step.Invalidate()
	equal(t, "nothing is lost", reconcile.Result{Read: true}, apply(t, step, want))
}

// TestNothingIsLeft wants the programs to end with their table.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, h filterHost) {
		table, err := h.handle.Chains(h.config())
		if err != nil {
			t.Fatal(err)
		}
		apply(t, reconcile.NewStep("chains", table), both(func(f api.Family) chains {
			return chains{key(f, chain.Filter, "cali-a"): rules(from("a"))}
		}))
		if len(h.writers(api.IPv4)) != 1 || len(h.writers(api.IPv6)) != 1 {
			t.Errorf("have the writers %v and %v", h.writers(api.IPv4), h.writers(api.IPv6))
		}
		if err := table.Close(); err != nil {
			t.Fatal(err)
		}
		if left := append(h.writers(api.IPv4), h.writers(api.IPv6)...); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}
