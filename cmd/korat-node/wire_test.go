// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
)

// A part that fails ends the others, and its error is the program's.
func TestTogether(t *testing.T) {
	died := errors.New("embedded etcd has stopped")
	if err := together(t.Context(), untilDone, func(context.Context) error { return died }, untilDone); !errors.Is(err, died) {
		t.Errorf("have %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := together(ctx, untilDone, func(ctx context.Context) error { return ctx.Err() }); err != nil {
		t.Errorf("told to end: %v", err)
	}
}

// The agent's life depends on the datastore that it embeds, not on one elsewhere.
func TestDatastoreThatDies(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	embedded := datastoreSettings{kind: "embedded", embeddedDir: t.TempDir(), embeddedListen: "127.0.0.1:0"}
	local, err := embedded.open(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- local.server(t.Context()) }()
	local.close() // as if it had stopped of itself
	if err := <-ended; err == nil {
		t.Error("nobody is told that the embedded server has stopped")
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := datastoreSettings{kind: "etcd", endpoints: []string{"http://" + listener.Addr().String()}}
	remote, err := elsewhere.open(t.Context(), log)
	if err != nil {
		t.Fatal(err)
	}
	defer remote.close()
	listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- remote.server(ctx) }()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("etcd elsewhere: %v", err)
	}
}
