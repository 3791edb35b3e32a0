// SPDX-License-Identifier: Apache-2.0

package cniplugin_test

import (
	"context"
	"fmt"
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
	h.refused(socket.CodeTryAgainLater, remedy, "DEL", config)
	if links := netns.Run(t, "ip -o link"); strings.Contains(links, "cali") {
		t.Errorf("DEL without an agent leaves the interface:\n%s", links)
	}
	h.agent.start()
	h.must("DEL", config)
	h.agent.wantEvents("ADD", "READY", "DEL")
	if len(h.agent.endpoints) != 0 {
		t.Errorf("the agent still has %v", h.agent.endpoints)
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
			if links := netns.Run(t, "ip -o link"); strings.Contains(links, "cali") || len(h.agent.endpoints) != 0 {
				t.Errorf("left: %v\n%s", h.agent.endpoints, links)
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
