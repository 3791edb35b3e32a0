// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/felix"
	"korat/felix/mirror"
)

// What another user can write to is neither believed nor changed: not the record of pods in it, and no
// speaker is asked there.
func TestDirectoriesOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away: make test runs this as root")
	}
	good, bad := t.TempDir(), t.TempDir()
	const record = "not a record of pods"
	if err := os.WriteFile(filepath.Join(bad, "endpoints.journal"), []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{good, bad} {
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	theirLink := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(good, theirLink); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{bad, theirLink} {
		if err := os.Lchown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	log := slog.New(slog.DiscardHandler)
	for dir, want := range map[string]string{
		bad:       "may be written by others than root",
		theirLink: "is a symbolic link that another user has made",
	} {
		err := run(ended, settings{runDir: dir}, felix.Config{}, log)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "--run-dir: ") {
			t.Errorf("run in %s: have %v, want --run-dir: … %s", dir, err, want)
		}
		if _, _, err = (settings{runDir: good, speakerSocket: filepath.Join(dir, "s")}).speaker(log); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("speaker in %s: have %v, want --speaker-socket: … %s", dir, err, want)
		}
		cmd := speakerCommand()
		cmd.SetArgs([]string{"--socket", filepath.Join(dir, "s")})
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		if err := cmd.ExecuteContext(ended); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("korat-node speaker in %s: have %v, want --socket: … %s", dir, err, want)
		}
	}
	if text, err := os.ReadFile(filepath.Join(bad, "endpoints.journal")); err != nil || string(text) != record {
		t.Errorf("the record has become %q, %v", text, err)
	}
	for _, dir := range []string{good, bad} {
		if left, err := os.ReadDir(dir); err != nil || dir == good && len(left) != 0 || dir == bad && len(left) != 1 {
			t.Errorf("%s has %v, %v", dir, left, err)
		}
	}
}

// An agent sees the endpoints that an earlier one of its node has written, and no other node's: from the
// first list, from events, and after it has been rewritten for another node. So the mirror removes what is stale.
func TestAgentSeesItsOwnEndpoints(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	data, err := datastoreSettings{kind: "embedded", embeddedDir: t.TempDir(), embeddedListen: "127.0.0.1:0"}.open(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	defer data.close()
	write := func(node, pod string) {
		ep := &api.WorkloadEndpoint{Spec: api.WorkloadEndpointSpec{
			Orchestrator: "k8s", Workload: pod, Node: node, ContainerID: "c", Pod: pod, Endpoint: "eth0", InterfaceName: "cali0",
		}}
		ep.Namespace, ep.Name = "default", api.WorkloadEndpointName(node, "k8s", pod, "eth0")
		if _, err := data.Create(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
	}
	write("a", "old")
	write("b", "others")
	follower := store.NewFollower(data.Brief(newDigest("a").restore), api.Kinds(), log)
	copies := mirror.New(data, "a", log)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{}, 2)
	go func() { follower.Run(ctx); ended <- struct{}{} }()
	go func() { copies.Run(ctx); ended <- struct{}{} }()
	defer func() { cancel(); <-ended; <-ended }()
	has := func(want ...string) func() bool {
		return func() bool {
			snap := follower.Snapshot()
			for _, pod := range want {
				if _, ok := snap.WorkloadEndpoints.Get("default/" + api.WorkloadEndpointName("a", "k8s", pod, "eth0")); !ok {
					return false
				}
			}
			own := 0
			for _, ep := range snap.WorkloadEndpoints.All() {
				if ep.Spec.Node == "a" {
					own++
				}
			}
			return snap.InSync && own == len(want)
		}
	}
	until(t, follower, has("old"))
	write("b", "later")
	write("a", "new")
	until(t, follower, has("old", "new"))
	copies.Want(nil, nil)
	copies.See(follower.Snapshot())
	until(t, follower, has())
	objs, _, err := data.List(t.Context(), api.KindWorkloadEndpoint)
	if err != nil || len(objs) != 2 {
		t.Errorf("have %v, %v, want the two of node b", objs, err)
	}
}

// until waits for a condition on the Snapshot.
func until(t *testing.T, f *store.Follower, ok func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	for !ok() {
		select {
		case <-f.Wake():
		case <-limit:
			t.Fatalf("waited in vain: %v, %+v", f.Snapshot().WorkloadEndpoints, f.Status())
		}
	}
}
