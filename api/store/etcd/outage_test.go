// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"korat/api"
	"korat/api/store"
	"korat/api/store/etcd"
	"korat/api/store/etcd/embedded"
	"korat/api/store/storetest"
)

// behindProxy is a server, a Store that reaches it through a proxy and one that reaches it directly.
type behindProxy struct {
	*proxy
	server  *embedded.Server
	raw     *clientv3.Client
	follows *storetest.Faults
	writes  *etcd.Store
}

func startBehindProxy(t *testing.T) *behindProxy {
	t.Helper()
	server := startServer(t)
	p := newProxy(t, server.Endpoint())
	return &behindProxy{
		p, server, rawClient(t, server),
		storetest.NewFaults(open(t, etcd.Config{Endpoints: []string{p.endpoint()}})),
		open(t, etcd.Config{Endpoints: []string{server.Endpoint()}}),
	}
}

func (b *behindProxy) compact(t *testing.T) {
	t.Helper()
	resp, err := b.raw.Get(t.Context(), "x")
	if err == nil {
		_, err = b.raw.Compact(t.Context(), resp.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// flood writes more than the connection's buffers hold, so that the server notices the slow reader.
func (b *behindProxy) flood(t *testing.T) {
	t.Helper()
	pool := storetest.Pool("flood", "10.200.0.0/16")
	pool.Annotations = map[string]string{"text": strings.Repeat("x", 1<<20)}
	var obj api.Object = pool
	obj, err := b.writes.Create(t.Context(), obj)
	for range 24 {
		if err == nil {
			obj, err = b.writes.Update(t.Context(), obj)
		}
	}
	if err == nil {
		err = b.writes.Delete(t.Context(), obj.Key(), "")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestOutages(t *testing.T) {
	outage := func(name string, noticed bool, begin, end func(*testing.T, *behindProxy)) storetest.Outage {
		return storetest.Outage{Name: name, Open: func(t *testing.T) storetest.Rig {
			b := startBehindProxy(t)
			return storetest.Rig{
				Store: b.follows, Writer: b.writes, Noticed: noticed,
				Begin: func() { begin(t, b) }, End: func() { end(t, b) },
			}
		}}
	}
	refuse := func(_ *testing.T, b *behindProxy) { b.refuse(true) }
	hold := func(_ *testing.T, b *behindProxy) { b.hold(true) }
	nothing := func(*testing.T, *behindProxy) {}
	storetest.RunOutages(t, []storetest.Outage{
		outage("disconnect", true, refuse, func(_ *testing.T, b *behindProxy) { b.refuse(false) }),
		outage("connection dropped", false, func(_ *testing.T, b *behindProxy) { b.drop(false) }, nothing),
		outage("compaction during the watch", false, nothing, func(t *testing.T, b *behindProxy) { b.compact(t) }),
		outage("compaction during a disconnect", true, refuse, func(t *testing.T, b *behindProxy) {
			b.compact(t)
			b.refuse(false)
		}),
		outage("stalled connection", false, hold, func(_ *testing.T, b *behindProxy) { b.hold(false) }),
		outage("stalled connection and compaction", false, hold, func(t *testing.T, b *behindProxy) {
			b.flood(t)
			b.compact(t)
			b.hold(false)
		}),
		outage("slow reader", false, func(_ *testing.T, b *behindProxy) { b.follows.Hold(true) },
			func(_ *testing.T, b *behindProxy) { b.follows.Hold(false) }),
		outage("slow reader and compaction", false, func(_ *testing.T, b *behindProxy) { b.follows.Hold(true) },
			func(t *testing.T, b *behindProxy) {
				b.flood(t)
				b.compact(t)
				b.follows.Hold(false)
			}),
		expiry("token expires during the watch", func(*behindProxy) {}),
		expiry("token expires and the watch breaks", func(b *behindProxy) { b.follows.Break(store.ErrCompacted) }),
		expiry("token expires and the connection is dropped", func(b *behindProxy) { b.drop(false) }),
	})
}

// expiry is the end of every token of the Follower's user, as setting its password has it, and what comes with it.
func expiry(name string, also func(*behindProxy)) storetest.Outage {
	return storetest.Outage{Name: name, Open: func(t *testing.T) storetest.Rig {
		b := startBehindProxy(t)
		g := guard(t, b.server)
		file := g.passwordFile(t, "viewer", "of viewer")
		b.follows = storetest.NewFaults(open(t, etcd.Config{Endpoints: []string{b.endpoint()}, Username: "viewer", PasswordFile: file}))
		return storetest.Rig{Store: b.follows, Writer: g.as(t, "admin"), End: func() {}, Begin: func() {
			if _, err := g.root.UserChangePassword(t.Context(), "viewer", "of viewer"); err != nil {
				t.Fatal(err)
			}
			also(b)
		}}
	}}
}

// TestWatchBesideAnExpiredToken makes a watch while another holds the stream that the old token opened.
func TestWatchBesideAnExpiredToken(t *testing.T) {
	g := guard(t, startServer(t))
	st := g.as(t, "admin")
	first, err := st.Watch(t.Context(), api.KindIPPool, "1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Create(t.Context(), storetest.Pool("p", "10.0.0.0/16")); err != nil {
		t.Fatal(err)
	}
	if ev := next(t, first); ev.Err != nil {
		t.Fatal(ev.Err)
	}
	if _, err := g.root.UserChangePassword(t.Context(), "admin", "of admin"); err != nil {
		t.Fatal(err)
	}
	second, err := st.Watch(t.Context(), api.KindIPPool, "1")
	if err != nil {
		t.Fatal(err)
	}
	if ev := next(t, second); ev.Key.Name != "p" {
		t.Errorf("the second watch: %+v, want p", ev)
	}
	if _, err := st.Create(t.Context(), storetest.Pool("q", "10.1.0.0/16")); err != nil {
		t.Fatal(err)
	}
	for i, events := range []<-chan store.Event{first, second} {
		if ev := next(t, events); ev.Key.Name != "q" {
			t.Errorf("watch %d: %+v, want q", i+1, ev)
		}
	}
}

// restorable is a server whose data can be set back, behind a proxy that hides the gap.
type restorable struct {
	*proxy
	t      *testing.T
	server *embedded.Server
	dir    string
}

func (r *restorable) start() {
	r.t.Helper()
	server, err := embedded.Start(r.t.Context(), embedded.Config{
		Dir: filepath.Join(r.dir, "data"), Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(server.Stop)
	r.server = server
	if r.proxy == nil {
		r.proxy = newProxy(r.t, server.Endpoint())
	}
	r.mu.Lock()
	r.target = strings.TrimPrefix(server.Endpoint(), "http://")
	r.mu.Unlock()
}

// direct gives a client that does not know what the Follower knows.
func (r *restorable) direct() *etcd.Store {
	return open(r.t, etcd.Config{Endpoints: []string{r.server.Endpoint()}})
}

// TestBackInTime restores a backup without the Follower seeing a refused connection, as behind a load balancer.
func TestBackInTime(t *testing.T) {
	for name, afterwards := range map[string]func(t *testing.T, st store.Store, p api.Object){
		"earlier": func(*testing.T, store.Store, api.Object) {},
		"the same revision for another change": func(t *testing.T, st store.Store, p api.Object) {
			disable(t, st, p.Key())
		},
		"overtaken": func(t *testing.T, st store.Store, p api.Object) {
			writePools(t, st, 50, 60)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &restorable{t: t, dir: t.TempDir()}
			r.start()
			p, err := r.direct().Create(t.Context(), storetest.Pool("p", "10.0.0.0/16"))
			if err != nil {
				t.Fatal(err)
			}
			writePools(t, r.direct(), 0, 5)
			r.server.Stop()
			if err := os.CopyFS(filepath.Join(r.dir, "backup"), os.DirFS(filepath.Join(r.dir, "data"))); err != nil {
				t.Fatal(err)
			}
			for range 3 { // each start is an election, and the term tells this history from the other
				r.start()
				r.server.Stop()
			}
			r.start()
			st := open(t, etcd.Config{Endpoints: []string{r.endpoint()}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
			f := follow(t, st)
			await(t, f, func(s api.Snapshot, status store.Status) bool { return status.Connected && s.IPPools.Len() == 6 })
			label(t, r.direct(), p.Key())
			if _, err := r.direct().Create(t.Context(), storetest.Pool("lost", "10.70.0.0/16")); err != nil {
				t.Fatal(err)
			}
			await(t, f, func(s api.Snapshot, _ store.Status) bool { return s.IPPools.Len() == 7 })

			r.hold(true)
			r.drop(false)
			r.server.Stop()
			if err := errors.Join(os.RemoveAll(filepath.Join(r.dir, "data")), os.Rename(filepath.Join(r.dir, "backup"), filepath.Join(r.dir, "data"))); err != nil {
				t.Fatal(err)
			}
			r.start()
			afterwards(t, r.direct(), p)
			r.hold(false)
			await(t, f, func(s api.Snapshot, _ store.Status) bool { return equal(t, s, r.direct()) })
			writePools(t, r.direct(), 90, 91)
			await(t, f, func(s api.Snapshot, _ store.Status) bool { return equal(t, s, r.direct()) })
		})
	}
}
