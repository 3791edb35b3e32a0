// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"

	"korat/test/lab"
)

// pluginsDir is where Debian puts the reference plugins.
const pluginsDir = "/usr/lib/cni"

// container is a network namespace that cnitool attaches as a runtime would. cnitool derives the
// container's ID from the namespace's path.
type container struct {
	*lab.Host
	w *world
	// tool is the program.
	tool string
}

const containerNS = "/run/netns/try"

// newContainer makes the namespace, builds cnitool and writes the networks' configuration.
func newContainer(w *world, h *lab.Host, networks map[string]string) *container {
	w.Helper()
	c := &container{Host: h, w: w, tool: filepath.Join(w.TempDir(), "cnitool")}
	// The version that go.mod pins, so that what runs is what we build against.
	build := exec.CommandContext(w.Context(), "go", "build", "-o", c.tool, "github.com/containernetworking/cni/cnitool")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		w.Fatalf("build cnitool: %v\n%s", err, out)
	}
	for name, network := range networks {
		if err := h.WriteFile("/etc/cni/net.d/"+name+".conflist", []byte(network), 0o644); err != nil {
			w.Fatal(err)
		}
	}
	w.run(h, "ip netns add try")
	w.run(c, "ip link set lo up")
	return c
}

// Exec runs a program in the namespace.
func (c *container) Exec(ctx context.Context, argv ...string) (string, error) {
	return c.Host.Exec(ctx, append([]string{"ip", "netns", "exec", "try"}, argv...)...)
}

// try calls cnitool and returns its standard output and, if it failed, its error output.
func (c *container) try(verb, network string) (string, error) {
	cmd := c.Command(c.w.limit(), c.tool, verb, network, containerNS)
	cmd.Env = append(cmd.Env, "NETCONFPATH=/etc/cni/net.d", "CNI_PATH=/opt/cni/bin:"+pluginsDir)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if cmd.Run() != nil {
		return stdout.String(), errors.New(strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// call calls cnitool, which must succeed.
func (c *container) call(verb, network string) string {
	c.w.Helper()
	out, err := c.try(verb, network)
	if err != nil {
		c.w.Fatalf("cnitool %s %s: %v", verb, network, err)
	}
	return out
}

// fails calls cnitool, which must fail with an error that contains the words.
func (c *container) fails(verb, network, words string) {
	c.w.Helper()
	if out, err := c.try(verb, network); err == nil || !strings.Contains(err.Error(), words) {
		c.w.Errorf("cnitool %s %s: %q, %v: want an error with %q", verb, network, out, err, words)
	}
}

// add attaches and returns the address.
func (c *container) add(network string) netip.Addr {
	c.w.Helper()
	out := c.call("add", network)
	var result types100.Result
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		c.w.Fatalf("result %q: %v", out, err)
	}
	if len(result.IPs) != 1 || len(result.Interfaces) != 2 {
		c.w.Fatalf("want one address and two interfaces: %s", out)
	}
	addr, _ := netip.AddrFromSlice(result.IPs[0].Address.IP)
	return addr.Unmap()
}

// kernel is everything that an attachment touches, on the host and in the namespace.
func (c *container) kernel() string {
	c.w.Helper()
	var all strings.Builder
	for _, command := range []string{"ip -br link", "ip -br address", "ip route show table all", "ip neigh show nud permanent"} {
		all.WriteString("host# " + command + "\n" + c.w.run(c.Host, command))
		all.WriteString("namespace# " + command + "\n" + c.w.run(c, command))
	}
	return all.String()
}

// TestCnitool has the CNI project's own runtime attach a namespace, with a reference plugin chained
// after ours.
func TestCnitool(t *testing.T) {
	w := cluster(t, 1)
	a := w.host("a")
	c := newContainer(w, a, map[string]string{
		// The reference plugins of Debian 12 speak CNI up to 1.0.0.
		"chained": `{"cniVersion": "1.0.0", "name": "chained", "plugins": [
			{"type": "korat"},
			{"type": "tuning", "sysctl": {"net.core.somaxconn": "77"}, "mtu": 1400}]}`,
		"alone": `{"cniVersion": "1.1.0", "name": "alone", "plugins": [{"type": "korat"}]}`,
	})
	w.until("the host has a block", func(ctx context.Context) error {
		out, err := a.Exec(ctx, "ip", "route", "show", "type", "blackhole")
		if err == nil && out == "" {
			err = errors.New("no blackhole route")
		}
		return err
	})
	before := c.kernel()

	addr := c.add("chained")
	w.reaches(c, a.Address())
	w.reaches(a, addr)
	w.shows(c, "sysctl -n net.core.somaxconn", "77")
	if out := w.run(c, "ip link show eth0"); !strings.Contains(out, " mtu 1400 ") {
		t.Errorf("the chained plugin's MTU is not in %s", out)
	}
	c.call("check", "chained")
	w.run(c, "ip route del default")
	c.fails("check", "chained", "default")
	c.call("del", "chained")
	w.run(c, "sysctl -qw net.core.somaxconn=4096")
	if diff := cmp.Diff(before, c.kernel()); diff != "" {
		t.Errorf("del left something (+) or took something away (-):\n%s", diff)
	}
	c.call("del", "chained")

	c.call("status", "alone")
	addr = c.add("alone")
	w.reaches(a, addr)
	c.call("check", "alone")
	// cnitool knows no valid attachment when it collects.
	c.call("gc", "alone")
	if diff := cmp.Diff(before, c.kernel()); diff != "" {
		t.Errorf("gc left something (+) or took something away (-):\n%s", diff)
	}

	if err := w.Agents[0].Stop(w.limit()); err != nil {
		t.Error(err)
	}
	c.fails("status", "alone", "/run/korat/agent.sock")
}
