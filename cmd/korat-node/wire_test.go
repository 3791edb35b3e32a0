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

// To be told to end while the embedded datastore starts is no failure; that somebody has its port is.
func TestToldWhileStarting(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	told, tell := context.WithCancel(t.Context())
	tell()
	for name, tt := range map[string]struct {
		ctx    context.Context
		listen string
		fails  bool
	}{
		"told":            {told, "127.0.0.1:0", false},
		"taken":           {t.Context(), listener.Addr().String(), true},
		"taken, and told": {told, listener.Addr().String(), true},
	} {
		d := datastoreSettings{kind: "embedded", embeddedDir: t.TempDir(), embeddedListen: tt.listen}
		data, err := d.open(tt.ctx, slog.New(slog.DiscardHandler))
		if err == nil {
			data.close() // it was ready already
		}
		if err := unlessTold(tt.ctx, err); (err != nil) != tt.fails {
			t.Errorf("%s: %v", name, err)
		}
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
