// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"korat/api"
	"korat/api/store"
	"korat/api/store/etcd"
	"korat/api/store/etcd/embedded"
	"korat/api/store/storetest"
)

// startServer starts an empty server on a port of its own.
func startServer(t *testing.T) *embedded.Server {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

func open(t *testing.T, cfg etcd.Config) *etcd.Store {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
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

// rawClient gives etcd's own client, for what the store cannot do.
func rawClient(t *testing.T, server *embedded.Server) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func TestStore(t *testing.T) {
	server := startServer(t)
	raw := rawClient(t, server)
	storetest.Run(t, func(t *testing.T) storetest.Backend {
		if _, err := raw.Delete(t.Context(), "/", clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
		return storetest.Backend{
			Store: open(t, etcd.Config{Endpoints: []string{server.Endpoint()}}),
			Compact: func(t *testing.T) {
				resp, err := raw.Get(t.Context(), "x")
				if err == nil {
					_, err = raw.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical())
				}
				if err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

func TestUnreadableValuesAreIgnored(t *testing.T) {
	server := startServer(t)
	raw := rawClient(t, server)
	var log bytes.Buffer
	st := open(t, etcd.Config{Endpoints: []string{server.Endpoint()}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	bad := map[string]string{
		"/korat/v1/IPPool/_/no-json": "{",
		"/korat/v1/IPPool/_/other":   `{"metadata":{"name":"else"}}`,
		"/korat/v1/IPPool/shallow":   `{}`,
		"/korat/v1/IPPool/_/a/b":     `{}`,
	}
	put := func() {
		for key, value := range bad {
			if _, err := raw.Put(t.Context(), key, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	put()
	good, err := st.Create(t.Context(), storetest.Pool("good", "10.0.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	objs, revision, err := st.List(t.Context(), api.KindIPPool)
	if err != nil || len(objs) != 1 || objs[0].Key() != good.Key() {
		t.Fatalf("list: %v, %v, want only %s", objs, err, good.Key())
	}
	for key := range bad {
		if !strings.Contains(log.String(), key) {
			t.Errorf("nothing in the log about %s:\n%s", key, &log)
		}
	}
	if _, err := st.Get(t.Context(), api.Key{Kind: api.KindIPPool, Name: "no-json"}); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("get of an unreadable value: %v", err)
	}

	events, err := st.Watch(t.Context(), api.KindIPPool, revision)
	if err != nil {
		t.Fatal(err)
	}
	put()
	if _, err := raw.Delete(t.Context(), "/korat/v1/IPPool/shallow"); err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), good.Key(), ""); err != nil {
		t.Fatal(err)
	}
	if ev := next(t, events); ev.Key != good.Key() || ev.Object != nil {
		t.Errorf("first event is %+v, want the delete of %s", ev, good.Key())
	}
}

func TestUnavailable(t *testing.T) {
	server := startServer(t)
	st := open(t, etcd.Config{Endpoints: []string{server.Endpoint()}})
	obj, err := st.Create(t.Context(), storetest.Pool("p", "10.0.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	events, err := st.Watch(t.Context(), api.KindIPPool, obj.GetResourceVersion())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = st.Update(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	if ev := next(t, events); ev.Key != obj.Key() {
		t.Fatalf("event %+v", ev)
	}
	server.Stop()
	if ev := next(t, events); !errors.Is(ev.Err, store.ErrUnavailable) {
		t.Errorf("watch when the server stopped: %+v, want ErrUnavailable", ev)
	}
	if ev, isOpen := <-events; isOpen {
		t.Errorf("event after the last: %+v", ev)
	}
	if _, err := st.Get(t.Context(), obj.Key()); !errors.Is(err, store.ErrUnavailable) || !strings.HasPrefix(err.Error(), "get IPPool/p: datastore unavailable: ") {
		t.Errorf("get: %v, want ErrUnavailable", err)
	}
	if _, err := st.Update(t.Context(), obj); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("update: %v, want ErrUnavailable", err)
	}
	events, err = st.Watch(t.Context(), api.KindIPPool, obj.GetResourceVersion())
	if err != nil {
		t.Fatal(err)
	}
	if ev := next(t, events); !errors.Is(ev.Err, store.ErrUnavailable) {
		t.Errorf("new watch: %+v, want ErrUnavailable", ev)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := st.Get(ctx, obj.Key()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("get past the caller's deadline: %v", err)
	}
}

// TestRevisionOfAnotherTime watches from a revision that the datastore has not reached: one that was
// restored from a backup.
func TestRevisionOfAnotherTime(t *testing.T) {
	st := open(t, etcd.Config{Endpoints: []string{startServer(t).Endpoint()}})
	events, err := st.Watch(t.Context(), api.KindIPPool, "1000")
	if err != nil {
		t.Fatal(err)
	}
	if ev := next(t, events); !errors.Is(ev.Err, store.ErrCompacted) {
		t.Errorf("event %+v, want ErrCompacted", ev)
	}
}

func TestBadConfig(t *testing.T) {
	for _, tt := range []struct {
		cfg  etcd.Config
		want string
	}{
		{etcd.Config{}, "configure etcd client: no endpoints: give at least one URL such as http://127.0.0.1:2379"},
		{etcd.Config{Endpoints: []string{"127.0.0.1:2379"}}, `configure etcd client: endpoint "127.0.0.1:2379": must begin with http:// or https://`},
		{etcd.Config{Endpoints: []string{"http://a:1", "https://b:1"}}, `configure etcd client: endpoints ["http://a:1" "https://b:1"]: must be all http:// or all https://`},
		{etcd.Config{Endpoints: []string{"http://a:1"}, CAFile: "ca"}, `configure etcd client: endpoints ["http://a:1"]: certificates are given, so they must begin with https://`},
		{etcd.Config{Endpoints: []string{"https://a:1"}, CertFile: "c"}, `configure etcd client: certificate "c" and key "": give both or none`},
		{etcd.Config{Endpoints: []string{"http://127.0.0.1:1"}, Username: "u"}, `configure etcd client: user "u" and password file "": give both or none`},
		{etcd.Config{Endpoints: []string{"http://127.0.0.1:1"}, Username: "u", PasswordFile: "/nonexistent"}, `configure etcd client: password of user "u": open /nonexistent: no such file or directory`},
		{etcd.Config{Endpoints: []string{"http://127.0.0.1:1", "http://192.0.2.1:1"}, Username: "u", PasswordFile: "/nonexistent"}, `configure etcd client: endpoint "http://192.0.2.1:1": the password of user "u" would cross the network unencrypted: use https://`},
		{etcd.Config{Endpoints: []string{"https://a:1"}, CAFile: "/nonexistent"}, "configure etcd client: open /nonexistent: no such file or directory"},
	} {
		if _, err := etcd.New(tt.cfg); err == nil || err.Error() != tt.want {
			t.Errorf("have %v\nwant %s", err, tt.want)
		}
	}
}

// TestReturn stops a server and starts it again at the same address: one Store serves before and after.
func TestReturn(t *testing.T) {
	cfg := embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}
	server, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	st := open(t, etcd.Config{Endpoints: []string{server.Endpoint()}})
	obj, err := st.Create(t.Context(), storetest.Pool("p", "10.0.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
	if _, err := st.Get(t.Context(), obj.Key()); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("get: %v, want ErrUnavailable because of a refused connection", err)
	}
	cfg.Listen = strings.TrimPrefix(server.Endpoint(), "http://")
	server, err = embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	for {
		again, err := st.Get(t.Context(), obj.Key())
		if err == nil {
			if again.GetResourceVersion() != obj.GetResourceVersion() || again.GetUID() != obj.GetUID() {
				t.Errorf("after the restart: %+v, want %+v", again, obj)
			}
			return
		}
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

// next waits for an event; a watch that ended gives none.
func next(t *testing.T, events <-chan store.Event) (ev store.Event) {
	t.Helper()
	select {
	case ev = <-events:
	case <-time.After(time.Minute):
		t.Fatal("no event came")
	}
	return ev
}
