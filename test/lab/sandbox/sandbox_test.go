// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// actVariable tells this test's binary to be one of the programs below instead.
const actVariable = "SANDBOX_TEST_ACT"

func TestMain(m *testing.M) {
	act := os.Getenv(actVariable)
	switch {
	case IsInit():
		os.Exit(Init())
	case act == "":
		// The tests start sandboxes, so they run outside of one.
		os.Exit(m.Run())
	case Inside():
		os.Exit(actInside(act))
	default:
		os.Exit(actOwner(act))
	}
}

// actOwner owns a sandbox, and detaches it if asked.
func actOwner(act string) int {
	config := Config{Stdout: os.Stdout, Stderr: os.Stderr}
	if act != "detach" {
		status, err := Run(config)
		if err != nil {
			fmt.Println(err)
		}
		return status
	}
	s, err := Start(config)
	if err == nil {
		err = s.Detach()
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// actInside is what runs in the sandbox.
func actInside(act string) int {
	switch act {
	case "status":
		return 7
	case "signal":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		return 0
	case "facts":
		name, _ := os.ReadFile("/proc/1/cmdline")
		program, _, _ := strings.Cut(string(name), "\x00")
		fmt.Printf("process 1 is this program: %t\n", program == os.Args[0])
		for _, dir := range append(Private(), "/etc/passwd", "/var/lib/dpkg") {
			_, err := os.Stat(dir)
			fmt.Printf("%s exists: %t\n", dir, err == nil)
		}
		out, err := exec.CommandContext(context.Background(), "ip", "-o", "link").CombinedOutput()
		fmt.Printf("%d link, err %v, up: %t\n", strings.Count(string(out), "\n"), err, strings.Contains(string(out), "LOWER_UP"))
		return 0
	default: // "stay", "detach"
		// The orphan's argument is the mark that the tests look for.
		script := `sleep "$1" >/dev/null 2>&1 &`
		if out, err := exec.CommandContext(context.Background(), "sh", "-c", script, "sh", os.Getenv("SANDBOX_TEST_MARK")).Output(); err != nil {
			fmt.Println(err, string(out))
			return 1
		}
		net, _ := os.Readlink("/proc/self/ns/net")
		mnt, _ := os.Readlink("/proc/self/ns/mnt")
		fmt.Println("ready", net, mnt)
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		<-term
		return 0
	}
}

func act(t *testing.T, name string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), append(env, actVariable+"="+name)...)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestStatusIsPassedOn(t *testing.T) {
	cases := map[string]int{"status": 7, "signal": 128 + int(syscall.SIGKILL)}
	for name, want := range cases {
		cmd := act(t, name)
		_ = cmd.Run()
		if have := cmd.ProcessState.ExitCode(); have != want {
			t.Errorf("%s: exit status %d, want %d", name, have, want)
		}
	}
}

func TestInside(t *testing.T) {
	before := listing(t)
	out, err := act(t, "facts").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "process 1 is this program: true\n"
	for _, dir := range append(Private(), "/etc/passwd", "/var/lib/dpkg") {
		want += dir + " exists: true\n"
	}
	want += "1 link, err <nil>, up: true\n"
	if have := string(out); have != want {
		t.Errorf("have\n%swant\n%s", have, want)
	}
	if after := listing(t); after != before {
		t.Errorf("the sandbox changed the machine's files: before\n%s\nafter\n%s", before, after)
	}
}

// listing is what the parents of Private hold, and the mounts.
func listing(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range []string{"/etc", "/opt", "/var/lib", "/var/log"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			fmt.Fprintln(&b, filepath.Join(dir, entry.Name()))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return b.String() + string(mounts)
}

// start runs an act that stays, and returns it with the namespaces that it reported.
func start(t *testing.T, name, argument string) (*exec.Cmd, []string) {
	t.Helper()
	cmd := act(t, name, "SANDBOX_TEST_MARK="+argument)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) != 3 || fields[0] != "ready" {
		t.Fatalf("first line %q, %v", line, err)
	}
	if len(marked(t, argument)) != 1 {
		t.Fatalf("the sandbox has no process marked %s", argument)
	}
	return cmd, fields[1:]
}

// mark is an argument for sleep that no other process of the machine has.
func mark(n int) string { return fmt.Sprintf("1%07d%d", os.Getpid(), n) }

// marked finds the processes with the mark as an argument.
func marked(t *testing.T, argument string) []int {
	t.Helper()
	var pids []int
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		line, _ := os.ReadFile(file) // It may have ended since.
		if strings.HasSuffix(string(line), "\x00"+argument+"\x00") {
			var pid int
			if _, err := fmt.Sscanf(file, "/proc/%d/", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// holders finds the processes that are in a namespace.
func holders(t *testing.T, namespaces []string) []string {
	t.Helper()
	var found []string
	links, err := filepath.Glob("/proc/[0-9]*/ns/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		target, _ := os.Readlink(l)
		for _, namespace := range namespaces {
			if target == namespace {
				found = append(found, l)
			}
		}
	}
	return found
}

// gone waits until nothing of a sandbox is left.
func gone(t *testing.T, argument string, namespaces []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		pids, held := marked(t, argument), holders(t, namespaces)
		if len(pids)+len(held) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("left over: processes %v, namespaces %v", pids, held)
		case <-tick.C:
		}
	}
}

func TestKilledOwnerLeavesNothing(t *testing.T) {
	before := listing(t)
	owner, namespaces := start(t, "stay", mark(1))
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	gone(t, mark(1), namespaces)
	if after := listing(t); after != before {
		t.Errorf("files or mounts are left: before\n%s\nafter\n%s", before, after)
	}
}

func TestTwoSandboxesAtOnce(t *testing.T) {
	one, namespacesOne := start(t, "stay", mark(2))
	two, namespacesTwo := start(t, "stay", mark(3))
	if namespacesOne[0] == namespacesTwo[0] || namespacesOne[1] == namespacesTwo[1] {
		t.Errorf("two sandboxes share a namespace: %v and %v", namespacesOne, namespacesTwo)
	}
	_ = one.Process.Kill()
	_ = one.Wait()
	gone(t, mark(2), namespacesOne)
	if len(marked(t, mark(3))) != 1 {
		t.Error("the end of one sandbox ended another")
	}
	_ = two.Process.Kill()
	_ = two.Wait()
	gone(t, mark(3), namespacesTwo)
}

// parent is a process's parent.
func parent(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var ppid int
	_, after, _ := strings.Cut(string(status), "\nPPid:")
	if _, err := fmt.Sscanf(after, "%d", &ppid); err != nil {
		t.Fatal(err)
	}
	return ppid
}

func TestDetachedSandboxOutlivesItsOwner(t *testing.T) {
	owner, namespaces := start(t, "detach", mark(4))
	if err := owner.Wait(); err != nil {
		t.Fatal(err)
	}
	pids := marked(t, mark(4))
	if len(pids) != 1 {
		t.Fatalf("processes %v, want one", pids)
	}
	// The shell that started it has ended, so its parent is process 1 of the sandbox.
	if err := syscall.Kill(parent(t, pids[0]), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, mark(4), namespaces)
}

func TestSignalsReachTheProgramInside(t *testing.T) {
	// It ends with status 0 on SIGTERM; process 1 and the owner would not.
	owner, namespaces := start(t, "stay", mark(5))
	if err := owner.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := owner.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	gone(t, mark(5), namespaces)
}
