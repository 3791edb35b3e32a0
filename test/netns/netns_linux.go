// SPDX-License-Identifier: Apache-2.0

// Package netns gives a test network namespaces of its own. They have no names: each goes with the
// test's process, whatever happens to it. New is for a test that stays outside; a test of code that
// works in its own namespace goes inside with Enter.
package netns

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace that lives until the end of the test.
type Namespace struct {
	t    testing.TB
	file *os.File
}

// New makes a namespace with the loopback interface up.
func New(t testing.TB) *Namespace {
	t.Helper()
	n := bare(t)
	n.Run("ip", "link", "set", "lo", "up")
	return n
}

// bare makes a namespace in which nothing is up.
func bare(t testing.TB) *Namespace {
	t.Helper()
	var n *Namespace
	err := onThread(func() error {
		if err := unshare(); err != nil {
			return err
		}
		var err error
		n, err = here(t)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// here gives the namespace of the calling thread.
func here(t testing.TB) (*Namespace, error) {
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Namespace{t: t, file: file}, nil
}

// Path can be opened to get at the namespace, by this process and by others, until the test ends.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// Do calls f on a thread that is in the namespace and ends afterwards. f must not fail the test at
// once: it isn't the test's goroutine.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return f()
	})
}

// Run runs a command in the namespace and gives what it printed; it fails the test if the command
// fails.
func (n *Namespace) Run(command ...string) string {
	n.t.Helper()
	out, err := n.Try(command...)
	if err != nil {
		n.t.Fatalf("%s: %v", strings.Join(command, " "), err)
	}
	return out
}

// Try runs a command in the namespace and gives what it printed; the error has what it complained of.
func (n *Namespace) Try(command ...string) (string, error) {
	var out, complaint strings.Builder
	err := n.Do(func() error {
		cmd := exec.CommandContext(n.t.Context(), command[0], command[1:]...)
		cmd.Stdout, cmd.Stderr = &out, &complaint
		return cmd.Run()
	})
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), err
}

// Batch gives ip one command per line.
func (n *Namespace) Batch(lines ...string) {
	n.t.Helper()
	var complaint strings.Builder
	err := n.Do(func() error {
		cmd := exec.CommandContext(n.t.Context(), "ip", "-batch", "-")
		cmd.Stdin, cmd.Stderr = strings.NewReader(strings.Join(lines, "\n")), &complaint
		return cmd.Run()
	})
	if err != nil {
		n.t.Fatalf("ip -batch: %v: %s", err, complaint.String())
	}
}

// unshare puts the calling thread into a new namespace.
func unshare() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make network namespace (root is needed): %w", err)
	}
	return nil
}

// onThread calls f on a thread that ends with the call, so that f may change the thread's namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		done <- f()
	}()
	return <-done
}
