// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/api/store/etcd"
	"korat/api/store/etcd/embedded"
	"korat/api/store/storetest"
	"korat/test/logbook"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func start(t *testing.T, cfg embedded.Config) *embedded.Server {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Log == nil {
		cfg.Log = quiet()
	}
	server, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

func client(t *testing.T, cfg etcd.Config) *etcd.Store {
	t.Helper()
	cfg.Log = quiet()
	st, err := etcd.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func TestRestartKeepsData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "yet", "there")
	server := start(t, embedded.Config{Dir: dir})
	before, err := client(t, etcd.Config{Endpoints: []string{server.Endpoint()}}).Create(t.Context(), storetest.Pool("p", "10.0.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()

	// Another port and another name are no other cluster.
	server = start(t, embedded.Config{Dir: dir, Name: "renamed"})
	st := client(t, etcd.Config{Endpoints: []string{server.Endpoint()}})
	after, err := st.Get(t.Context(), before.Key())
	if err != nil {
		t.Fatal(err)
	}
	if after.GetUID() != before.GetUID() || after.GetResourceVersion() != before.GetResourceVersion() {
		t.Errorf("after the restart: %+v\nbefore: %+v", after, before)
	}
	if _, err := st.Update(t.Context(), after); err != nil {
		t.Errorf("update after the restart: %v", err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v (%v), want 0700", info.Mode(), err)
	}
}

func TestTwoServersAtOnce(t *testing.T) {
	one, two := start(t, embedded.Config{Dir: t.TempDir()}), start(t, embedded.Config{Dir: t.TempDir()})
	if _, err := client(t, etcd.Config{Endpoints: []string{one.Endpoint()}}).Create(t.Context(), storetest.Pool("p", "10.0.0.0/16")); err != nil {
		t.Fatal(err)
	}
	_, err := client(t, etcd.Config{Endpoints: []string{two.Endpoint()}}).Get(t.Context(), api.Key{Kind: api.KindIPPool, Name: "p"})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the second server has the first's object: %v", err)
	}
}

func TestLockedDirectory(t *testing.T) {
	dir := t.TempDir()
	server := start(t, embedded.Config{Dir: dir})
	second := embedded.Config{Dir: dir, Listen: "127.0.0.1:0", Log: quiet()}
	_, err := embedded.Start(t.Context(), second)
	wantText(t, err, "is locked: another process uses the data directory")

	// A plain etcd does not have our lock file.
	if err := os.Remove(filepath.Join(dir, "korat.lock")); err != nil {
		t.Fatal(err)
	}
	_, err = embedded.Start(t.Context(), second)
	wantText(t, err, filepath.Join(dir, "member", "snap", "db")+" is locked")

	server.Stop()
	start(t, second)
}

func TestPortTaken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dir := t.TempDir()
	addr := listener.Addr().String()
	_, err = embedded.Start(t.Context(), embedded.Config{Dir: dir, Listen: addr, Log: quiet()})
	wantText(t, err, "start embedded etcd in "+dir+" on "+addr+": listen tcp "+addr+": bind: address already in use")
	// The failure left no lock behind.
	start(t, embedded.Config{Dir: dir})
}

func TestBadConfig(t *testing.T) {
	for _, tt := range []struct {
		cfg  embedded.Config
		want string
	}{
		{embedded.Config{Listen: "0.0.0.0:2379"}, `listen address "0.0.0.0:2379": whoever can reach it could change the cluster: give an authority, a certificate and a key, or listen on 127.0.0.1:2379`},
		{embedded.Config{Listen: "192.0.2.1:2379", CertFile: "c", KeyFile: "k"}, "give an authority, a certificate and a key"},
		{embedded.Config{Listen: "[::]:2379"}, "give an authority, a certificate and a key"},
		{embedded.Config{Listen: "2379"}, `listen address "2379": must be address:port, such as "127.0.0.1:2379"`},
		{embedded.Config{Listen: "host-a:2379"}, `"host-a" must be an IP address, such as 127.0.0.1 or 0.0.0.0`},
		{embedded.Config{Listen: ":2379"}, `"" must be an IP address`},
		{embedded.Config{CertFile: "c"}, `certificate "c" and key "": give both or none`},
		{embedded.Config{CAFile: "a"}, `authority "a" without certificate and key: give all three`},
		{embedded.Config{}, "no data directory"},
		{embedded.Config{Dir: "/dev/null/x"}, "mkdir /dev/null: not a directory"},
	} {
		tt.cfg.Log = quiet()
		_, err := embedded.Start(t.Context(), tt.cfg)
		wantText(t, err, tt.want)
	}
}

func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	serverCert, clientCert, foreignCert := ours.issue(t, "server"), ours.issue(t, "client"), theirs.issue(t, "client")
	log := &logbook.Book{}
	server := start(t, embedded.Config{
		Dir: t.TempDir(), Listen: "0.0.0.0:0", CAFile: ours.file, CertFile: serverCert.cert, KeyFile: serverCert.key,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if !strings.HasPrefix(server.Endpoint(), "https://127.0.0.1:") {
		t.Fatalf("endpoint %s", server.Endpoint())
	}
	endpoints := []string{server.Endpoint()}
	st := client(t, etcd.Config{Endpoints: endpoints, CAFile: ours.file, CertFile: clientCert.cert, KeyFile: clientCert.key})
	obj, err := st.Create(t.Context(), storetest.Pool("p", "10.0.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cfg  etcd.Config
		want string
	}{
		"no client certificate":      {etcd.Config{Endpoints: endpoints, CAFile: ours.file}, "datastore unavailable"},
		"foreign client certificate": {etcd.Config{Endpoints: endpoints, CAFile: ours.file, CertFile: foreignCert.cert, KeyFile: foreignCert.key}, "datastore unavailable"},
		"server not trusted":         {etcd.Config{Endpoints: endpoints, CAFile: theirs.file, CertFile: clientCert.cert, KeyFile: clientCert.key}, "certificate signed by unknown authority"},
		"no TLS":                     {etcd.Config{Endpoints: []string{strings.Replace(endpoints[0], "https", "http", 1)}}, "datastore unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client(t, tt.cfg).Get(t.Context(), obj.Key())
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("get: %v, want ErrUnavailable", err)
			}
			wantText(t, err, tt.want)
		})
	}
	// What the client sees of a refused certificate depends on the moment (TLS 1.3 refuses it only
	// after the client's handshake is done); the server's log says it.
	await(t, log, `msg="embedded etcd" message="rejected connection`)
	await(t, log, "client didn't provide a certificate")
	if strings.Contains(log.String(), "level=INFO") {
		t.Errorf("etcd's chatter is in the log:\n%s", log)
	}
}

func wantText(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("have error %v\nwant one with: %s", err, want)
	}
}

// await waits until the text has been written.
func await(t *testing.T, log *logbook.Book, text string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !strings.Contains(log.String(), text) {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%q is not in the log:\n%s", text, log)
		}
	}
}
