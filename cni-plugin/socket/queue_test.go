// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"korat/felix/endpoint"
)

func queueUp(t *testing.T, path string, ids ...endpoint.ID) {
	t.Helper()
	for _, id := range ids {
		if err := Queue(path, id); err != nil {
			t.Fatal(err)
		}
	}
}

// waiting gives the names in the queue.
func waiting(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(queueOf(path).path)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// emptied waits until nothing is queued.
func emptied(t *testing.T, path string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for len(waiting(t, path)) > 0 {
		select {
		case <-deadline:
			t.Fatalf("still queued: %v", waiting(t, path))
		case <-tick.C:
		}
	}
}

// socketWithQueue gives the path of a socket whose agent has been there and is gone.
func socketWithQueue(t *testing.T) string {
	t.Helper()
	path := filepath.Join(directory(t), "agent.sock")
	s, err := Listen(path)
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// start serves on a path until the test ends or stop is called.
func start(t *testing.T, path string, h Handler, change func(*Server)) (stop func()) {
	t.Helper()
	s, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Limits.Drain = 5 * time.Millisecond
	if change != nil {
		change(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, h) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func TestQueuedBeforeTheFirstConnection(t *testing.T) {
	path := socketWithQueue(t)
	const n = 200
	var ids []endpoint.ID
	for i := range n {
		ids = append(ids, endpoint.ID{ContainerID: fmt.Sprintf("c%d", i), IfName: "eth0"})
	}
	queueUp(t, path, ids...)
	queueUp(t, path, ids[0], ids[0]) // repeated
	if have := len(waiting(t, path)); have != n {
		t.Errorf("%d are queued, want %d", have, n)
	}
	h := &fake{handle: answer(false), events: make(chan string, n+10)}
	start(t, path, h, nil)
	if _, err := dial(t, path).Call(t.Context(), Request{Verb: VerbStatus}); err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for range n {
		told[h.next(t)] = true
	}
	if last := h.next(t); last != "STATUS /" || len(told) != n || !told["DEL c0/eth0"] {
		t.Errorf("%d DELs and then %q, want %d and STATUS", len(told), last, n)
	}
	if left := waiting(t, path); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// What comes while the server runs is carried out too, even if the directory was removed meanwhile.
func TestQueuedLater(t *testing.T) {
	path := socketWithQueue(t)
	h := newFake(answer(false))
	start(t, path, h, nil)
	queueUp(t, path, idA)
	if have := h.next(t); have != "DEL a/eth0" {
		t.Errorf("have %q", have)
	}
	emptied(t, path)
	if err := os.Remove(queueOf(path).path); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(20 * time.Second)
	for Queue(path, idA) != nil {
		select {
		case <-deadline:
			t.Fatal("the directory is not made again")
		default:
		}
	}
	if have := h.next(t); have != "DEL a/eth0" {
		t.Errorf("have %q", have)
	}
}

// A DEL that the agent refuses stays queued, and holds up nothing but its own attachment's ADD.
func TestQueuedAndRefused(t *testing.T) {
	path := socketWithQueue(t)
	idB := endpoint.ID{ContainerID: "b", IfName: "eth0"}
	queueUp(t, path, idA, idB)
	var mu sync.Mutex
	refuse := true
	h := newFake(func(ctx context.Context, req Request) Reply {
		mu.Lock()
		defer mu.Unlock()
		if refuse && req.Verb == VerbDel && req.ID == idA {
			return refusal(CodeInternal, "the journal's disk is full")
		}
		return answer(false)(ctx, req)
	})
	h.events = make(chan string, 10000)
	var log lockedText
	start(t, path, h, func(s *Server) { s.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	if _, err := dial(t, path).Call(t.Context(), Request{Verb: VerbAdd, ID: idB}); err != nil {
		t.Errorf("ADD of another: %v", err)
	}
	var refused *Error
	_, err := dial(t, path).Call(t.Context(), Request{Verb: VerbAdd, ID: idA})
	if !errors.As(err, &refused) || refused.Code != CodeTryAgainLater || !strings.Contains(refused.Error(), "queued DEL of a/eth0: the journal's disk is full") {
		t.Errorf("ADD of the same: have %v", err)
	}
	for seen := 0; seen < 5; { // it is tried again
		if h.next(t) == "DEL a/eth0" {
			seen++
		}
	}
	if n := strings.Count(log.String(), "journal's disk is full"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, log.String())
	}
	if have := waiting(t, path); len(have) != 1 || have[0] != entryName(idA) {
		t.Errorf("queued: %v, want that of a", have)
	}
	mu.Lock()
	refuse = false
	mu.Unlock()
	emptied(t, path)
	if _, err := dial(t, path).Call(t.Context(), Request{Verb: VerbAdd, ID: idA}); err != nil {
		t.Errorf("ADD when the DEL is done: %v", err)
	}
}

type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// An ADD has the DEL that was queued before it carried out, and no DEL of before meets it later: also
// not one that is queued while it runs.
func TestQueuedDelComesBeforeAdd(t *testing.T) {
	path := socketWithQueue(t)
	h := newFake(answer(false))
	start(t, path, h, func(s *Server) { s.Limits.Drain = time.Hour })
	for range 2 {
		queueUp(t, path, idA)
		c := dial(t, path)
		for _, v := range []Verb{VerbAdd, VerbReady} {
			if _, err := c.Call(t.Context(), Request{Verb: v, ID: idA}); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.Close()
		for _, want := range []string{"DEL a/eth0", "ADD a/eth0", "READY a/eth0"} {
			if have := h.next(t); have != want {
				t.Errorf("have %q, want %q", have, want)
			}
		}
	}
	if left := waiting(t, path); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// An agent that dies between a DEL and its removal from the queue does it again, before any ADD.
func TestQueuedSurvivesTheServer(t *testing.T) {
	path := socketWithQueue(t)
	queueUp(t, path, idA)
	h := newFake(func(ctx context.Context, _ Request) Reply {
		<-ctx.Done()
		return refusal(CodeInternal, "stopped")
	})
	stop := start(t, path, h, nil)
	if have := h.next(t); have != "DEL a/eth0" {
		t.Errorf("have %q", have)
	}
	stop()
	h = newFake(answer(false))
	start(t, path, h, nil)
	if have := h.next(t); have != "DEL a/eth0" {
		t.Errorf("have %q", have)
	}
	emptied(t, path)
}

func TestQueueIsBounded(t *testing.T) {
	path := socketWithQueue(t)
	for i := range maxQueued {
		if err := os.WriteFile(queueOf(path).file(fmt.Sprintf("%d%s", i, badSuffix)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := Queue(path, idA)
	if err == nil || !strings.Contains(err.Error(), "queue DEL of a/eth0: ") || !strings.Contains(err.Error(), "is full: 4096 wait there already") {
		t.Errorf("have %v", err)
	}
}

// What is in the directory and no entry is put aside, and reported once with its reason.
func TestBadEntries(t *testing.T) {
	path := socketWithQueue(t)
	q := queueOf(path)
	good := `{"containerID":"a","ifName":"eth0","queued":"2026-01-01T00:00:00Z"}`
	plant := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(q.file(name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(q.file(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	plant("torn.json", good[:20], 0o600)
	plant("empty.json", "", 0o600)
	plant("other.json", good, 0o600)
	plant("long.json", good+strings.Repeat(" ", maxEntry), 0o600)
	plant("fields.json", strings.Replace(good, "queued", "verb", 1), 0o600)
	plant(entryName(idA), good, 0o666)
	if err := os.Symlink("/etc/passwd", q.file("link.json")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(q.file("fifo.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(q.file("dir.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	plant(".half-written", "{", 0o600)
	plant(".just-now", "{", 0o600)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(q.file(".half-written"), old, old); err != nil {
		t.Fatal(err)
	}
	ids, err := q.all(time.Now())
	if len(ids) != 0 || err == nil {
		t.Errorf("have %v, %v", ids, err)
	}
	for _, want := range []string{
		"torn.json is put aside as torn.json.bad: unexpected EOF", "empty.json is put aside as empty.json.bad: EOF",
		"it is about a/eth0, whose file's name is " + entryName(idA), "want a regular file of at most 4096",
		`unknown field "verb"`, "may be written by others than root", "link.json: too many levels of symbolic links",
	} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("have %v\nwant it to say %q", err, want)
		}
	}
	left := waiting(t, path)
	for _, name := range left {
		if name != ".just-now" && !strings.HasSuffix(name, badSuffix) {
			t.Errorf("%s is left", name)
		}
	}
	if slices.Contains(left, ".half-written") || !slices.Contains(left, ".just-now") {
		t.Errorf("left: %v, want the new half-written file and not the old one", left)
	}
	if ids, err := q.all(time.Now()); len(ids) != 0 || err != nil {
		t.Errorf("again: %v, %v", ids, err)
	}
}

func FuzzQueued(f *testing.F) {
	f.Add([]byte(`{"containerID":"a","ifName":"eth0","queued":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"containerID":"","ifName":""}`))
	dir, err := os.MkdirTemp("", "korat-queue-")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	q := queue{dir}
	f.Fuzz(func(t *testing.T, data []byte) {
		name := entryName(idA)
		if err := os.WriteFile(q.file(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := q.read(name); err == nil && id != idA {
			t.Errorf("%q: taken for %s", data, id)
		}
	})
}

func TestQueueDirectory(t *testing.T) {
	path := socketWithQueue(t)
	q := queueOf(path)
	if info, err := os.Stat(q.path); err != nil || info.Mode() != os.ModeDir|0o700 {
		t.Errorf("have %v, %v, want mode 0700", info, err)
	}
	queueUp(t, path, idA)
	if info, err := os.Stat(q.file(entryName(idA))); err != nil || info.Mode() != 0o600 {
		t.Errorf("have %v, %v, want mode 0600", info, err)
	}
	if err := os.Chmod(q.path, 0o770); err != nil {
		t.Fatal(err)
	}
	const want = "may be written by others than root"
	if err := Queue(path, idA); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("queue: have %v, want %q", err, want)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("listen: have %v, want %q", err, want)
	}
}
