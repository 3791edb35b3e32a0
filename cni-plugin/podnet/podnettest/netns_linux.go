// SPDX-License-Identifier: Apache-2.0

// Package podnettest gives tests hosts and pods as network namespaces, and the kernel's own listing of
// them. All of it ends with the test.
package podnettest

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// EnterHost puts the test into a new network namespace, its host. The thread is never unlocked, so it
// and the namespace end with the test's goroutine.
func EnterHost(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace (needs root): %v", err)
	}
	Run(t, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
	// Both sides of a pair having the same index, each in its namespace, makes the kernel report their
	// carrier up to a second late. (Linux, linkwatch_urgent_event)
	Run(t, "ip link add unused type veth peer name unused1")
	Run(t, "ip link del unused")
}

// NewPod makes a network namespace that lives as long as the test and gives its path.
func NewPod(t *testing.T) string {
	t.Helper()
	type opened struct {
		file *os.File
		err  error
	}
	ch := make(chan opened)
	go func() {
		runtime.LockOSThread() // never unlocked, as above
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ch <- opened{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		ch <- opened{f, err}
	}()
	ns := <-ch
	if ns.err != nil {
		t.Fatal(ns.err)
	}
	t.Cleanup(func() { _ = ns.file.Close() })
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.file.Fd())
	InPod(t, path, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
	return path
}

// Here gives a path of the test's host that every goroutine and process can use.
func Here(t *testing.T) string {
	t.Helper()
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
}

// Run runs a command in the test's host and gives its output.
func Run(t *testing.T, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// InPod runs a command in the pod.
func InPod(t *testing.T, netNS, command string) string {
	t.Helper()
	return Run(t, "nsenter --net="+netNS+" "+command)
}

// WaitFor waits until a condition holds.
func WaitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// carrierNews matches what the kernel's link watch brings up to date some time after a change.
var carrierNews = regexp.MustCompile(`NO-CARRIER,|,LOWER_UP|state \w+`)

// Listing is all that the kernel says of both namespaces' networks, but for carriers.
func Listing(t *testing.T, netNS string) string {
	t.Helper()
	var b strings.Builder
	for _, command := range []string{"ip -o link", "ip -o addr", "ip route show table all", "ip neigh"} {
		fmt.Fprintf(&b, "host: %s\n%s", command, Run(t, command))
		fmt.Fprintf(&b, "pod: %s\n%s", command, InPod(t, netNS, command))
	}
	return carrierNews.ReplaceAllString(b.String(), "")
}
