// SPDX-License-Identifier: Apache-2.0

package cniplugin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
	"korat/test/netns"
)

// TestMain builds the plugin once; the tests find it by the environment.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "korat-plugin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary := filepath.Join(dir, "korat")
		build := exec.Command("go", "build", "-ldflags", "-X main.version=v1.2.3", "-o", binary, "korat/cmd/korat")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the plugin: %v\n%s", err, out)
			return 1
		}
		if err := os.Setenv(binaryVariable, binary); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

const binaryVariable = "KORAT_TEST_PLUGIN"

// agent is an agent without network: it gives out addresses and remembers what it was told.
type agent struct {
	t    *testing.T
	path string
	// answer, if set, may answer a request in the agent's stead.
	answer func(ctx context.Context, req socket.Request) *socket.Reply

	mu        sync.Mutex
	endpoints map[endpoint.ID]endpoint.Endpoint
	given     int
	events    []string
	requests  []socket.Request
	stop      func()
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	dir, err := os.MkdirTemp("", "korat-agent-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := &agent{t: t, path: filepath.Join(dir, "agent.sock"), endpoints: map[endpoint.ID]endpoint.Endpoint{}}
	a.start()
	t.Cleanup(func() { a.stop() })
	return a
}

// start listens; it may be called again after stop, for an agent that comes back with its journal.
func (a *agent) start() {
	a.t.Helper()
	server, err := socket.Listen(a.path)
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, a) }()
	a.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			a.t.Errorf("serve: %v", err)
		}
	})
}

func (a *agent) Handle(ctx context.Context, req socket.Request) socket.Reply {
	a.mu.Lock()
	a.events = append(a.events, string(req.Verb))
	a.requests = append(a.requests, req)
	answer := a.answer
	a.mu.Unlock()
	if answer != nil {
		if reply := answer(ctx, req); reply != nil {
			return *reply
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	ep, known := a.endpoints[req.ID]
	switch req.Verb {
	case socket.VerbAdd:
		if !known {
			ep = a.newEndpoint(req)
		}
	case socket.VerbReady:
		ep.Ready, ep.MAC = true, req.MAC
	case socket.VerbDel:
		delete(a.endpoints, req.ID)
		return socket.Reply{}
	case socket.VerbCheck:
		if !known {
			return refuse(socket.CodeUnknownContainer, req.ID.String()+" is not attached here")
		}
		return socket.Reply{Endpoint: &ep}
	case socket.VerbGC:
		var stale []endpoint.Endpoint
		for id, ep := range a.endpoints {
			if ep.Network == req.Network && !slices.Contains(req.Valid, id) {
				stale = append(stale, ep)
			}
		}
		return socket.Reply{Stale: stale}
	default:
		return socket.Reply{}
	}
	a.endpoints[req.ID] = ep
	return socket.Reply{Endpoint: &ep}
}

func (a *agent) newEndpoint(req socket.Request) endpoint.Endpoint {
	a.given++
	ep := endpoint.Endpoint{
		ID: req.ID, Network: req.Network, Namespace: req.Namespace, Pod: req.Pod, NetNS: req.NetNS,
		Interface: endpoint.HostInterface(req.Namespace, req.Pod, req.IfName),
		MTU:       req.MTU,
	}
	if ep.MTU == 0 {
		ep.MTU = 1450
	}
	for _, f := range req.Families {
		ep.Addresses = append(ep.Addresses, a.address(f.Version, req.Addresses))
	}
	return ep
}

// address gives the asked one of the version's, or another.
func (a *agent) address(version int, asked []netip.Addr) netip.Addr {
	for _, addr := range asked {
		if addr.Is4() == (version == 4) {
			return addr
		}
	}
	if version == 4 {
		return netip.AddrFrom4([4]byte{172, 17, 8, byte(1 + a.given)})
	}
	return netip.AddrFrom16([16]byte{0xfd, 15: byte(1 + a.given)})
}

func refuse(code uint, message string) socket.Reply {
	return socket.Reply{Error: &socket.Error{Code: code, Message: message}}
}

func (a *agent) Abort(_ context.Context, id endpoint.ID, unsure bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, "abort")
	if unsure && a.endpoints[id].Ready {
		return
	}
	delete(a.endpoints, id)
}

// wantEvents waits until the agent was told as much as wanted, and compares.
func (a *agent) wantEvents(want ...string) {
	a.t.Helper()
	told := func() []string {
		a.mu.Lock()
		defer a.mu.Unlock()
		return append([]string{}, a.events...)
	}
	netns.WaitFor(a.t, fmt.Sprint(want), func() bool { return len(told()) >= len(want) })
	if have := told(); strings.Join(have, " ") != strings.Join(want, " ") {
		a.t.Errorf("the agent was told %v, want %v", have, want)
	}
}

// wantNone waits until the agent knows no attachment.
func (a *agent) wantNone() {
	a.t.Helper()
	netns.WaitFor(a.t, "no attachment", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.endpoints) == 0
	})
}

// host is the test's namespace, with one pod to attach.
type host struct {
	t     *testing.T
	agent *agent
	pod   string
}

func newHost(t *testing.T) *host {
	t.Helper()
	netns.Enter(t)
	return &host{t: t, agent: newAgent(t), pod: netns.NewPod(t)}
}

// config gives a network configuration for the host's agent.
func (h *host) config(version, keys string) string {
	if keys != "" {
		keys = ", " + keys
	}
	return fmt.Sprintf(`{"cniVersion": %q, "name": "net", "type": "korat", "socket": %q%s}`, version, h.agent.path, keys)
}

// outcome is what the plugin printed and how it ended.
type outcome struct {
	stdout, stderr string
	ok             bool
}

// command is the plugin as a runtime would run it. Later variables replace earlier ones.
func (h *host) command(command, config string, variables ...string) *exec.Cmd {
	cmd := exec.Command(os.Getenv(binaryVariable))
	cmd.Env = append([]string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "CNI_NETNS=" + h.pod, "CNI_PATH=/opt/cni/bin",
	}, variables...)
	cmd.Stdin = strings.NewReader(config)
	return cmd
}

// plugin runs the plugin.
func (h *host) plugin(command, config string, variables ...string) outcome {
	h.t.Helper()
	return finish(h.command(command, config, variables...))
}

// pluginIn runs the plugin in a namespace, from any goroutine.
func (h *host) pluginIn(netNS, command, config string, variables ...string) outcome {
	plain := h.command(command, config, variables...)
	cmd := exec.Command("nsenter", "--net="+netNS, plain.Path)
	cmd.Env, cmd.Stdin = plain.Env, plain.Stdin
	return finish(cmd)
}

func finish(cmd *exec.Cmd) outcome {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	return outcome{stdout.String(), stderr.String(), err == nil}
}

// must runs the plugin and wants it to succeed.
func (h *host) must(command, config string, variables ...string) string {
	h.t.Helper()
	o := h.plugin(command, config, variables...)
	if !o.ok {
		h.t.Fatalf("%s: %s%s", command, o.stdout, o.stderr)
	}
	return o.stdout
}

// cniError is an error as the specification wants it printed.
type cniError struct {
	CNIVersion string `json:"cniVersion"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details"`
}

// refused runs the plugin and wants it to fail with the code and with texts in message or details.
func (h *host) refused(code uint, texts []string, command, config string, variables ...string) {
	h.t.Helper()
	o := h.plugin(command, config, variables...)
	var have cniError
	dec := json.NewDecoder(strings.NewReader(o.stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&have); err != nil || o.ok {
		h.t.Errorf("%s: have %q, %v, ok %v, want an error", command, o.stdout, err, o.ok)
		return
	}
	if have.Code != code || have.CNIVersion == "" {
		h.t.Errorf("%s: have %+v, want code %d and a version", command, have, code)
	}
	for _, text := range texts {
		if !strings.Contains(have.Msg+"; "+have.Details, text) {
			h.t.Errorf("%s: have %+v, want it to say %q", command, have, text)
		}
	}
}
