// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

const noIPv6 = "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"

// Enter puts the test itself into a new namespace, its host, without IPv6. The thread is never
// unlocked, so it and the namespace end with the test's goroutine.
func Enter(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unshare(); err != nil {
		t.Fatal(err)
	}
	Run(t, noIPv6)
	// Both sides of a pair having the same index, each in its namespace, makes the kernel report their
	// carrier up to a second late. (Linux, linkwatch_urgent_event)
	Run(t, "ip link add unused type veth peer name unused1")
	Run(t, "ip link del unused")
}

// Here gives a path of the namespace that the test is in, for other goroutines and processes.
func Here(t *testing.T) string {
	t.Helper()
	n, err := here(t)
	if err != nil {
		t.Fatal(err)
	}
	return n.Path()
}

// NewPod makes a namespace such as a container runtime makes for a pod, but without IPv6: nothing in it
// is up. It gives the path.
func NewPod(t *testing.T) string {
	t.Helper()
	path := bare(t).Path()
	InPod(t, path, noIPv6)
	return path
}

// Run runs a command in the namespace that the test is in and gives its output.
func Run(t *testing.T, command string) string {
	t.Helper()
	words := strings.Fields(command)
	out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// InPod runs a command in the pod of that path and gives its output.
func InPod(t *testing.T, path, command string) string {
	t.Helper()
	return Run(t, "nsenter --net="+path+" "+command)
}

// WaitFor waits until a condition holds: the kernel does some things in its own time.
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

// Listing is all that the kernel says of the networks of the test's namespace and the pod's, but for
// carriers.
func Listing(t *testing.T, pod string) string {
	t.Helper()
	var b strings.Builder
	for _, command := range []string{"ip -o link", "ip -o addr", "ip route show table all", "ip neigh"} {
		fmt.Fprintf(&b, "host: %s\n%s", command, Run(t, command))
		fmt.Fprintf(&b, "pod: %s\n%s", command, InPod(t, pod, command))
	}
	return carrierNews.ReplaceAllString(b.String(), "")
}
