// SPDX-License-Identifier: Apache-2.0

package etcd_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"korat/api"
	"korat/api/store"
	"korat/api/store/etcd"
	"korat/api/store/storetest"
)

// memberEnv makes the test binary a member of a cluster: one that is a process can be killed.
const memberEnv = "KORAT_TEST_ETCD_MEMBER"

func TestMain(m *testing.M) {
	text := os.Getenv(memberEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	if err := runMember(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// place says where a member is.
type place struct{ Name, Dir, Client, Peer, Cluster string }

// runMember serves until its standard input ends, which it does with the test.
func runMember(text string) error {
	var at place
	if err := json.Unmarshal([]byte(text), &at); err != nil {
		return err
	}
	client, err := url.Parse(at.Client)
	if err != nil {
		return err
	}
	peer, err := url.Parse(at.Peer)
	if err != nil {
		return err
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster = at.Name, at.Dir, at.Cluster
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	c.UnsafeNoFsync = true // a killed process loses nothing that it has written
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	<-server.Server.ReadyNotify()
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// cluster has three members, each a process with loopback addresses of its own.
type cluster struct {
	*testing.T
	members []*member
}

type member struct {
	*testing.T
	place
	cmd   *exec.Cmd
	stdin io.Closer
	ready chan struct{}
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{T: t}
	dir, net := t.TempDir(), fmt.Sprintf("127.%d.%d", 16+rand.IntN(200), rand.IntN(256))
	var all []string
	for i := range 3 {
		name, host := fmt.Sprintf("m%d", i), fmt.Sprintf("http://%s.%d", net, i+1)
		c.members = append(c.members, &member{T: t, place: place{Name: name, Dir: filepath.Join(dir, name), Client: host + ":2379", Peer: host + ":2380"}})
		all = append(all, name+"="+host+":2380")
	}
	for _, m := range c.members {
		m.Cluster = strings.Join(all, ",")
		m.start()
	}
	for _, m := range c.members {
		m.awaitReady()
	}
	t.Cleanup(func() {
		for _, m := range c.members {
			m.kill()
		}
	})
	return c
}

func (m *member) start() {
	m.Helper()
	text, err := json.Marshal(m.place)
	if err != nil {
		m.Fatal(err)
	}
	m.cmd = exec.Command(os.Args[0])
	m.cmd.Env = append(os.Environ(), memberEnv+"="+string(text))
	m.cmd.Stderr = os.Stderr
	// A process that a test stopped would not see its input end.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := m.cmd.StdoutPipe()
	if err == nil {
		m.stdin, err = m.cmd.StdinPipe()
	}
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		m.Fatal(err)
	}
	m.ready = make(chan struct{})
	go func(ready chan struct{}) {
		if bufio.NewScanner(out).Scan() {
			close(ready)
		}
	}(m.ready)
}

func (m *member) awaitReady() {
	m.Helper()
	select {
	case <-m.ready:
	case <-time.After(2 * time.Minute):
		m.Fatalf("member %s does not come up", m.Name)
	}
}

// kill ends the process at once; a killed one may be started again.
func (m *member) kill() {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait() // says that it was killed
	m.stdin.Close()
	m.cmd = nil
}

func (m *member) signal(s os.Signal) {
	m.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.Fatal(err)
	}
}

func (c *cluster) endpoints() []string {
	var all []string
	for _, m := range c.members {
		all = append(all, m.Client)
	}
	return all
}

// store gives a Store that knows every member.
func (c *cluster) store() *etcd.Store {
	return open(c.T, etcd.Config{Endpoints: c.endpoints(), DialTimeout: 3 * time.Second, Log: slog.New(slog.NewTextHandler(c.Output(), nil))})
}

// until tries again and again until it is done.
func (c *cluster) until(what string, done func() bool) {
	c.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(2 * time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			c.Fatalf("never happened: %s", what)
		}
	}
}

// leader waits for a member to lead, and gives its index.
func (c *cluster) leader() (leader int) {
	c.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: c.endpoints(), Logger: zap.NewNop()})
	if err != nil {
		c.Fatal(err)
	}
	defer client.Close()
	c.until("a member leads", func() bool {
		leader = slices.IndexFunc(c.members, func(m *member) bool {
			if m.cmd == nil {
				return false
			}
			resp, err := client.Status(c.Context(), m.Client)
			return err == nil && resp.Leader == resp.Header.MemberId
		})
		return leader >= 0
	})
	return leader
}

// create writes through an outage, as every writer of korat does.
func (c *cluster) create(st store.Store, obj api.Object) {
	c.Helper()
	c.until("create "+obj.Key().String(), func() bool {
		_, err := st.Create(c.Context(), obj)
		// A write whose answer was lost may have been done.
		if err != nil && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrUnavailable) {
			c.Fatalf("%v, want success or ErrUnavailable", err)
		}
		return !errors.Is(err, store.ErrUnavailable)
	})
}

// TestMembersLost kills members of a cluster until nothing can be written, and brings them back.
func TestMembersLost(t *testing.T) {
	c := startCluster(t)
	st := c.store()
	writePools(t, st, 0, 5)
	if _, err := st.Create(t.Context(), storetest.Endpoint("ns", "e")); err != nil {
		t.Fatal(err)
	}
	f := follow(t, st)
	before := await(t, f, func(s api.Snapshot, status store.Status) bool {
		return status.Connected && s.InSync && s.IPPools.Len() == 5
	})
	has := func(names ...string) func(api.Snapshot, store.Status) bool {
		return func(s api.Snapshot, status store.Status) bool {
			for _, name := range names {
				if _, ok := s.IPPools.Get(name); !ok {
					return false
				}
			}
			return status.Connected
		}
	}

	first := c.leader()
	c.members[first].kill()
	c.create(st, storetest.Pool("one-lost", "10.50.0.0/16"))
	await(t, f, has("one-lost"))

	second := c.leader()
	c.members[second].kill()
	_, err := st.Create(t.Context(), storetest.Pool("two-lost", "10.51.0.0/16"))
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("create without a majority: %v, want ErrUnavailable", err)
	}
	if _, _, err := st.List(t.Context(), api.KindIPPool); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("list without a majority: %v, want ErrUnavailable: what one member alone has may be old", err)
	}
	await(t, f, func(_ api.Snapshot, status store.Status) bool { return !status.Connected })
	if snap := f.Snapshot(); !snap.InSync || !has("p0", "p4", "one-lost")(snap, store.Status{Connected: true}) {
		t.Error("the outage took objects from the Snapshot")
	}

	c.members[first].start()
	c.create(st, storetest.Pool("one-back", "10.52.0.0/16"))
	await(t, f, has("one-back"))
	c.members[second].start()
	c.members[second].awaitReady()
	c.create(st, storetest.Pool("all-back", "10.53.0.0/16"))
	after := await(t, f, func(s api.Snapshot, status store.Status) bool {
		return has("all-back")(s, status) && equal(t, s, st)
	})
	if !after.WorkloadEndpoints.Same(before.WorkloadEndpoints) {
		t.Error("the endpoints did not change, but their table did")
	}
	for name, was := range before.IPPools.All() {
		if is, _ := after.IPPools.Get(name); is != was {
			t.Errorf("%s did not change, but is another object", name)
		}
	}
}

// TestHungMember stops a member, whose connections stay: the kernel answers for it.
func TestHungMember(t *testing.T) {
	c := startCluster(t)
	st := c.store()
	writePools(t, st, 0, 5)
	f := follow(t, st)
	await(t, f, func(s api.Snapshot, status store.Status) bool { return status.Connected && s.IPPools.Len() == 5 })
	hung := c.members[c.leader()]
	hung.signal(syscall.SIGSTOP)
	for i := range 6 { // whichever member each of them goes to
		c.create(st, storetest.Pool(fmt.Sprintf("q%d", i), fmt.Sprintf("10.6%d.0.0/16", i)))
	}
	await(t, f, func(s api.Snapshot, status store.Status) bool { return status.Connected && s.IPPools.Len() == 11 })
	hung.signal(syscall.SIGCONT)
	c.create(st, storetest.Pool("last", "10.70.0.0/16"))
	await(t, f, func(s api.Snapshot, status store.Status) bool { return status.Connected && equal(t, s, st) })
}

// TestSomeEndpointsAreDead has one member of three to talk to, from the start.
func TestSomeEndpointsAreDead(t *testing.T) {
	server := startServer(t)
	for i := range 3 {
		endpoints := []string{"http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"}
		endpoints[i] = server.Endpoint()
		st := open(t, etcd.Config{Endpoints: endpoints})
		for n := range 5 {
			if _, err := st.Create(t.Context(), storetest.Pool(fmt.Sprintf("p%d-%d", i, n), "10.0.0.0/16")); err != nil {
				t.Errorf("with %s: %v", strings.Join(endpoints, ", "), err)
			}
		}
	}
}

// TestLeaderLoss has the matrix's changes made while the leader is away.
func TestLeaderLoss(t *testing.T) {
	storetest.RunOutages(t, []storetest.Outage{{Name: "leader lost", Open: func(t *testing.T) storetest.Rig {
		c := startCluster(t)
		var lost *member
		writer := c.store()
		return storetest.Rig{
			Store: c.store(), Writer: writer,
			Begin: func() {
				lost = c.members[c.leader()]
				lost.kill()
				c.until("the others answer", func() bool { return second(writer.Get(t.Context(), api.Key{Kind: api.KindNode, Name: "a"})) == nil })
			},
			End: func() {
				lost.start()
				lost.awaitReady()
			},
		}
	}}})
}
