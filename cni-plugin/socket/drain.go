// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"korat/felix/endpoint"
)

const (
	// drainers carry out queued DELs at once: the agent answers many in one pass.
	drainers = 64
	// drainPatience bounds one draining, so that an agent which cannot remove what is queued still
	// serves the rest.
	drainPatience = 30 * time.Second
)

// watch carries out what is queued while the server runs: by plugins that gave up on it while it was
// stopped, or that found nobody a moment before it listened.
func (s *Server) watch(ctx context.Context, h Handler) {
	come, err := newArrivals()
	if err != nil {
		s.Log.Warn("queued DELs are looked for from time to time only", "error", err)
		come = &arrivals{fd: -1}
	} else {
		go come.listen()
		defer come.close()
	}
	for {
		// Before the look at what has come already.
		watched := come.of(s.queue.path) == nil
		next := s.Limits.Sweep
		if !s.drain(ctx, h) || !watched {
			next = s.Limits.Drain
		}
		tick := time.NewTimer(next)
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-come.wake:
			tick.Stop()
		case <-tick.C:
		}
	}
}

// drain carries out every queued DEL. What fails stays queued, and is for the caller to try again.
func (s *Server) drain(ctx context.Context, h Handler) (ok bool) {
	limited, cancel := context.WithTimeout(ctx, drainPatience)
	defer cancel()
	ids, err := s.queue.all(time.Now())
	if errors.Is(err, fs.ErrNotExist) {
		err = s.queue.make() // somebody has removed it
	}
	failed := make(chan error, len(ids))
	slots := make(chan struct{}, drainers)
	var all sync.WaitGroup
	for _, id := range ids {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			failed <- s.carryOut(limited, h, id)
		})
	}
	all.Wait()
	close(failed)
	errs := []error{err}
	for err := range failed {
		errs = append(errs, err)
	}
	err = errors.Join(errs...)
	if ctx.Err() == nil {
		s.logDrain(err)
	}
	return err == nil
}

// logDrain logs what is new: the draining is repeated every second.
func (s *Server) logDrain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != s.drainTrouble {
		s.Log.Error("carry out queued DELs", "error", err)
	}
	s.drainTrouble = text
}

// carryOut carries out the attachment's queued DEL, as if its plugin sent it now.
func (s *Server) carryOut(ctx context.Context, h Handler, id endpoint.ID) error {
	if !s.talks.begin(ctx, id) {
		return fmt.Errorf("queued DEL of %s: the attachment is busy with another request", id)
	}
	defer s.talks.end(id)
	return s.settle(ctx, h, id)
}

// settle carries out the attachment's queued DEL, if there is one. The caller holds the attachment: an
// ADD that follows on its heels finds the DEL done, and the DEL never meets what that ADD has made.
func (s *Server) settle(ctx context.Context, h Handler, id endpoint.ID) error {
	if !s.queue.has(id) {
		return nil
	}
	if reply := h.Handle(ctx, Request{Verb: VerbDel, ID: id}); reply.Error != nil {
		return fmt.Errorf("queued DEL of %s: %w", id, reply.Error)
	}
	if err := s.queue.remove(id); err != nil {
		return fmt.Errorf("queued DEL of %s is done: %w", id, err)
	}
	s.Log.Info("queued DEL done", "endpoint", id.String())
	return nil
}
