// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects from the host, in this process. The address must be a literal one. For a Unix socket
// it is a path on the host.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	if network == "unix" {
		// sun_path holds 108 bytes, and /proc/PID/root/run/… is well below.
		return d.DialContext(ctx, network, filepath.Join(h.space.root(), address))
	}
	var conn net.Conn
	// A socket belongs to the namespace that its thread was in when it was made.
	err := h.Inside(func() (err error) { conn, err = d.DialContext(ctx, network, address); return err })
	return conn, err
}

// Inside calls f on a thread that is in the host's network.
func (h *Host) Inside(f func() error) error {
	return inside(h.Name, fmt.Sprintf("/proc/%d/ns/net", h.space.pid), f)
}

// Dial connects from the pod, in this process. The address must be a literal one.
func (p *Pod) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	var conn net.Conn
	err := p.Inside(func() (err error) { conn, err = d.DialContext(ctx, network, address); return err })
	return conn, err
}

// Listen listens in the pod, in this process. The address must be a literal one.
func (p *Pod) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var c net.ListenConfig
	var l net.Listener
	err := p.Inside(func() (err error) { l, err = c.Listen(ctx, network, address); return err })
	return l, err
}

// Inside calls f on a thread that is in the pod's network.
func (p *Pod) Inside(f func() error) error {
	return inside(p.Host.Name+"/"+p.Name, p.Host.path(p.NetNS()), f)
}

// inside calls f on a thread that is in a network namespace.
func inside(name, namespace string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		restore, err := enterNetwork(namespace)
		if err != nil {
			done <- fmt.Errorf("enter the network of %s: %w", name, err)
			return
		}
		err = f()
		restore()
		done <- err
	}()
	return <-done
}

// enterNetwork moves this goroutine, locked to its thread, to another network namespace.
func enterNetwork(namespace string) (restore func(), err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	there, err := os.Open(namespace)
	if err == nil {
		defer there.Close()
		err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET)
	}
	if err != nil {
		home.Close()
		runtime.UnlockOSThread()
		return nil, err
	}
	return func() {
		defer home.Close()
		// A thread that cannot go back stays locked, and so ends with its goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}, nil
}

// getTimeout bounds one HTTP request on a host.
const getTimeout = 5 * time.Second

// Get fetches a URL from the host and returns status and body.
func (h *Host) Get(ctx context.Context, url string) (int, string, error) {
	client := http.Client{
		Timeout:   getTimeout,
		Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", fmt.Errorf("get %s on %s: %w", url, h.Name, err)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("get %s on %s: %w", url, h.Name, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, "", fmt.Errorf("get %s on %s: %w", url, h.Name, err)
	}
	return res.StatusCode, string(body), nil
}
