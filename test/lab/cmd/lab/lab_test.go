// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"korat/test/lab"
	"korat/test/lab/sandbox"
)

// binVariable hands the directory with the programs to the tests.
const binVariable = "LAB_TEST_BIN_DIR"

// TestMain runs the tests in a sandbox, so that the notes below /run are theirs alone.
func TestMain(m *testing.M) { os.Exit(sandbox.Main(func() int { return withPrograms(m) })) }

func withPrograms(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lab-programs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := lab.Build(context.Background(), dir, append(lab.Programs(), "korat/test/lab/cmd/lab")...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv(binVariable, dir)
	return m.Run()
}

// command runs the lab program, for at most two minutes.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, filepath.Join(os.Getenv(binVariable), "lab"), args...)
}

// run runs it and compares the exit status.
func run(t *testing.T, want int, args ...string) string {
	t.Helper()
	cmd := command(t, args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if have := cmd.ProcessState.ExitCode(); have != want {
		t.Fatalf("lab %s: exit status %d, want %d\n%s", strings.Join(args, " "), have, want, out)
	}
	return string(out)
}

// traces lists what a lab would leave: processes with its directory on their command line, notes,
// and mounts.
func traces(t *testing.T, dir string) string {
	t.Helper()
	var found strings.Builder
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	notes, err := filepath.Glob(noteDir + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		line, _ := os.ReadFile(file) // It may have ended since.
		if strings.Contains(string(line), dir) {
			fmt.Fprintln(&found, file, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	links, err := exec.CommandContext(t.Context(), "ip", "-o", "link").Output()
	if err != nil {
		t.Fatal(err)
	}
	return found.String() + strings.Join(notes, "\n") + string(mounts) + string(links)
}

func awaitTraces(t *testing.T, dir, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := lab.Until(ctx, "nothing is left", func(context.Context) error {
		if have := traces(t, dir); have != want {
			return fmt.Errorf("have\n%s\nwant\n%s", have, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestUpEnterDown(t *testing.T) {
	dir := t.TempDir()
	before := traces(t, dir)
	out := run(t, 0, "up", "--name", "one", "--hosts", "2", "--pods", "1", "--dir", dir)
	for _, want := range []string{"2 hosts on a switch", "2 agents ready, with 1 pods each", "Lab one is up"} {
		if !strings.Contains(out, want) {
			t.Errorf("up does not say %q:\n%s", want, out)
		}
	}
	run(t, 0, "up", "--name", "two", "--hosts", "1", "--pods", "1", "--families", "ipv6", "--dir", filepath.Join(dir, "two"))
	for _, want := range []string{"lab one, logs in " + dir, "a/a1", "b/b1", "192.168.100.101 fd00:192:168::101 ", "  korat-node runs", "lab two"} {
		if out := run(t, 0, "status"); !strings.Contains(out, want) {
			t.Errorf("status does not say %q:\n%s", want, out)
		}
	}
	if out := run(t, 1, "up", "--name", "one"); !strings.Contains(out, "lab one is up already") {
		t.Errorf("up of what is up says %s", out)
	}
	if out := run(t, 1, "exec", "a", "hostname"); !strings.Contains(out, "2 labs are up") {
		t.Errorf("exec in one of two labs says %s", out)
	}
	if out := run(t, 0, "exec", "--name", "one", "b", "hostname"); out != "b\n" {
		t.Errorf("hostname of b is %q", out)
	}
	if out := run(t, 0, "exec", "--name", "one", "a/a1", "ip", "route"); !strings.HasPrefix(out, "default via 169.254.1.1 dev eth0") {
		t.Errorf("routes of a1 are\n%s", out)
	}
	if out := run(t, 0, "exec", "--name", "one", "a/a1", "ip", "-6", "route", "show", "default"); !strings.HasPrefix(out, "default via fe80::ecee:eeff:feee:eeee dev eth0") {
		t.Errorf("IPv6 routes of a1 are\n%s", out)
	}
	if out := run(t, 0, "exec", "--name", "two", "a/a1", "ip", "-4", "route"); out != "" {
		t.Errorf("IPv4 routes in a lab of IPv6 are\n%s", out)
	}
	run(t, 7, "exec", "--name", "one", "a/a1", "sh", "-c", "exit 7")
	for _, where := range []string{"c", "a/b1"} {
		if out := run(t, 1, "exec", "--name", "one", where, "true"); !strings.Contains(out, "none of that name") {
			t.Errorf("exec in %s says %s", where, out)
		}
	}
	run(t, 0, "down", "--name", "one")
	if out := run(t, 0, "exec", "a", "hostname"); out != "a\n" {
		t.Errorf("the end of one lab disturbed the other: hostname is %q", out)
	}
	run(t, 0, "down")
	if out := run(t, 0, "down", "--name", "one"); out != "lab one is not up\n" {
		t.Errorf("down of what is not up says %s", out)
	}
	awaitTraces(t, dir, before)
}

// TestKilledUpLeavesNothing kills the owner when the hosts are there and the agents start.
func TestKilledUpLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	before := traces(t, dir)
	cmd := command(t, "up", "--name", "killed", "--dir", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, "3 hosts") {
		t.Fatalf("first line %q, %v", line, err)
	}
	if traces(t, dir) == before {
		t.Fatal("a lab that comes up has no traces, so this test can't see whether they vanish")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	awaitTraces(t, dir, before)
	run(t, 0, "down", "--name", "killed")
}

func TestNoteOfALabThatEndedByItself(t *testing.T) {
	dir := t.TempDir()
	before := traces(t, dir)
	run(t, 0, "up", "--name", "crashed", "--hosts", "1", "--pods", "0", "--dir", dir)
	r, err := find("crashed")
	if err != nil {
		t.Fatal(err)
	}
	one, err := os.FindProcess(r.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = lab.Until(ctx, "the note is gone", func(context.Context) error {
		if _, err := find("crashed"); !errors.Is(err, errNotUp) {
			return fmt.Errorf("find says %w", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	awaitTraces(t, dir, before)
}

func TestDemo(t *testing.T) {
	dir := t.TempDir()
	before := traces(t, dir)
	out := run(t, 0, "demo", "--dir", dir)
	for _, want := range []string{
		" dev cali", " via 192.168.100.101 dev eth0 proto ", "blackhole ",
		"default via 169.254.1.1 dev eth0\n", "169.254.1.1 dev eth0 scope link\n", " lladdr ee:ee:ee:ee:ee:ee ",
		" via fd00:192:168::101 dev eth0 proto 75 metric 1024 onlink", " dev lo proto 75 metric 1024",
		"default via fe80::ecee:eeff:feee:eeee dev eth0 metric 1024", "fe80::ecee:eeff:feee:eeee dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT\n",
		"Established", "All 144 pings were answered.\n",
		"\n  a2           role=client  ✓✗   ·  ✓✗  ✗✗  ✓✗  ✗✗\n", "--port 8080 --proto tcp\n  ALLOWED: TCP from default/a2 ", "  DENIED: TCP from default/c2 ",
		"in effect for all pods ", "KubernetesNetworkPolicy/default/allow deleted\n", "All 360 connections were as the policies say: 132 passed, 228 were blocked.\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if pings, _, _ := strings.Cut(out, "Network policy"); strings.Contains(pings, "✗") || strings.Contains(out, "never") {
		t.Error("something failed")
	}
	if lines := strings.Count(out, "\n"); lines > 200 {
		t.Errorf("%d lines are too many to read", lines)
	}
	if t.Failed() {
		t.Log("\n" + out)
	}
	awaitTraces(t, dir, before)
}

func TestBadSettings(t *testing.T) {
	cases := map[string][]string{
		`--name: "A/1"`:     {"up", "--name", "A/1"},
		"--hosts: 0: want":  {"up", "--hosts", "0"},
		"--pods: 251":       {"up", "--pods", "251"},
		"--families: \"6\"": {"up", "--families", "6"},
		"make build":        {"up", "--bin-dir", "/usr/share"},
		"no lab is up":      {"exec", "a", "true"},
		"lab x is not up":   {"status", "--name", "x"},
	}
	for want, args := range cases {
		if out := run(t, 1, args...); !strings.Contains(out, want) {
			t.Errorf("lab %s says %q, want %q in it", strings.Join(args, " "), out, want)
		}
	}
}
