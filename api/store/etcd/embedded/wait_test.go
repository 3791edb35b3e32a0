// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"korat/test/logbook"
)

// A server that dies by itself must not go unnoticed, whatever part of it it is.
func TestWait(t *testing.T) {
	for name, die := range map[string]func(*Server){
		"the listener":  func(s *Server) { s.etcd.Clients[0].Close() },
		"the server":    func(s *Server) { s.etcd.Server.HardStop() },
		"nothing of it": nil,
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Start(t.Context(), Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Stop()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- s.Wait(ctx) }()
			if die == nil {
				cancel()
			} else {
				die(s)
			}
			select {
			case err := <-ended:
				if (err != nil) != (die != nil) {
					t.Errorf("have %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Error("nobody was told")
			}
		})
	}
}

// TestStopIsBounded stops a server a part of which hangs.
func TestStopIsBounded(t *testing.T) {
	log := &logbook.Book{}
	cfg := Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Log: slog.New(slog.NewTextHandler(log, nil))}
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.patience = 10 * time.Millisecond
	hangs := make(chan struct{})
	s.etcd.Server.GoAttach(func() { <-hangs })
	s.Stop()
	if want := `level=WARN msg="embedded etcd does not end: left to the end of this process" part="the server" waited=10ms`; !strings.Contains(log.String(), want) {
		t.Errorf("have in the log\n%swant %s", log, want)
	}
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "is locked") {
		t.Errorf("another server on its directory: %v", err)
	}
	close(hangs)
	<-s.etcd.Server.StopNotify()
}
