// SPDX-License-Identifier: Apache-2.0

package cniplugin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
	"korat/test/netns"
)

// attachFour attaches c1 and c2, each with eth0 and net1, and x1 to another network.
func attachFour(t *testing.T, h *host) {
	t.Helper()
	second := netns.NewPod(t)
	for _, ifName := range []string{"eth0", "net1"} {
		h.must("ADD", h.config("1.1.0", ""), "CNI_IFNAME="+ifName)
		h.must("ADD", h.config("1.1.0", ""), "CNI_IFNAME="+ifName, "CNI_CONTAINERID=c2", "CNI_NETNS="+second)
	}
	other := strings.Replace(h.config("1.1.0", ""), `"net"`, `"other"`, 1)
	h.must("ADD", other, "CNI_CONTAINERID=x1", "CNI_NETNS="+netns.NewPod(t))
}

// attached gives the attachments that the kernel and the agent have.
func attached(t *testing.T, h *host) string {
	t.Helper()
	h.agent.mu.Lock()
	defer h.agent.mu.Unlock()
	var both []string
	links := netns.Run(t, "ip link")
	for _, id := range []endpoint.ID{{ContainerID: "c1", IfName: "eth0"}, {ContainerID: "c1", IfName: "net1"}, {ContainerID: "c2", IfName: "eth0"}, {ContainerID: "c2", IfName: "net1"}, {ContainerID: "x1", IfName: "eth0"}} {
		_, known := h.agent.endpoints[id]
		if made := strings.Contains(links, " "+id.String()+" "); made != known {
			t.Errorf("%s: interface %v, record %v", id, made, known)
		}
		if known {
			both = append(both, id.String())
		}
	}
	return strings.Join(both, " ")
}

func TestGC(t *testing.T) {
	list := func(ids ...string) string {
		var entries []string
		for _, id := range ids {
			container, ifName, _ := strings.Cut(id, "/")
			entries = append(entries, fmt.Sprintf(`{"containerID": %q, "ifname": %q}`, container, ifName))
		}
		return `"cni.dev/valid-attachments": [` + strings.Join(entries, ",") + `]`
	}
	all := []string{"c1/eth0", "c1/net1", "c2/eth0", "c2/net1"}
	tests := []struct{ name, keys, want string }{
		{"all valid", list(all...), strings.Join(all, " ") + " x1/eth0"},
		{"some valid", list("c1/net1", "c2/eth0", "c9/eth0"), "c1/net1 c2/eth0 x1/eth0"},
		{"none valid", list(), "x1/eth0"},
		{"none valid, as libcni writes it", `"cni.dev/valid-attachments": null`, "x1/eth0"},
		{"no list", "", strings.Join(all, " ") + " x1/eth0"},
		{"the rest of the configuration is bad", list(all[1:]...) + `, "mtu": -1, "vxlan": true`, strings.Join(all[1:], " ") + " x1/eth0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			attachFour(t, h)
			for range 2 { // it may be repeated
				wantText(t, h.must("GC", h.config("1.1.0", tt.keys)), "")
				wantText(t, attached(t, h), tt.want)
			}
		})
	}
}

// A GC that is not understood removes nothing, and one that fails in part does the rest.
func TestGCRefuses(t *testing.T) {
	h := newHost(t)
	attachFour(t, h)
	everything := attached(t, h)
	for keys, want := range map[string]string{
		`"cni.dev/valid-attachments": {}`:                        "cni.dev/valid-attachments: {}: json",
		`"cni.dev/valid-attachments": [7]`:                       "cni.dev/valid-attachments: [7]: json",
		`"cni.dev/valid-attachments": [{"ifname": "eth0"}]`:      "entry 0: containerID or ifname is missing",
		`"cni.dev/valid-attachments": [{"containerID": "c1"}]`:   "entry 0: containerID or ifname is missing",
		`"cni.dev/valid-attachments": ["c1"]`:                    "json",
		`"cni.dev/valid-attachments": [{"containerID": ["c1"]}]`: "json",
	} {
		h.refused(socket.CodeInvalidConfig, []string{want}, "GC", h.config("1.1.0", keys))
	}
	h.refused(1, []string{"does not allow GC"}, "GC", h.config("1.0.0", ""))
	wantText(t, attached(t, h), everything)

	h.agent.answer = func(_ context.Context, req socket.Request) *socket.Reply {
		if req.Verb == socket.VerbDel && req.IfName == "net1" {
			r := refuse(socket.CodeInternal, "journal's disk full")
			return &r
		}
		return nil
	}
	const none = `"cni.dev/valid-attachments": [], "timeout": 1`
	h.refused(socket.CodeInternal, []string{"journal's disk full", "collect c1/net1", "collect c2/net1"}, "GC", h.config("1.1.0", none))
	h.agent.answer = nil
	h.must("GC", h.config("1.1.0", none))
	wantText(t, attached(t, h), "x1/eth0")

	h.agent.stop()
	h.refused(socket.CodeTryAgainLater, []string{"no agent answers on " + h.agent.path}, "GC", h.config("1.1.0", none))
}

// An agent that goes away in a GC's middle finds the rest in its queue.
func TestGCAgentKilled(t *testing.T) {
	h := newHost(t)
	attachFour(t, h)
	h.agent.answer = func(ctx context.Context, req socket.Request) *socket.Reply {
		if req.Verb != socket.VerbDel {
			return nil
		}
		go h.agent.stop()
		<-ctx.Done()
		r := refuse(socket.CodeInternal, "killed")
		return &r
	}
	h.must("GC", h.config("1.1.0", `"cni.dev/valid-attachments": [], "timeout": 2`))
	h.agent.stop() // waits for it
	h.agent.answer = nil
	h.agent.start()
	netns.WaitFor(t, "the queued DELs", func() bool {
		h.agent.mu.Lock()
		defer h.agent.mu.Unlock()
		return len(h.agent.endpoints) == 1
	})
	wantText(t, attached(t, h), "x1/eth0")
}

// What a runtime asks for by capability is what the pod gets.
func TestAskedAddressAndMAC(t *testing.T) {
	for _, keys := range []string{
		`"capabilities": {"ips": true, "mac": true}, "runtimeConfig": {"ips": ["172.17.8.77/16"], "mac": "02:AB:00:00:00:01"}`,
		`"args": {"cni": {"ips": ["172.17.8.77"]}}, "runtimeConfig": {"mac": "02:ab:00:00:00:01"}`,
	} {
		h := newHost(t)
		config := h.config("1.0.0", keys)
		result := h.must("ADD", config, "CNI_ARGS=IP=172.17.8.77")
		var have struct {
			IPs        []struct{ Address string }
			Interfaces []struct{ MAC string }
		}
		if err := json.Unmarshal([]byte(result), &have); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(have) != "{[{172.17.8.77/32}] [{ee:ee:ee:ee:ee:ee} {02:ab:00:00:00:01}]}" {
			t.Errorf("have %v", have)
		}
		wantText(t, podMAC(t, h, "eth0"), "02:ab:00:00:00:01")
		h.must("CHECK", strings.Replace(config, "{", `{"prevResult": `+result+`, `, 1))
		wantText(t, h.must("ADD", config), result) // repeated
		h.refused(socket.CodeInvalidEnv, []string{"CNI_ARGS: IP=172.17.8.78: the network configuration asks for 172.17.8.77"}, "ADD", config, "CNI_ARGS=IP=172.17.8.78")
		h.must("DEL", config)
	}
}

// Runtimes may repeat themselves while an earlier call still runs: one attachment comes of it, or none.
func TestParallelSameAttachment(t *testing.T) {
	h := newHost(t)
	before := netns.Run(t, "ip -o link")
	hostNS := netns.Here(t)
	const calls = 6
	config := h.config("1.0.0", "")
	run := func(commands ...string) map[string]bool {
		results := make(chan outcome, calls)
		for i := range calls {
			go func() { results <- h.pluginIn(hostNS, commands[i%len(commands)], config) }()
		}
		printed := map[string]bool{}
		for range calls {
			o := <-results
			if !o.ok {
				t.Errorf("%v: %s%s", commands, o.stdout, o.stderr)
			}
			printed[o.stdout] = true
		}
		return printed
	}
	if printed := run("ADD"); len(printed) != 1 {
		t.Errorf("have different results: %v", printed)
	}
	if have := strings.Count(netns.Run(t, "ip -o link"), "alias korat default/c1"); have != 1 {
		t.Errorf("have %d interfaces, want one", have)
	}
	run("DEL")
	h.agent.wantNone()
	wantText(t, netns.Run(t, "ip -o link"), before)
}

// ADD and DEL of one attachment at once, which no runtime should do: a DEL never fails, an ADD that is overtaken
// says so or is undone, and the last DEL leaves nothing.
func TestParallelAddAndDel(t *testing.T) {
	h := newHost(t)
	before := netns.Run(t, "ip -o link")
	hostNS := netns.Here(t)
	config := h.config("1.0.0", "")
	const calls = 12
	results := make(chan error, calls)
	for i := range calls {
		command := []string{"ADD", "DEL"}[i%2]
		go func() {
			o := h.pluginIn(hostNS, command, config)
			var failure cniError
			switch {
			case o.ok:
				results <- nil
			case command == "DEL":
				results <- fmt.Errorf("DEL: %s%s", o.stdout, o.stderr)
			default:
				if err := json.Unmarshal([]byte(o.stdout), &failure); err != nil || failure.Code == 0 || failure.Msg == "" {
					results <- fmt.Errorf("ADD: %s%s", o.stdout, o.stderr)
					return
				}
				results <- nil
			}
		}()
	}
	for range calls {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	h.must("DEL", config)
	h.agent.wantNone()
	wantText(t, netns.Run(t, "ip -o link"), before)
	h.must("ADD", config)
	h.must("DEL", config)
}

// A kubelet makes a pod's new sandbox, then removes the old one, twice.
func TestNewSandboxBeforeDelOfTheOld(t *testing.T) {
	h := newHost(t)
	config := h.config("1.0.0", "")
	const pod = "CNI_ARGS=K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"
	oldNS, newNS := h.pod, netns.NewPod(t)
	h.must("ADD", config, pod)
	h.must("ADD", config, pod, "CNI_CONTAINERID=c2", "CNI_NETNS="+newNS)
	listing := netns.Listing(t, newNS)
	for range 2 {
		h.must("DEL", config, pod, "CNI_NETNS="+oldNS)
	}
	h.must("DEL", config, pod, "CNI_NETNS=") // and once more, its namespace forgotten
	h.agent.stop()
	h.must("DEL", config, pod, "CNI_NETNS="+oldNS)
	wantText(t, netns.Listing(t, newNS), listing)
	h.agent.start()
	wantText(t, netns.Listing(t, newNS), listing)
	h.agent.mu.Lock()
	defer h.agent.mu.Unlock()
	if _, known := h.agent.endpoints[endpoint.ID{ContainerID: "c2", IfName: "eth0"}]; !known {
		t.Errorf("the new sandbox is forgotten: %v", h.agent.endpoints)
	}
}
