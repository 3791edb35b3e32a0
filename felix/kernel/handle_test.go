// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"testing"

	"korat/felix/kernel"
	"korat/felix/reconcile"
)

// TestOpenStaysInItsNamespace opens on a thread in the namespace, and works from another, which stays
// where it is.
func TestOpenStaysInItsNamespace(t *testing.T) {
	h := newHost(t)
	var handle *kernel.Handle
	if err := h.Do(func() (err error) { handle, err = kernel.Open(); return err }); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := handle.Close(); err != nil {
			t.Error(err)
		}
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	apply(t, reconcile.NewStep("routes", handle.Routes()), routes{prefix("10.0.0.1/32"): dev("cali1")})
	apply(t, reconcile.NewStep("sysctls", handle.Sysctls()), sysctls{"net/ipv4/conf/cali1/proxy_arp": "1"})
	if !observe(t, handle).Links["cali1"].Up {
		t.Error("cali1 is not observed as up")
	}
	equal(t, "ip route", "10.0.0.1 dev cali1 scope link\n", h.ours())
	equal(t, "proxy_arp", "1", h.sysctl("net/ipv4/conf/cali1/proxy_arp"))
	after, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil || after != before {
		t.Errorf("the thread went from %s to %s: %v", before, after, err)
	}
}

func TestOpenAtErrors(t *testing.T) {
	if _, err := kernel.OpenAt("/run/netns/no-such"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("have %v", err)
	}
	if _, err := kernel.OpenAt("/dev/null"); err == nil {
		t.Error("/dev/null is no namespace")
	} else {
		equal(t, "error", "enter network namespace: invalid argument", err.Error())
	}
}
