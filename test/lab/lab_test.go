// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"korat/test/lab/sandbox"
)

func TestMain(m *testing.M) { os.Exit(sandbox.Main(m.Run)) }

// limit bounds what a test waits for.
func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func newLab(t *testing.T) *Lab {
	t.Helper()
	l, err := New(limit(t), Config{Dir: t.TempDir(), BinDir: "."})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func newSwitch(t *testing.T, l *Lab, name string) *Switch {
	t.Helper()
	s, err := l.Switch(limit(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newHost(t *testing.T, l *Lab, config HostConfig) *Host {
	t.Helper()
	h, err := l.Host(limit(t), config)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func run(t *testing.T, where Runner, argv ...string) string {
	t.Helper()
	out, err := where.Exec(limit(t), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func on(s *Switch, address string) Interface {
	return Interface{Switch: s, Address: netip.MustParsePrefix(address)}
}

func TestHostsOnASwitch(t *testing.T) {
	l := newLab(t)
	lan := newSwitch(t, l, "lan")
	a := newHost(t, l, HostConfig{Name: "a", Interfaces: []Interface{on(lan, "192.0.2.1/24")}})
	b := newHost(t, l, HostConfig{Name: "b", Interfaces: []Interface{{Switch: lan, Address: netip.MustParsePrefix("192.0.2.2/24"), MTU: 1400}}})
	if rtt, err := Ping(limit(t), a, b.Address()); err != nil || rtt <= 0 {
		t.Errorf("ping: %s, %v", rtt, err)
	}
	if _, err := Ping(limit(t), a, netip.MustParseAddr("192.0.2.3")); err == nil {
		t.Error("an address that nobody has answers")
	}
	want := map[string]string{
		"hostname":                      "b\n",
		"ip route":                      "192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2 \n",
		"cat /sys/class/net/lo/address": "00:00:00:00:00:00\n",
		"sysctl -n net.ipv4.ip_forward net.ipv4.conf.eth0.rp_filter": "0\n2\n",
		"ls -A /etc/korat /var/lib/korat /run /opt/cni/bin":          "/etc/korat:\n\n/opt/cni/bin:\nkorat\n\n/run:\nlock\n\n/var/lib/korat:\n",
	}
	for command, want := range want {
		if have := run(t, b, strings.Fields(command)...); have != want {
			t.Errorf("%s: have\n%swant\n%s", command, have, want)
		}
	}
	if have := run(t, b, "ip", "-br", "link"); strings.Count(have, "\n") != 2 || !strings.Contains(have, "LOWER_UP") {
		t.Errorf("links\n%s", have)
	}
	if have := run(t, b, "ip", "link", "show", "eth0"); !strings.Contains(have, " mtu 1400 ") {
		t.Errorf("mtu 1400 is not in %s", have)
	}
}

func TestFilesOfAHostAreItsOwn(t *testing.T) {
	l := newLab(t)
	a, b := newHost(t, l, HostConfig{Name: "a"}), newHost(t, l, HostConfig{Name: "b"})
	for _, dir := range sandbox.Private() {
		file := filepath.Join(dir, "mark", "file")
		if err := a.WriteFile(file, []byte("a's\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if have := run(t, a, "cat", file); have != "a's\n" {
			t.Errorf("%s on a: %q", file, have)
		}
		if _, err := b.Exec(limit(t), "cat", file); err == nil {
			t.Errorf("%s of a exists on b", file)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s of a exists outside", file)
		}
	}
}

func TestRouterBetweenSwitches(t *testing.T) {
	l := newLab(t)
	left, right := newSwitch(t, l, "left"), newSwitch(t, l, "right")
	newHost(t, l, HostConfig{Name: "router", Router: true, Interfaces: []Interface{on(left, "192.0.2.1/25"), on(right, "192.0.2.129/25")}})
	a := newHost(t, l, HostConfig{Name: "a", Interfaces: []Interface{on(left, "192.0.2.2/25")}, Gateway: netip.MustParseAddr("192.0.2.1")})
	b := newHost(t, l, HostConfig{Name: "b", Interfaces: []Interface{on(right, "192.0.2.130/25")}, Gateway: netip.MustParseAddr("192.0.2.129")})
	out := run(t, a, "ping", "-n", "-c", "1", "-W", "2", b.Address().String())
	if !strings.Contains(out, " ttl=63 ") {
		t.Errorf("no answer through one router:\n%s", out)
	}
}

func TestTwoLabsAtOnce(t *testing.T) {
	one, two := newLab(t), newLab(t)
	for _, l := range []*Lab{one, two} {
		lan := newSwitch(t, l, "lan")
		newHost(t, l, HostConfig{Name: "a", Interfaces: []Interface{on(lan, "192.0.2.1/24")}})
	}
	b := newHost(t, two, HostConfig{Name: "b", Interfaces: []Interface{{Switch: &Switch{Name: "lan"}, Address: netip.MustParsePrefix("192.0.2.2/24")}}})
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Ping(limit(t), b, netip.MustParseAddr("192.0.2.1")); err != nil {
		t.Errorf("the end of one lab disturbed the other: %v", err)
	}
}

func TestProcess(t *testing.T) {
	h := newHost(t, newLab(t), HostConfig{Name: "a"})
	p, err := h.Start("child", "sh", "-c", "echo $$ >&2; exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	if err := Until(limit(t), "it has written", func(context.Context) error { _, err := p.firstLine(); return err }); err != nil {
		t.Fatal(err)
	}
	if !p.Running() {
		t.Error("it has ended by itself")
	}
	if line, _ := p.firstLine(); line != p.PID {
		t.Errorf("the program's pid is %d, not %d", line, p.PID)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if p.Running() {
		t.Error("it runs after Kill")
	}
	if err := p.Wait(limit(t)); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Wait after Kill: %v", err)
	}
	if err := p.Signal(syscall.SIGTERM); err == nil {
		t.Error("a signal to a process that has ended succeeds")
	}
}

// A program that ignores SIGTERM is ended, and Stop tells what it wrote.
func TestStopOfWhatDoesNotEnd(t *testing.T) {
	h := newHost(t, newLab(t), HostConfig{Name: "a"})
	p, err := h.Start("child", "sh", "-c", "ulimit -c 0; trap '' TERM; echo $$; echo ignored >&2; exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	if err := Until(limit(t), "it has written", func(context.Context) error { _, err := p.firstLine(); return err }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(limit(t))
	cancel(errors.New("too late"))
	if err := p.Stop(ctx); err == nil || !strings.Contains(err.Error(), "too late; its log ends with\n") {
		t.Errorf("have %v", err)
	}
	if p.Running() {
		t.Error("it still runs")
	}
}

func TestCloseKillsWhatRuns(t *testing.T) {
	l := newLab(t)
	h := newHost(t, l, HostConfig{Name: "a"})
	// A daemon that has left its parent, session and process group.
	run(t, h, "sh", "-c", "setsid -f sleep 1000 >/dev/null 2>&1")
	if n := len(h.space.processes()); n != 2 {
		t.Errorf("%d processes on the host, want 2", n)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if left := h.space.processes(); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

func TestPodWithoutPlugin(t *testing.T) {
	h := newHost(t, newLab(t), HostConfig{Name: "a"})
	_, err := h.AddPod(limit(t), PodConfig{Name: "p"})
	if err == nil || !strings.Contains(err.Error(), "/opt/cni/bin/korat") {
		t.Errorf("error %v does not name the plugin", err)
	}
	if have := run(t, h, "ip", "netns", "list"); have != "" {
		t.Errorf("left over: %s", have)
	}
}

func TestBadNames(t *testing.T) {
	l := newLab(t)
	lan := newSwitch(t, l, "lan")
	newHost(t, l, HostConfig{Name: "a"})
	cases := map[string]func() error{
		`make switch "LAN/1"`:           func() error { _, err := l.Switch(limit(t), "LAN/1"); return err },
		"make switch lan: there is one": func() error { _, err := l.Switch(limit(t), "lan"); return err },
		`make host "-a"`:                func() error { _, err := l.Host(limit(t), HostConfig{Name: "-a"}); return err },
		"make host a: there is one":     func() error { _, err := l.Host(limit(t), HostConfig{Name: "a"}); return err },
		"make host c: interface 0: names no switch": func() error {
			_, err := l.Host(limit(t), HostConfig{Name: "c", Interfaces: []Interface{{}}})
			return err
		},
		"192.0.2.77": func() error {
			_, err := l.Host(limit(t), HostConfig{Name: "d", Interfaces: []Interface{on(lan, "192.0.2.1/32")}, Gateway: netip.MustParseAddr("192.0.2.77")})
			return err
		},
	}
	for want, make := range cases {
		if err := make(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not contain %q", err, want)
		}
	}
	if n := len(l.Hosts()); n != 1 {
		t.Errorf("%d hosts, want 1", n)
	}
}

// firstLine reads a number from the log.
func (p *Process) firstLine() (int, error) {
	log, err := p.Log()
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(log, "\n")
	return strconv.Atoi(line)
}
