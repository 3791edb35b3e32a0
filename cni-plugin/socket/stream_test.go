// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// streamer streams numbers.
type streamer struct {
	*fake
	// count is how many there are before it waits for the end, or ends with err if that is set.
	count int
	err   error
	ended chan error
}

func newStreamer(count int) *streamer {
	return &streamer{fake: newFake(answer(false)), count: count, ended: make(chan error, 10)}
}

// Stream implements Streamer.
func (s *streamer) Stream(ctx context.Context, req Request, send func(Reply) error) (err error) {
	defer func() { s.ended <- err }()
	for i := range s.count {
		if err := send(Reply{Status: json.RawMessage(fmt.Sprint(i))}); err != nil {
			return err
		}
	}
	if s.err != nil {
		return s.err
	}
	<-ctx.Done()
	return nil
}

func (s *streamer) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the stream goes on")
		return nil
	}
}

var flows = Request{Verb: VerbFlows}

func TestStream(t *testing.T) {
	h := newStreamer(3)
	path, _ := serve(t, h, nil)
	ctx, cancel := context.WithCancel(t.Context())
	have := ""
	err := dial(t, path).Follow(ctx, flows, func(r Reply) error {
		if have += string(r.Status); have == "012" {
			cancel() // as a person does
		}
		return nil
	})
	if err != nil || have != "012" {
		t.Errorf("have %q, %v", have, err)
	}
}

// A stream ends when the client hangs up, or says anything more, although there is nothing to tell it.
func TestStreamEnds(t *testing.T) {
	h := newStreamer(1)
	path, stop := serve(t, h, nil)
	for name, end := range map[string]func(*Conn){
		"hung up":    func(c *Conn) { _ = c.Close() },
		"asks again": func(c *Conn) { _, _ = c.exchange(Request{Verb: VerbStatus}) },
		"nonsense":   func(c *Conn) { _, _ = io.WriteString(c.conn, "?") },
	} {
		c := dial(t, path)
		if _, err := c.exchange(flows); err != nil {
			t.Fatal(name, err)
		}
		if r, err := c.receive(); err != nil || string(r.Status) != "0" {
			t.Fatal(name, r, err)
		}
		end(c)
		if err := h.end(t); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The server's end is one, too, and the client is told that the connection broke.
	failed := make(chan error, 1)
	go func() {
		failed <- dial(t, path).Follow(t.Context(), flows, func(Reply) error { go stop(); return nil })
	}()
	if err := <-failed; !errors.Is(err, ErrBroken) {
		t.Errorf("have %v", err)
	}
}

// What ends a stream from within is told.
func TestStreamFails(t *testing.T) {
	h := newStreamer(1)
	h.err = errors.New("another program hears it")
	path, _ := serve(t, h, nil)
	err := dial(t, path).Follow(t.Context(), flows, func(Reply) error { return nil })
	var told *Error
	if !errors.As(err, &told) || told.Error() != "the stream has ended: another program hears it" {
		t.Errorf("have %v", err)
	}
	mine := errors.New("enough")
	if err := dial(t, path).Follow(t.Context(), flows, func(Reply) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("have %v", err)
	}
}

// There are so many streams and no more; one that ends makes room.
func TestStreamsAreFew(t *testing.T) {
	h := newStreamer(0)
	path, _ := serve(t, h, func(s *Server) { s.Limits.Streams = 1 })
	first := dial(t, path)
	if _, err := first.exchange(flows); err != nil {
		t.Fatal(err)
	}
	err := dial(t, path).Follow(t.Context(), flows, func(Reply) error { return nil })
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != CodeTryAgainLater || !strings.Contains(refused.Message, "follow already") {
		t.Errorf("have %v", err)
	}
	_ = first.Close()
	_ = h.end(t)
	for {
		r, err := dial(t, path).exchange(flows)
		if err != nil {
			t.Fatal(err)
		}
		if r.Error == nil {
			return
		}
	}
}

// Who does not read loses the connection.
func TestStreamStalls(t *testing.T) {
	h := newStreamer(1 << 30)
	path, _ := serve(t, h, func(s *Server) { s.Limits.Stall = 50 * time.Millisecond })
	if _, err := dial(t, path).exchange(flows); err != nil {
		t.Fatal(err)
	}
	if err := h.end(t); err == nil {
		t.Error("no error")
	}
}

// An agent that has no streams says so.
func TestNoStreams(t *testing.T) {
	path, _ := serve(t, newFake(answer(false)), nil)
	err := dial(t, path).Follow(t.Context(), flows, func(Reply) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "unknown verb: FLOWS") {
		t.Errorf("have %v", err)
	}
}
