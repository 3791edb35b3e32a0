// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestBadRequests(t *testing.T) {
	tests := []struct{ name, send, want string }{
		{"not JSON", "hello\n", `"code":6,"msg":"request not understood`},
		{"unknown field", `{"verb":"ADD","colour":"red"}`, `unknown field \"colour\"`},
		{"wrong type", `{"verb":"ADD","mtu":"big"}`, `"code":6`},
		{"too long", `{"verb":"` + strings.Repeat("A", 1<<20+100), `"msg":"request too long"`},
		{"two attachments", `{"verb":"DEL","containerID":"a"} {"verb":"DEL","containerID":"b"}`, `use a connection for each`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newFake(answer(false))
			path, _ := serve(t, h, nil)
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, tt.send); err != nil && tt.name != "too long" {
				t.Fatal(err)
			}
			have, _ := io.ReadAll(conn) // what is unread at the server's close makes this ECONNRESET
			if !strings.Contains(string(have), tt.want) {
				t.Errorf("have %q, want it to contain %q", have, tt.want)
			}
		})
	}
}

func TestSilentPeerIsDropped(t *testing.T) {
	var server *Server
	h := newFake(func(ctx context.Context, req Request) Reply {
		server.Limits.Idle = 50 * time.Millisecond // from now on: it may have taken its time to ask
		return answer(false)(ctx, req)
	})
	path, _ := serve(t, h, func(s *Server) { server = s })
	c := dial(t, path)
	if _, err := c.Call(t.Context(), Request{Verb: VerbAdd, ID: idA}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c.conn); err != nil {
		t.Fatal(err)
	}
	h.next(t)
	if have := h.next(t); have != "abort a/eth0" {
		t.Errorf("have %q", have)
	}
}

// A peer that does not read holds up the server's end for the moment of a farewell only.
func TestDeafPeerAtTheEnd(t *testing.T) {
	large := Reply{Status: json.RawMessage(`"` + strings.Repeat("x", 4<<20) + `"`)}
	for name, tt := range map[string]struct {
		handler Handler
		ask     Verb
	}{
		"a stream": {newStreamer(1 << 30), VerbFlows},
		"a reply":  {newFake(func(context.Context, Request) Reply { return large }), VerbNodeStatus},
	} {
		t.Run(name, func(t *testing.T) {
			path, stop := serve(t, tt.handler, func(s *Server) {
				s.Limits.Stall, s.Limits.Idle, s.Limits.Farewell = time.Hour, time.Hour, time.Millisecond
			})
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := json.NewEncoder(conn).Encode(Request{Verb: tt.ask}); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 1)); err != nil { // it has begun to answer
				t.Fatal(err)
			}
			stopped := make(chan struct{})
			go func() {
				stop()
				close(stopped)
			}()
			select {
			case <-stopped:
			case <-time.After(20 * time.Second):
				t.Error("the server does not end")
				_ = conn.Close()
				<-stopped
			}
		})
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	var now, most atomic.Int32
	release := make(chan struct{})
	entered := make(chan struct{}, 10)
	h := newFake(func(context.Context, Request) Reply {
		most.Store(max(most.Load(), now.Add(1)))
		entered <- struct{}{}
		<-release
		now.Add(-1)
		return Reply{}
	})
	path, _ := serve(t, h, func(s *Server) { s.Limits.Connections = 2 })
	results := make(chan error, 6)
	for range 6 {
		go func() {
			c, err := Dial(context.Background(), path)
			if err == nil {
				defer c.Close()
				_, err = c.Call(context.Background(), Request{Verb: VerbStatus})
			}
			results <- err
		}()
	}
	<-entered
	<-entered
	close(release)
	for range 6 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if most.Load() != 2 {
		t.Errorf("%d at once, want 2", most.Load())
	}
}

func TestOtherUsersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	h := newFake(answer(false))
	path, _ := serve(t, h, nil)
	// Without these the mode refuses already, and the credentials are never looked at.
	for name, mode := range map[string]os.FileMode{path: 0o777, filepath.Dir(path): 0o755, filepath.Dir(filepath.Dir(path)): 0o755} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	result := make(chan error, 1)
	go func() {
		// The raw call changes this thread alone, and the thread ends with the goroutine.
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			result <- errno
			return
		}
		c, err := Dial(context.Background(), path)
		if err == nil {
			_, err = c.Call(context.Background(), Request{Verb: VerbStatus})
			_ = c.Close()
		}
		result <- err
	}()
	if err := <-result; err == nil || !strings.Contains(err.Error(), "user 65534 may not use the agent's socket") {
		t.Errorf("have %v", err)
	}
	if len(h.events) != 0 {
		t.Errorf("the handler was asked: %s", <-h.events)
	}
}
