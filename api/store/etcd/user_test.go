// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"korat/api"
	"korat/api/store"
	"korat/api/store/etcd"
	"korat/api/store/etcd/embedded"
	"korat/api/store/storetest"
)

// guarded is a server with authentication as docs/datastore.md sets it up.
type guarded struct {
	*embedded.Server
	root *clientv3.Client
	dir  string
}

// guard runs the documentation's commands on a server and gives root's client. Every user's password is "of " and the name.
func guard(t *testing.T, server *embedded.Server) guarded {
	t.Helper()
	admin := rawClient(t, server)
	for _, words := range documentedCommands(t) {
		if err := etcdctl(t.Context(), admin, words); err != nil {
			t.Fatalf("etcdctl %s: %v", strings.Join(words, " "), err)
		}
	}
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint()}, Username: "root", Password: "of root", Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return guarded{server, root, t.TempDir()}
}

func documentedCommands(t *testing.T) [][]string {
	text, err := os.ReadFile("../../../docs/datastore.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands [][]string
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "etcdctl" {
			commands = append(commands, words[1:])
		}
	}
	if len(commands) < 10 {
		t.Fatalf("docs/datastore.md has only these commands: %q", commands)
	}
	return commands
}

// etcdctl does what the program does with these words.
func etcdctl(ctx context.Context, c *clientv3.Client, words []string) error {
	var err error
	switch verb := strings.Join(words[:2], " "); {
	case verb == "user add" && len(words) == 3:
		_, err = c.UserAdd(ctx, words[2], "of "+words[2])
	case verb == "user grant-role" && len(words) == 4:
		_, err = c.UserGrantRole(ctx, words[2], words[3])
	case verb == "role add" && len(words) == 3:
		_, err = c.RoleAdd(ctx, words[2])
	case verb == "role grant-permission" && len(words) == 6 && words[2] == "--prefix=true":
		kind := map[string]clientv3.PermissionType{"read": clientv3.PermissionType(clientv3.PermRead), "readwrite": clientv3.PermissionType(clientv3.PermReadWrite)}
		_, err = c.RoleGrantPermission(ctx, words[3], words[5], clientv3.GetPrefixRangeEnd(words[5]), kind[words[4]])
	case verb == "auth enable" && len(words) == 2:
		_, err = c.AuthEnable(ctx)
	default:
		err = errors.New("the test does not know this command")
	}
	return err
}

func (g guarded) passwordFile(t *testing.T, name, password string) string {
	t.Helper()
	file := filepath.Join(g.dir, name)
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (g guarded) as(t *testing.T, name string) *etcd.Store {
	t.Helper()
	return open(t, etcd.Config{Endpoints: []string{g.Endpoint()}, Username: name, PasswordFile: g.passwordFile(t, name, "of "+name)})
}

func (g guarded) compact(t *testing.T) {
	resp, err := g.root.Get(t.Context(), "x")
	if err == nil {
		_, err = g.root.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestStoreAsUser runs the suite with the rights of koratctl's user, which may write every kind.
func TestStoreAsUser(t *testing.T) {
	g := guard(t, startServer(t))
	storetest.Run(t, func(t *testing.T) storetest.Backend {
		if _, err := g.root.Delete(t.Context(), "/", clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
		return storetest.Backend{Store: g.as(t, "admin"), Compact: g.compact}
	})
}

// TestLeastRoles writes, reads and watches every kind as every user of the documentation.
func TestLeastRoles(t *testing.T) {
	g := guard(t, startServer(t))
	if _, err := g.root.UserRevokeRole(t.Context(), "korat-agent", "korat-bootstrap"); err != nil {
		t.Fatal(err)
	}
	agents := []api.Kind{api.KindNode, api.KindWorkloadEndpoint, api.KindBlockAffinity, api.KindIPAMBlock}
	for user, writes := range map[string][]api.Kind{"korat-agent": agents, "viewer": nil, "admin": api.Kinds()} {
		st := g.as(t, user)
		for _, kind := range api.Kinds() {
			obj := api.New(kind)
			obj.SetName(user)
			if info, _ := kind.Info(); info.Namespaced {
				obj.SetNamespace("ns")
			}
			_, revision, err := st.List(t.Context(), kind)
			if err != nil {
				t.Errorf("%s: %v", user, err)
			}
			events, err := st.Watch(t.Context(), kind, revision)
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(writes, kind) {
				wantWritable(t, st, obj, events)
				continue
			}
			want := fmt.Sprintf("%s: etcd does not permit this to user %q: grant a role that has it: etcdserver: permission denied", obj.Key(), user)
			for action, err := range map[string]error{"create": second(st.Create(t.Context(), obj)), "delete": st.Delete(t.Context(), obj.Key(), "")} {
				if err == nil || err.Error() != action+" "+want || errors.Is(err, store.ErrUnavailable) {
					t.Errorf("have %v\nwant %s %s", err, action, want)
				}
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

func wantWritable(t *testing.T, st store.Store, obj api.Object, events <-chan store.Event) {
	t.Helper()
	stored, err := st.Create(t.Context(), obj)
	if err == nil {
		stored, err = st.Update(t.Context(), stored)
	}
	if err == nil {
		err = st.Delete(t.Context(), stored.Key(), stored.GetResourceVersion())
	}
	if err != nil {
		t.Error(err)
		return
	}
	for range 3 {
		if ev := next(t, events); ev.Key != obj.Key() {
			t.Errorf("event %+v, want one of %s", ev, obj.Key())
		}
	}
}

// TestOutsideOfKorat holds that the admin's role ends at /korat/v1/.
func TestOutsideOfKorat(t *testing.T) {
	g := guard(t, startServer(t))
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{g.Endpoint()}, Username: "admin", Password: "of admin", Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, key := range []string{"/registry/pods/x", "/korat/v10", "/korat/v2/x", "x"} {
		if _, err := client.Put(t.Context(), key, "x"); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("put %s: %v, want permission denied", key, err)
		}
	}
}

func TestBadUser(t *testing.T) {
	g := guard(t, startServer(t))
	endpoints := []string{g.Endpoint()}
	key := api.Key{Kind: api.KindIPPool, Name: "p"}

	_, err := open(t, etcd.Config{Endpoints: endpoints}).Get(t.Context(), key)
	wantError(t, err, "get IPPool/p: etcd demands authentication: give a user and a password file, or a client certificate whose common name is a user")

	file := g.passwordFile(t, "wrong", "guess")
	st := open(t, etcd.Config{Endpoints: endpoints, Username: "admin", PasswordFile: file})
	for range 2 {
		_, err = st.Get(t.Context(), key)
		wantError(t, err, `get IPPool/p: etcd refuses user "admin" with the password in `+file)
	}
	events, err := st.Watch(t.Context(), api.KindIPPool, "1")
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, next(t, events).Err, `watch IPPool: etcd refuses user "admin" with the password in `+file)
	// The right one is tried at once.
	g.passwordFile(t, "wrong", "of admin")
	if _, err = st.Get(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("with the right password: %v", err)
	}
	// Once it has worked, the password can go until another token is needed.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err = st.Get(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("with the token: %v", err)
	}
	if _, err := g.root.UserChangePassword(t.Context(), "admin", "another"); err != nil {
		t.Fatal(err)
	}
	_, err = st.Get(t.Context(), key)
	wantError(t, err, `get IPPool/p: password of user "admin": open `+file+": no such file or directory")
}

// TestUserWithoutAuthentication gives a user to a server that asks for none, until it does.
func TestUserWithoutAuthentication(t *testing.T) {
	server := startServer(t)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("of admin"), 0o600); err != nil {
		t.Fatal(err)
	}
	st := open(t, etcd.Config{Endpoints: []string{server.Endpoint()}, Username: "admin", PasswordFile: file})
	if _, err := st.Create(t.Context(), storetest.Pool("p", "10.0.0.0/16")); err != nil {
		t.Fatal(err)
	}
	guard(t, server)
	if _, err := st.Create(t.Context(), storetest.Pool("q", "10.1.0.0/16")); err != nil {
		t.Fatal(err)
	}
}

// TestUserOfAnAbsentServer starts before its server does.
func TestUserOfAnAbsentServer(t *testing.T) {
	cfg := embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)}
	server, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	g := guard(t, server)
	server.Stop()
	st := g.as(t, "admin")
	if _, err := st.Get(t.Context(), api.Key{Kind: api.KindIPPool, Name: "p"}); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("get: %v, want ErrUnavailable", err)
	}
	cfg.Listen = strings.TrimPrefix(server.Endpoint(), "http://")
	if server, err = embedded.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	for err = store.ErrUnavailable; errors.Is(err, store.ErrUnavailable); {
		_, err = st.Create(t.Context(), storetest.Pool("p", "10.0.0.0/16"))
	}
	if err != nil {
		t.Error(err)
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("have %v\nwant %s", err, want)
	}
}
