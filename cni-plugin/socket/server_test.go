// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"korat/felix/endpoint"
)

// fake is a Handler that tells what it was asked.
type fake struct {
	handle func(ctx context.Context, req Request) Reply
	events chan string
}

func newFake(handle func(context.Context, Request) Reply) *fake {
	return &fake{handle: handle, events: make(chan string, 100)}
}

func (f *fake) Handle(ctx context.Context, req Request) Reply {
	f.events <- string(req.Verb) + " " + req.ID.String()
	return f.handle(ctx, req)
}

func (f *fake) Abort(_ context.Context, id endpoint.ID, unsure bool) {
	text := "abort " + id.String()
	if unsure {
		text += ", unsure"
	}
	f.events <- text
}

// next gives what the handler was told next.
func (f *fake) next(t *testing.T) string {
	t.Helper()
	select {
	case e := <-f.events:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("the handler was told nothing more")
		return ""
	}
}

func answer(ready bool) func(context.Context, Request) Reply {
	return func(_ context.Context, req Request) Reply {
		if req.Verb != VerbAdd {
			return Reply{}
		}
		return Reply{Endpoint: &endpoint.Endpoint{ID: req.ID, Ready: ready, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}
	}
}

// serve starts a server and gives its path and what stops it.
func serve(t *testing.T, h Handler, change func(*Server)) (path string, stop func()) {
	t.Helper()
	path = filepath.Join(directory(t), "run", "agent.sock")
	server, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(server)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, h) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		done <- nil
	}
	t.Cleanup(stop)
	return path, stop
}

// directory gives a short-named directory: t.TempDir's grow with the test's name beyond sun_path.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "korat-socket-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func dial(t *testing.T, path string) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

var idA = endpoint.ID{ContainerID: "a", IfName: "eth0"}

func TestConversation(t *testing.T) {
	tests := []struct {
		name  string
		ready bool // what Add's answer says
		verbs []Verb
		want  []string
	}{
		{"finished", false, []Verb{VerbAdd, VerbReady}, []string{"ADD a/eth0", "READY a/eth0", "STATUS /"}},
		{"hung up before Ready", false, []Verb{VerbAdd}, []string{"ADD a/eth0", "abort a/eth0"}},
		{"hung up before Ready, known before", true, []Verb{VerbAdd}, []string{"ADD a/eth0", "STATUS /"}},
		{"deleted instead", false, []Verb{VerbAdd, VerbDel}, []string{"ADD a/eth0", "DEL a/eth0", "STATUS /"}},
		{"only asked", false, []Verb{VerbCheck}, []string{"CHECK a/eth0", "STATUS /"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newFake(answer(tt.ready))
			path, _ := serve(t, h, func(s *Server) { s.Limits.Connections = 1 })
			c := dial(t, path)
			for _, v := range tt.verbs {
				if _, err := c.Call(t.Context(), Request{Verb: v, ID: idA}); err != nil {
					t.Fatal(err)
				}
			}
			_ = c.Close()
			// With one connection at a time, this is served when the first is wholly over.
			if _, err := dial(t, path).Call(t.Context(), Request{Verb: VerbStatus}); err != nil {
				t.Fatal(err)
			}
			for _, want := range tt.want {
				if have := h.next(t); have != want {
					t.Errorf("have %q, want %q", have, want)
				}
			}
		})
	}
}

func TestRefusedReadyIsUndone(t *testing.T) {
	h := newFake(func(ctx context.Context, req Request) Reply {
		if req.Verb == VerbReady {
			return refusal(CodeInternal, "no route")
		}
		return answer(false)(ctx, req)
	})
	path, _ := serve(t, h, nil)
	c := dial(t, path)
	if _, err := c.Call(t.Context(), Request{Verb: VerbAdd, ID: idA}); err != nil {
		t.Fatal(err)
	}
	var refused *Error
	if _, err := c.Call(t.Context(), Request{Verb: VerbReady, ID: idA}); !errors.As(err, &refused) || refused.Message != "no route" {
		t.Fatalf("have %v", err)
	}
	_ = c.Close()
	for _, want := range []string{"ADD a/eth0", "READY a/eth0", "abort a/eth0"} {
		if have := h.next(t); have != want {
			t.Errorf("have %q, want %q", have, want)
		}
	}
}

// A peer that hangs up while the agent works on its Add may have been given an address all the same.
func TestHangUpDuringAddIsUndone(t *testing.T) {
	for name, tt := range map[string]struct {
		reply Reply
		want  string
	}{
		"no verdict":   {refusal(CodeTryAgainLater, "request abandoned"), "abort a/eth0, unsure"},
		"carried out":  {Reply{Endpoint: &endpoint.Endpoint{ID: idA}}, "abort a/eth0"},
		"known before": {Reply{Endpoint: &endpoint.Endpoint{ID: idA, Ready: true}}, "STATUS /"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFake(func(ctx context.Context, req Request) Reply {
				if req.Verb == VerbAdd {
					<-ctx.Done()
				}
				return tt.reply
			})
			path, _ := serve(t, h, func(s *Server) { s.Limits.Connections = 1 })
			c := dial(t, path)
			if err := json.NewEncoder(c.conn).Encode(Request{Verb: VerbAdd, ID: idA}); err != nil {
				t.Fatal(err)
			}
			if have := h.next(t); have != "ADD a/eth0" {
				t.Fatalf("have %q", have)
			}
			_ = c.Close()
			_, _ = dial(t, path).Call(t.Context(), Request{Verb: VerbStatus}) // it comes when the first is wholly over
			if have := h.next(t); have != tt.want {
				t.Errorf("have %q, want %q", have, tt.want)
			}
		})
	}
}

func TestRefusedAddNeedsNoUndoing(t *testing.T) {
	h := newFake(func(context.Context, Request) Reply { return refusal(CodeNoAddress, "no address") })
	path, _ := serve(t, h, func(s *Server) { s.Limits.Connections = 1 })
	c := dial(t, path)
	if _, err := c.Call(t.Context(), Request{Verb: VerbAdd, ID: idA}); err == nil {
		t.Fatal("not refused")
	}
	_ = c.Close()
	_, _ = dial(t, path).Call(t.Context(), Request{Verb: VerbStatus})
	for _, want := range []string{"ADD a/eth0", "STATUS /"} {
		if have := h.next(t); have != want {
			t.Errorf("have %q, want %q", have, want)
		}
	}
}

// A DEL that follows the killing of a slow ADD waits for the ADD's undoing.
func TestOneConversationPerAttachment(t *testing.T) {
	h := newFake(answer(false))
	path, _ := serve(t, h, nil)
	add := dial(t, path)
	if _, err := add.Call(t.Context(), Request{Verb: VerbAdd, ID: idA}); err != nil {
		t.Fatal(err)
	}
	deleted := make(chan error, 1)
	del := dial(t, path)
	go func() {
		_, err := del.Call(context.Background(), Request{Verb: VerbDel, ID: idA})
		deleted <- err
	}()
	// Another attachment is not held up by it.
	if _, err := dial(t, path).Call(t.Context(), Request{Verb: VerbDel, ID: endpoint.ID{ContainerID: "b", IfName: "eth0"}}); err != nil {
		t.Fatal(err)
	}
	_ = add.Close()
	if err := <-deleted; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ADD a/eth0", "DEL b/eth0", "abort a/eth0", "DEL a/eth0"} {
		if have := h.next(t); have != want {
			t.Errorf("have %q, want %q", have, want)
		}
	}
}

func TestHangUpEndsHandle(t *testing.T) {
	h := newFake(func(ctx context.Context, _ Request) Reply {
		<-ctx.Done()
		return refusal(CodeInternal, "given up")
	})
	path, _ := serve(t, h, func(s *Server) { s.Limits.Connections = 1 })
	c := dial(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-h.events
		cancel()
	}()
	var late *Error
	if _, err := c.Call(ctx, Request{Verb: VerbCheck, ID: idA}); !errors.As(err, &late) || late.Code != CodeTryAgainLater {
		t.Fatalf("have %v, want code %d", err, CodeTryAgainLater)
	}
	_ = c.Close()
	// The one slot is free again only if Handle returned.
	c = dial(t, path)
	if err := json.NewEncoder(c.conn).Encode(Request{Verb: VerbStatus}); err != nil {
		t.Fatal(err)
	}
	if have := h.next(t); have != "STATUS /" {
		t.Errorf("have %q", have)
	}
}

func TestStopLeavesTheUnfinished(t *testing.T) {
	h := newFake(answer(false))
	path, stop := serve(t, h, nil)
	c := dial(t, path)
	if _, err := c.Call(t.Context(), Request{Verb: VerbAdd, ID: idA}); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := c.Call(t.Context(), Request{Verb: VerbReady, ID: idA}); !errors.Is(err, ErrBroken) {
		t.Errorf("have %v, want %v", err, ErrBroken)
	}
	if have := h.next(t); have != "ADD a/eth0" || len(h.events) != 0 {
		t.Errorf("have %q and %d more events, want none after the ADD", have, len(h.events))
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// An agent that is stopped while it works on a request gives no verdict on it.
func TestStopDuringHandle(t *testing.T) {
	h := newFake(func(ctx context.Context, _ Request) Reply {
		<-ctx.Done()
		return refusal(CodeInternal, ctx.Err().Error())
	})
	path, stop := serve(t, h, nil)
	result := make(chan error, 1)
	c := dial(t, path)
	go func() {
		_, err := c.Call(context.Background(), Request{Verb: VerbAdd, ID: idA})
		result <- err
	}()
	h.next(t)
	stop()
	if err := <-result; !errors.Is(err, ErrBroken) {
		t.Errorf("have %v, want %v", err, ErrBroken)
	}
}
