// SPDX-License-Identifier: Apache-2.0

package cniplugin_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
	"korat/test/netns"
)

func TestNoAgent(t *testing.T) {
	h := newHost(t)
	config := h.config("1.0.0", `"timeout": 1`)
	before := netns.Listing(t, h.pod)
	h.agent.stop()
	remedy := []string{"no agent answers on " + h.agent.path, "start korat-node"}
	h.refused(socket.CodeTryAgainLater, remedy, "ADD", config)
	wantText(t, netns.Listing(t, h.pod), before)

	h.agent.start()
	h.must("ADD", config)
	h.agent.stop()
	for range 2 {
		h.must("DEL", config)
	}
	if links := netns.Run(t, "ip -o link"); strings.Contains(links, "cali") {
		t.Errorf("DEL without an agent leaves the interface:\n%s", links)
	}
	h.agent.start()
	h.agent.wantEvents("ADD", "READY", "DEL")
	h.agent.wantNone()
}

// A DEL that nobody can be told of fails, and says why; the interface is gone all the same.
func TestNoQueue(t *testing.T) {
	tests := []struct{ name, damage, want string }{
		{"missing", "rmdir $DIR", "no such file or directory: korat-node makes it when it starts"},
		{"full disk", "mount -t tmpfs -o nr_inodes=1,mode=0700 tmpfs $DIR", "no space left on device"},
		{"read-only", "mount -t tmpfs -o ro,mode=0700 tmpfs $DIR", "read-only file system"},
		{"others may write", "chmod 0777 $DIR", "may be written by others than root"},
		{"a link", "rmdir $DIR; ln -s /tmp $DIR", "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			config := h.config("1.0.0", "")
			h.must("ADD", config)
			h.agent.stop()
			plain := h.command("DEL", config)
			// The mounts are this command's alone, and go with it.
			cmd := exec.Command("unshare", "--mount", "sh", "-ec", tt.damage+`; exec "$0"`, plain.Path)
			cmd.Env = append(plain.Env, "PATH="+os.Getenv("PATH"), "DIR="+filepath.Join(filepath.Dir(h.agent.path), socket.QueueDirectory))
			cmd.Stdin = plain.Stdin
			o := finish(cmd)
			for _, text := range []string{
				`"code": 11`, "no agent takes the DEL of c1/eth0, and it cannot be queued", tt.want, "no agent answers on " + h.agent.path,
			} {
				if o.ok || !strings.Contains(o.stdout, text) {
					t.Errorf("DEL: %+v, want a failure that says %q", o, text)
				}
			}
			if links := netns.Run(t, "ip -o link"); strings.Contains(links, "cali") {
				t.Errorf("left:\n%s", links)
			}
		})
	}
}

// An agent that accepts and never answers, as one that is stopped by a debugger.
func TestFrozenAgent(t *testing.T) {
	h := newHost(t)
	config, impatient := h.config("1.0.0", ""), h.config("1.0.0", `"timeout": 1`)
	h.must("ADD", config)
	thawed := make(chan struct{})
	h.agent.answer = func(ctx context.Context, _ socket.Request) *socket.Reply {
		select {
		case <-thawed: // and does what it had taken
			return nil
		case <-ctx.Done():
			r := refuse(socket.CodeInternal, "given up")
			return &r
		}
	}
	h.refused(socket.CodeTryAgainLater, []string{"did not answer ADD in time"}, "ADD", impatient, "CNI_CONTAINERID=c2")
	o := h.plugin("DEL", impatient)
	if !o.ok || !strings.Contains(o.stderr, "DEL queued for the agent's return") {
		t.Errorf("DEL: %+v", o)
	}
	close(thawed)
	h.agent.wantNone()
	h.must("ADD", config)
}

// The sequences of a kubelet whose agent is away: whatever was queued is done before the next ADD of the
// same container, and never after it.
func TestQueuedDelAndNewAdd(t *testing.T) {
	h := newHost(t)
	config := h.config("1.0.0", "")
	h.must("ADD", config)
	h.agent.stop()
	h.must("DEL", config)
	added := make(chan outcome, 1)
	hostNS := netns.Here(t)
	go func() { added <- h.pluginIn(hostNS, "ADD", config) }()
	h.agent.start()
	if o := <-added; !o.ok || !strings.Contains(o.stdout, "172.17.8.3/32") {
		t.Errorf("ADD after a queued DEL: %+v, want a new address", o)
	}
	h.agent.wantEvents("ADD", "READY", "DEL", "ADD", "READY")
	h.agent.stop()
	h.agent.start() // nothing is queued any more
	if h.must("ADD", config); len(h.agent.endpoints) != 1 {
		t.Errorf("have %v", h.agent.endpoints)
	}
}

// A result that cannot be printed is one that the runtime does not have: nothing stays.
func TestResultLost(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, name := range []string{"full", "closed pipe"} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			netns.InPod(t, h.pod, "ip link set lo up")
			netns.InPod(t, h.pod, "sysctl -qw net.ipv4.ip_forward=0")
			before := netns.Listing(t, h.pod)
			out := full
			if name != "full" {
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				_ = r.Close()
				defer w.Close()
				out = w
			}
			add := func() (string, error) {
				var stderr strings.Builder
				cmd := h.command("ADD", h.config("1.0.0", ""))
				cmd.Stdout, cmd.Stderr = out, &stderr
				err := cmd.Run()
				return stderr.String(), err
			}
			stderr, err := add()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(stderr, "print the result: write /dev/stdout") {
				t.Errorf("have %v, %s", err, stderr)
			}
			h.agent.wantEvents("ADD", "READY", "DEL")
			wantText(t, netns.Listing(t, h.pod), before)

			// What was attached before stays, as whenever a repeated ADD fails.
			h.must("ADD", h.config("1.0.0", ""))
			attached := netns.Listing(t, h.pod)
			if _, err := add(); err == nil {
				t.Error("ADD without a result is a success")
			}
			wantText(t, netns.Listing(t, h.pod), attached)
			h.agent.wantEvents("ADD", "READY", "DEL", "ADD", "READY", "ADD", "READY")
		})
	}
}

// The agent is killed when it is asked the given verb, and comes back with its journal.
func TestAgentKilled(t *testing.T) {
	for _, verb := range []socket.Verb{socket.VerbAdd, socket.VerbReady, socket.VerbDel} {
		t.Run(string(verb), func(t *testing.T) {
			h := newHost(t)
			config := h.config("1.0.0", "")
			restarted := make(chan struct{})
			var once sync.Once
			h.agent.answer = func(ctx context.Context, req socket.Request) *socket.Reply {
				killed := false
				if req.Verb == verb {
					once.Do(func() {
						killed = true
						go func() {
							h.agent.stop()
							h.agent.start()
							close(restarted)
						}()
						<-ctx.Done()
					})
				}
				if killed {
					r := refuse(socket.CodeInternal, "killed")
					return &r
				}
				return nil
			}
			result := h.must("ADD", config)
			if !strings.Contains(result, "172.17.8.2/32") {
				t.Errorf("have %s, want the first address", result)
			}
			if links := netns.Run(t, "ip -o link"); strings.Count(links, "cali") != 1 {
				t.Errorf("want one interface, have\n%s", links)
			}
			h.must("DEL", config)
			<-restarted
			h.agent.wantNone()
			if links := netns.Run(t, "ip -o link"); strings.Contains(links, "cali") {
				t.Errorf("left:\n%s", links)
			}
			switch verb {
			case socket.VerbAdd:
				h.agent.wantEvents("ADD", "ADD", "READY", "DEL")
			case socket.VerbReady:
				h.agent.wantEvents("ADD", "READY", "ADD", "READY", "DEL")
			default:
				h.agent.wantEvents("ADD", "READY", "DEL", "DEL")
			}
		})
	}
}

// The agent goes away after the pair was made and does not come back.
func TestAgentGone(t *testing.T) {
	h := newHost(t)
	h.agent.answer = func(ctx context.Context, req socket.Request) *socket.Reply {
		if req.Verb != socket.VerbReady {
			return nil
		}
		go h.agent.stop()
		<-ctx.Done()
		r := refuse(socket.CodeInternal, "killed")
		return &r
	}
	netns.InPod(t, h.pod, "ip link set lo up")
	netns.InPod(t, h.pod, "sysctl -qw net.ipv4.ip_forward=0")
	before := netns.Listing(t, h.pod)
	h.refused(socket.CodeTryAgainLater, []string{"no agent answers on " + h.agent.path}, "ADD", h.config("1.0.0", `"timeout": 1`))
	wantText(t, netns.Listing(t, h.pod), before)
}

func TestAgentRefuses(t *testing.T) {
	for _, verb := range []socket.Verb{socket.VerbAdd, socket.VerbReady} {
		t.Run(string(verb), func(t *testing.T) {
			h := newHost(t)
			netns.InPod(t, h.pod, "ip link set lo up")
			before := netns.Listing(t, h.pod)
			h.agent.answer = func(_ context.Context, req socket.Request) *socket.Reply {
				if req.Verb != verb {
					return nil
				}
				return &socket.Reply{Error: &socket.Error{Code: socket.CodeNoAddress, Message: "pool is full", Details: "172.17.0.0/16"}}
			}
			h.refused(socket.CodeNoAddress, []string{"pool is full; 172.17.0.0/16"}, "ADD", h.config("1.0.0", ""))
			wantText(t, netns.Listing(t, h.pod), before)
			if verb == socket.VerbAdd {
				h.agent.wantEvents("ADD")
			} else {
				h.agent.wantEvents("ADD", "READY", "abort")
			}
		})
	}
}

// An agent that takes too long is left, and its work undone.
func TestAgentSlow(t *testing.T) {
	h := newHost(t)
	h.agent.answer = func(ctx context.Context, req socket.Request) *socket.Reply {
		if req.Verb == socket.VerbReady {
			<-ctx.Done()
			r := refuse(socket.CodeInternal, "given up")
			return &r
		}
		return nil
	}
	h.refused(socket.CodeTryAgainLater, []string{"did not answer READY in time", h.agent.path}, "ADD", h.config("1.0.0", `"timeout": 1`))
	h.agent.wantEvents("ADD", "READY", "abort")
	if links := netns.Run(t, "ip -o link"); strings.Contains(links, "cali") {
		t.Errorf("left:\n%s", links)
	}
}

// A name that is taken by somebody else's interface is refused, and the address given back.
func TestInterfaceTaken(t *testing.T) {
	h := newHost(t)
	name := endpoint.HostInterface("default", "c1", "eth0")
	netns.Run(t, "ip link add "+name+" type bridge")
	h.refused(socket.CodeInternal, []string{"interface is not korat's: " + name, "ip link delete " + name}, "ADD", h.config("1.0.0", ""))
	h.agent.wantEvents("ADD", "abort")
	h.must("DEL", h.config("1.0.0", ""))
	netns.Run(t, "ip link show "+name)
}

// DEL works whatever became of namespace and configuration.
func TestDelForgives(t *testing.T) {
	tests := []struct {
		name      string
		config    func(h *host) string
		variables []string
	}{
		{"namespace gone", func(h *host) string { return h.config("1.0.0", "") }, []string{"CNI_NETNS=/run/netns/korat-absent"}},
		{"namespace unknown", func(h *host) string { return h.config("1.0.0", "") }, []string{"CNI_NETNS="}},
		{"unsupported key", func(h *host) string { return h.config("1.0.0", `"vxlan": true, "mtu": 1`) }, nil},
		{"bad arguments", func(h *host) string { return h.config("1.0.0", "") }, []string{"CNI_ARGS=COLOUR=red"}},
		{"unreadable prevResult", func(h *host) string { return h.config("1.0.0", `"prevResult": 7`) }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.must("ADD", h.config("1.0.0", ""))
			h.must("DEL", tt.config(h), tt.variables...)
			h.agent.wantEvents("ADD", "READY", "DEL")
			if links := netns.Run(t, "ip -o link"); strings.Contains(links, "cali") {
				t.Errorf("left:\n%s", links)
			}
		})
	}
}

// Pods that come and go at once do not disturb each other.
func TestParallel(t *testing.T) {
	h := newHost(t)
	before := netns.Run(t, "ip -o link")
	const pods = 12
	hostNS := netns.Here(t)
	pairs := make([]string, pods)
	for i := range pairs {
		pairs[i] = netns.NewPod(t)
	}
	for _, command := range []string{"ADD", "DEL"} {
		failures := make(chan string, pods)
		for i, pod := range pairs {
			go func() {
				o := h.pluginIn(hostNS, command, h.config("1.0.0", ""), fmt.Sprintf("CNI_CONTAINERID=p%d", i), "CNI_NETNS="+pod)
				if o.ok {
					o = outcome{}
				}
				failures <- o.stdout + o.stderr
			}()
		}
		for range pairs {
			if failure := <-failures; failure != "" {
				t.Errorf("%s: %s", command, failure)
			}
		}
		if command == "ADD" {
			if have := strings.Count(netns.Run(t, "ip -o link"), "alias korat default/p"); have != pods {
				t.Errorf("have %d interfaces, want %d", have, pods)
			}
		}
	}
	wantText(t, netns.Run(t, "ip -o link"), before)
}

// A runtime that kills the plugin in ADD's middle and then sends DEL, as containerd does.
func TestPluginKilled(t *testing.T) {
	h := newHost(t)
	h.agent.answer = func(ctx context.Context, req socket.Request) *socket.Reply {
		if req.Verb == socket.VerbReady {
			<-ctx.Done()
			r := refuse(socket.CodeInternal, "given up")
			return &r
		}
		return nil
	}
	cmd := h.command("ADD", h.config("1.0.0", ""))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	netns.WaitFor(t, "READY", func() bool {
		h.agent.mu.Lock()
		defer h.agent.mu.Unlock()
		return len(h.agent.events) == 2
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	h.must("DEL", h.config("1.0.0", ""))
	h.agent.wantEvents("ADD", "READY", "abort", "DEL")
	if links := netns.Run(t, "ip -o link"); strings.Contains(links, "cali") {
		t.Errorf("left:\n%s", links)
	}
}
