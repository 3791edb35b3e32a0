// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"korat/test/lab"
)

// netConf is the configuration of these tests: a version that has GC and STATUS, and little patience.
func netConf(name, more string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "type": "korat", "timeout": 2%s}`, name, more)
}

// callFor gives a call for a pod's container in a network namespace.
func callFor(command, container, pod string) lab.CNI {
	return lab.CNI{
		Command: command, ContainerID: container, NetNS: "/run/netns/" + pod, IfName: "eth0",
		Args: "K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + pod, Config: netConf("korat", ""),
	}
}

// must calls the plugin, which must succeed, and gives the address of its result if it has one.
func (w *world) must(h *lab.Host, call lab.CNI) string {
	w.Helper()
	out, err := h.CNI(w.limit(), call)
	if err != nil {
		w.Fatalf("%v; output %s", err, out)
	}
	var result types100.Result
	if out != "" && json.Unmarshal([]byte(out), &result) == nil && len(result.IPs) == 1 {
		return result.IPs[0].Address.IP.String()
	}
	return ""
}

// clean waits until kernel, journal, queue and datastore hold nothing of any pod.
func (w *world) clean(h *lab.Host, kernel string) {
	w.Helper()
	w.until("nothing is left of any pod", func(ctx context.Context) error {
		queued, err := h.Exec(ctx, "find", "/run/korat/del", "-type", "f")
		if err != nil {
			return err
		}
		stored, err := h.Exec(ctx, "koratctl", "get", "wep", "-A", "-o", "json")
		if err != nil {
			return err
		}
		blocks, err := h.Exec(ctx, "koratctl", "get", "ipamblocks", "-o", "yaml")
		if err != nil {
			return err
		}
		if strings.Contains(stored, "containerID") || strings.Count(blocks, "namespace: default") > strings.Count(blocks, "releasedAt: ") || queued != "" {
			return fmt.Errorf("queued: %s\nendpoints: %s\nblocks:\n%s", queued, stored, blocks)
		}
		return nil
	})
	w.until("the kernel is as before", func(context.Context) error {
		if have := w.kernel(h); have != kernel {
			return fmt.Errorf("before\n%s\nnow\n%s", kernel, have)
		}
		return nil
	})
	if have := w.recorded(h); have != "" {
		w.Errorf("recorded: %s", have)
	}
}

// TestNoAgent has a runtime go on while no agent runs, or one that is frozen.
func TestNoAgent(t *testing.T) {
	w := cluster(t, 1)
	h, agent := w.host("a"), w.Agents[0]
	for _, pod := range []string{"one", "two", "three"} {
		w.run(h, "ip netns add "+pod)
	}
	before := w.kernel(h)
	first := w.must(h, callFor("ADD", "c1", "one"))
	second := w.must(h, callFor("ADD", "c2", "two"))

	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	_, err := h.CNI(w.limit(), callFor("ADD", "c3", "three"))
	w.isCNIError(err, 11, "no agent answers on /run/korat/agent.sock")
	_, err = h.CNI(w.limit(), lab.CNI{Command: "STATUS", Config: netConf("korat", "")})
	w.isCNIError(err, 50, "no agent answers on /run/korat/agent.sock")
	_, err = h.CNI(w.limit(), lab.CNI{Command: "GC", Config: netConf("korat", `, "cni.dev/valid-attachments": []`)})
	w.isCNIError(err, 11, "no agent answers on /run/korat/agent.sock")
	for _, call := range []lab.CNI{callFor("DEL", "c1", "one"), callFor("DEL", "c1", "one"), callFor("DEL", "c3", "three"), callFor("DEL", "never-added", "one")} {
		w.must(h, call)
	}
	if have := strings.Count(w.run(h, "find /run/korat/del -name *.json -perm 600"), "\n"); have != 3 {
		t.Errorf("%d DELs are queued, want 3", have)
	}
	if links := w.run(h, "ip link"); strings.Contains(links, "c1/eth0") || !strings.Contains(links, "c2/eth0") {
		t.Errorf("links while no agent runs:\n%s", links)
	}
	// The same container again, before there is an agent: it waits, and is not met by its own DEL.
	var again string
	var wait sync.WaitGroup
	wait.Go(func() {
		call := callFor("ADD", "c1", "one")
		call.Config = strings.Replace(call.Config, `"timeout": 2`, `"timeout": 30`, 1)
		again = w.must(h, call)
	})
	agent = w.start(h)
	w.ready(agent)
	wait.Wait()
	if again == "" || again == second {
		t.Errorf("address %q after a queued DEL; the first was %s, another pod's is %s", again, first, second)
	}
	w.until("the queue is empty", func(ctx context.Context) error {
		out, err := h.Exec(ctx, "ls", "-A", "/run/korat/del")
		if err == nil && out != "" {
			err = fmt.Errorf("left: %s", out)
		}
		return err
	})
	if have := w.recorded(h); strings.Count(have, "\n") != 2 || !strings.Contains(have, "c1/eth0 default/one ["+again+"]") {
		t.Errorf("recorded:\n%s", have)
	}

	if err := agent.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.until("the agent has stopped", func(context.Context) error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", agent.PID))
		if err == nil && !strings.Contains(string(stat), ") T ") { // proc_pid_stat(5)
			err = errors.New("it still runs")
		}
		return err
	})
	_, err = h.CNI(w.limit(), callFor("ADD", "c3", "three"))
	w.isCNIError(err, 11, "did not answer ADD in time")
	_, err = h.CNI(w.limit(), lab.CNI{Command: "STATUS", Config: netConf("korat", "")})
	w.isCNIError(err, 50, "did not answer STATUS in time")
	w.must(h, callFor("DEL", "c2", "two"))
	w.must(h, callFor("DEL", "c1", "one"))
	if err := agent.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.must(h, callFor("DEL", "c3", "three"))
	w.clean(h, before)
}

// TestGCAndStatus lets a runtime forget attachments of one of two networks.
func TestGCAndStatus(t *testing.T) {
	w := hosts(t, 1, "default-pool-cidr: 172.17.0.0/29\ndefault-pool-block-size: 29\n")
	if err := w.StartAgents(); err != nil {
		t.Fatal(err)
	}
	w.ready(w.Agents...)
	h := w.host("a")
	status := lab.CNI{Command: "STATUS", Config: netConf("korat", "")}
	w.until("STATUS is good", func(ctx context.Context) error {
		_, err := h.CNI(ctx, status)
		return err
	})
	w.settled(h)
	before := w.kernel(h)
	add := func(container, net string) {
		w.run(h, "ip netns add "+container)
		call := callFor("ADD", container, container)
		call.Config = netConf(net, "")
		w.must(h, call)
	}
	for i := range 4 {
		add(fmt.Sprintf("c%d", i), "korat")
		add(fmt.Sprintf("x%d", i), "other")
	}
	w.must(h, status) // a full pool is no reason to take the node's pods away
	w.run(h, "ip netns add full")
	_, err := h.CNI(w.limit(), callFor("ADD", "full", "full"))
	w.isCNIError(err, 101, "no free address")

	w.run(h, "ip netns del c1") // its interface went with it
	gc := lab.CNI{Command: "GC", Config: netConf("korat", `, "cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}, {"containerID": "unknown", "ifname": "eth0"}]`)}
	for range 2 {
		w.must(h, gc)
		have := w.recorded(h)
		for _, id := range []string{"c2", "x0", "x1", "x2", "x3"} {
			if !strings.Contains(have, id+"/eth0 ") || !strings.Contains(w.run(h, "ip link"), " "+id+"/eth0 ") {
				t.Errorf("%s is gone; recorded:\n%s", id, have)
			}
		}
		if strings.Count(have, "\n") != 5 {
			t.Errorf("recorded:\n%s", have)
		}
	}
	w.must(h, status)
	for _, net := range []string{"korat", "other"} {
		w.must(h, lab.CNI{Command: "GC", Config: netConf(net, `, "cni.dev/valid-attachments": []`)})
	}
	w.clean(h, before)
}

// TestConcurrentRuntime calls the plugin as busy runtimes do: for many containers at once, twice for the
// same, killed in the middle, and with the new sandbox before the old one's DEL.
func TestConcurrentRuntime(t *testing.T) {
	w := cluster(t, 1)
	h := w.host("a")
	const pods = 12
	for i := range pods {
		w.run(h, fmt.Sprintf("ip netns add p%d", i))
	}
	before := w.kernel(h)
	// each calls for every pod at once, n times.
	each := func(n int, call func(i int)) {
		var all sync.WaitGroup
		for i := range pods * n {
			all.Go(func() { call(i % pods) })
		}
		all.Wait()
	}
	do := func(command, generation string) func(i int) {
		return func(i int) {
			call := callFor(command, fmt.Sprintf("%s-%d", generation, i), fmt.Sprintf("p%d", i))
			call.Config = strings.Replace(call.Config, `"timeout": 2`, `"timeout": 30`, 1)
			if out, err := h.CNI(w.limit(), call); err != nil {
				t.Errorf("%v; output %s", err, out)
			}
		}
	}
	each(2, do("ADD", "old"))
	// The new sandbox has the old one's namespace here, which is harder than what kubelet does.
	each(1, do("ADD", "new"))
	each(2, do("DEL", "old"))
	for i := range pods {
		if out := w.run(h, fmt.Sprintf("ip netns exec p%d ip -o -4 addr show dev eth0", i)); strings.Count(out, "inet ") != 1 {
			t.Errorf("p%d: %s", i, out)
		}
	}
	if have := w.recorded(h); strings.Count(have, "new-") != pods || strings.Contains(have, "old-") {
		t.Errorf("recorded:\n%s", have)
	}
	each(2, do("DEL", "new"))
	w.clean(h, before)

	// Killed at any moment, then deleted.
	each(3, func(i int) {
		call := callFor("ADD", fmt.Sprintf("killed-%d", i), fmt.Sprintf("p%d", i))
		ctx, cancel := context.WithCancel(w.limit())
		stop := make(chan struct{})
		go func() {
			<-stop
			cancel()
		}()
		go func() {
			// The agent's own work decides when: after some other pod's call has gone through it.
			_, _ = h.CNI(w.ctx, lab.CNI{Command: "STATUS", Config: netConf("korat", "")})
			close(stop)
		}()
		_, _ = h.CNI(ctx, call)
		<-stop
		do("DEL", "killed")(i)
	})
	each(1, do("DEL", "killed"))
	w.clean(h, before)
}

// TestResultLost has a runtime that cannot take the result.
func TestResultLost(t *testing.T) {
	w := cluster(t, 1)
	h := w.host("a")
	w.run(h, "ip netns add p")
	before := w.kernel(h)
	for range 2 {
		r := w.try(h, netConf("korat", ""), "env", "CNI_COMMAND=ADD", "CNI_PATH=/opt/cni/bin", "CNI_CONTAINERID=c1", "CNI_NETNS=/run/netns/p",
			"CNI_IFNAME=eth0", "sh", "-c", "/opt/cni/bin/korat >/dev/full")
		if r.status != 1 || !strings.Contains(r.stderr, "print the result: write /dev/stdout: no space left on device") {
			t.Errorf("have %+v", r)
		}
		w.clean(h, before)
	}
}

// TestSocketIsRoots opens the socket's mode to everybody: the credentials still tell.
func TestSocketIsRoots(t *testing.T) {
	w := cluster(t, 1)
	h := w.host("a")
	w.run(h, "chmod 0755 /run/korat")
	w.run(h, "chmod 0666 /run/korat/agent.sock")
	r := w.try(h, netConf("korat", ""), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
		"env", "CNI_COMMAND=STATUS", "CNI_PATH=/opt/cni/bin", "/opt/cni/bin/korat")
	if r.status != 1 || !strings.Contains(r.stdout, "user 65534 may not use the agent's socket: only root may") {
		t.Errorf("have %+v", r)
	}
	w.must(h, lab.CNI{Command: "STATUS", Config: netConf("korat", "")})
}
