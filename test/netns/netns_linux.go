// SPDX-License-Identifier: Apache-2.0

// Package netns gives a test network namespaces of its own. They have no names: each goes with the
// test's process, whatever happens to it.
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
	n := &Namespace{t: t}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace (root is needed): %w", err)
		}
		var err error
		n.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.file.Close(); err != nil {
			t.Error(err)
		}
	})
	n.Run("ip", "link", "set", "lo", "up")
	return n
}

// Path can be opened to get at the namespace, within this process.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/self/fd/%d", n.file.Fd()) }

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

// onThread calls f on a thread that ends with the call, so that f may change the thread's namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		done <- f()
	}()
	return <-done
}
