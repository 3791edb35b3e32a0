// SPDX-License-Identifier: Apache-2.0

// Package etcdtest gives tests outside of api/store a real etcd.
package etcdtest

import (
	"log/slog"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"korat/api/store/etcd"
	"korat/api/store/etcd/embedded"
)

// Server is an etcd server of the test's own, and a client of it.
type Server struct {
	*etcd.Store
	t   testing.TB
	raw *clientv3.Client
}

// Start starts an empty server on loopback, until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	st, err := etcd.New(etcd.Config{Endpoints: []string{server.Endpoint()}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	raw, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	return &Server{Store: st, t: t, raw: raw}
}

// Compact forgets the history up to now.
func (s *Server) Compact() {
	s.t.Helper()
	now, err := s.raw.Get(s.t.Context(), "x")
	if err == nil {
		_, err = s.raw.Compact(s.t.Context(), now.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err != nil {
		s.t.Error(err)
	}
}
