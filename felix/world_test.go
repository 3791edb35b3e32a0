// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/api/store/memory"
	"korat/bgp"
	"korat/cni-plugin/socket"
	"korat/felix/autodetect"
	"korat/felix/calc"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/kernel"
	"korat/felix/mirror"
	"korat/felix/reconcile"
	"korat/felix/reconcile/reconciletest"
	"korat/felix/revocation"
	"korat/ipam"
	"korat/ipam/journal"
	"korat/policy"
	"korat/policy/chain"
)

// world is one host with fakes at its edges: a kernel of maps and a speaker that only listens. The
// datastore is the memory one, the journal a real file.
type testWorld struct {
	t       testing.TB
	store   datastore
	kernel  *fakeKernel
	speaker *fakeSpeaker
	dir     string
	// ipv4 and ipv6 are the agent's flags, and bootstrap its default pools.
	ipv4, ipv6 Source
	bootstrap  Bootstrap
	// resync is the agent's Resync, and ahead how far its clock is ahead of time.
	resync time.Duration
	ahead  atomic.Int64
	// ends is told the error with which an agent ends; nil if none may.
	ends chan error

	links   *reconciletest.Table[string, dataplane.Link]
	sysctls *reconciletest.Table[string, dataplane.SysctlValue]
	sets    *fakeSets
	chains  *fakeChains
	// chainTable is what the agent has instead, if anything.
	chainTable reconcile.Table[chain.Key, *chain.Chain]
	neighbours *reconciletest.Table[dataplane.NeighbourKey, dataplane.Neighbour]
	routes     *reconciletest.Table[dataplane.RouteKey, dataplane.Route]
	conntrack  *fakeConntrack
}

// datastore is a store whose history can be lost.
type datastore interface {
	store.Store
	Compact()
}

func newWorld(t testing.TB) *testWorld {
	w := &testWorld{
		t: t, store: memory.New(), dir: t.TempDir(), resync: time.Minute,
		ipv4:       Source{Method: autodetect.FirstFound(api.IPv4)},
		bootstrap:  Bootstrap{IPv4: DefaultPool{CIDR: netip.MustParsePrefix("172.17.0.0/16"), BlockSize: 24}},
		speaker:    &fakeSpeaker{wake: make(chan struct{}, 1), rib: bgp.RIB{Running: true, Complete: true}},
		links:      &reconciletest.Table[string, dataplane.Link]{Have: map[string]dataplane.Link{}},
		sysctls:    &reconciletest.Table[string, dataplane.SysctlValue]{},
		sets:       &fakeSets{have: map[policy.SetKey]kernel.Members{}},
		chains:     &fakeChains{},
		neighbours: &reconciletest.Table[dataplane.NeighbourKey, dataplane.Neighbour]{},
		routes:     &reconciletest.Table[dataplane.RouteKey, dataplane.Route]{},
		conntrack:  &fakeConntrack{},
	}
	w.kernel = &fakeKernel{
		wake: make(chan struct{}, 1), links: w.links, host: dataplane.Host{Links: map[string]dataplane.HostLink{}, DefaultRoute: true},
	}
	w.kernel.addLink("eth0", dataplane.HostLink{
		Index: 2, MTU: 1400, Up: true, Running: true,
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.168.100.100/24")},
	})
	return w
}

// writes gives everything that was written to the kernel since the last call.
func (w *testWorld) writes() string {
	return w.links.TakeWrites() + w.sysctls.TakeWrites() + w.sets.takeWrites() + w.chains.TakeWrites() +
		w.neighbours.TakeWrites() + w.routes.TakeWrites()
}

// node is one life of the agent.
type node struct {
	*Agent
	w    *testWorld
	stop func()
}

// start runs an agent until the test ends or stop is called.
func (w *testWorld) start() *node { return w.startWith(w.store, &sync.WaitGroup{}) }

func (w *testWorld) startWith(st store.Store, running *sync.WaitGroup) *node {
	w.t.Helper()
	log := slog.New(slog.NewTextHandler(w.t.Output(), nil))
	record, err := journal.Open[endpoint.Endpoint](filepath.Join(w.dir, "journal"))
	if err != nil {
		w.t.Fatal(err)
	}
	follower := store.NewFollower(st, api.Kinds(), log)
	follower.Track = calc.Heeds
	keeper := ipam.NewKeeper(st, "a", log)
	chains := w.chainTable
	if chains == nil {
		chains = w.chains
	}
	copies := mirror.New(st, "a", log)
	revoker := revocation.New(w.conntrack, log)
	agent := New(Config{
		Identity: Identity{Node: "a", IPv4: w.ipv4, IPv6: w.ipv6}, Version: "test", Resync: w.resync,
		Bootstrap: w.bootstrap,
	},
		Parts{
			Datastore: follower, Store: st, Kernel: w.kernel, Speaker: w.speaker, Keeper: keeper, Mirror: copies, Journal: record, Log: log,
			Tables: Tables{w.links, w.sysctls, w.sets, chains, w.neighbours, w.routes}, Revoker: revoker,
		})
	now := func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }
	agent.at.now, agent.world.registration.ipv4.now, agent.world.registration.ipv6.now = now, now, now
	ctx, cancel := context.WithCancel(context.Background())
	for _, run := range []func(context.Context){follower.Run, keeper.Run, copies.Run, revoker.Run, func(ctx context.Context) {
		switch err := agent.Run(ctx); {
		case err == nil:
		case w.ends != nil:
			w.ends <- err
		default:
			w.t.Error(err)
		}
	}} {
		running.Go(func() { run(ctx) })
	}
	n := &node{Agent: agent, w: w, stop: sync.OnceFunc(func() {
		cancel()
		running.Wait()
		record.Close()
	})}
	w.t.Cleanup(n.stop)
	return n
}

// until waits for a condition; it fails the test when that never comes.
func (w *testWorld) until(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			w.t.Fatalf("never happened: %s\nroutes:\n%s", what, w.routes.Dump())
		case <-tick.C:
		}
	}
}

func (n *node) untilReady() {
	n.w.t.Helper()
	n.w.until("the agent is ready", func() bool { return len(n.report.notReady()) == 0 })
}

// ask plays the plugin's ADD up to the agent's answer.
func (n *node) ask(r socket.Request) (endpoint.Endpoint, error) {
	r.Verb, r.Network = socket.VerbAdd, "korat"
	reply := n.Handle(n.w.t.Context(), r)
	if reply.Error != nil {
		return endpoint.Endpoint{}, reply.Error
	}
	return *reply.Endpoint, nil
}

// add plays the plugin's ADD up to the point where the pair exists.
func (n *node) add(r socket.Request) (endpoint.Endpoint, error) {
	ep, err := n.ask(r)
	if err == nil {
		n.w.kernel.addLink(ep.Interface, dataplane.HostLink{Index: 100, Up: true, Running: true})
	}
	return ep, err
}

// check plays CHECK.
func (n *node) check(id endpoint.ID) error {
	reply := n.Handle(n.w.t.Context(), socket.Request{Verb: socket.VerbCheck, ID: id})
	if reply.Error != nil {
		return reply.Error
	}
	return nil
}

func (n *node) ready(id endpoint.ID) error {
	reply := n.Handle(n.w.t.Context(), socket.Request{Verb: socket.VerbReady, ID: id, MAC: "02:00:00:00:00:01"})
	if reply.Error != nil {
		return reply.Error
	}
	return nil
}

// alias names the host's side of an endpoint's pair as the plugin does.
func (w *testWorld) alias(ep endpoint.Endpoint) {
	w.kernel.addLink(ep.Interface, dataplane.HostLink{
		Index: 100, Type: "veth", MTU: 1400, Up: true, Running: true, Alias: endpoint.FormatAlias(ep.Alias()),
	})
}

// later lets the agent's clock run ahead, and the agent notice.
func (w *testWorld) later(d time.Duration) {
	w.ahead.Add(int64(d))
	poke(w.kernel.wake)
}

// attach plays the whole ADD.
func (n *node) attach(pod string) endpoint.Endpoint {
	n.w.t.Helper()
	ep, err := n.add(request("container-of-"+pod, pod))
	if err == nil {
		err = n.ready(ep.ID)
	}
	if err != nil {
		n.w.t.Fatalf("attach %s: %v", pod, err)
	}
	return ep
}

func (n *node) detach(id endpoint.ID) error {
	reply := n.Handle(n.w.t.Context(), socket.Request{Verb: socket.VerbDel, ID: id})
	if reply.Error != nil {
		return reply.Error
	}
	return nil
}

func (n *node) status() NodeStatus {
	var s NodeStatus
	reply := n.Handle(n.w.t.Context(), socket.Request{Verb: socket.VerbNodeStatus})
	if err := json.Unmarshal(reply.Status, &s); err != nil {
		n.w.t.Fatal(err)
	}
	return s
}

func request(container, pod string) socket.Request {
	return socket.Request{ID: endpoint.ID{ContainerID: container, IfName: "eth0"}, Namespace: "ns", Pod: pod}
}

// fakeKernel is the part of a host that is not ours.
type fakeKernel struct {
	wake   chan struct{}
	mu     sync.Mutex
	host   dataplane.Host
	notice kernel.Notice
	// fails is what Observe fails with.
	fails error
	// links are those of pods as their table has them.
	links *reconciletest.Table[string, dataplane.Link]
}

// fakeChains are chains whose rules can match link groups, unless they are named.
type fakeChains struct {
	reconciletest.Table[chain.Key, *chain.Chain]
	named atomic.Bool
}

// Groups implements grouping.
func (c *fakeChains) Groups(context.Context, []api.Family) (able bool, err error) {
	return !c.named.Load(), nil
}

func (k *fakeKernel) Observe(context.Context) (dataplane.Host, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fails != nil {
		return dataplane.Host{}, k.fails
	}
	return dataplane.Host{Links: maps.Clone(k.host.Links), DefaultRoute: k.host.DefaultRoute}, nil
}

func (k *fakeKernel) ObserveAfter(ctx context.Context, _ dataplane.Host, _ kernel.Notice) (dataplane.Host, error) {
	return k.Observe(ctx)
}

func (k *fakeKernel) Drain() kernel.Notice {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.notice
	k.notice = kernel.Notice{}
	return n
}

func (k *fakeKernel) Wake() <-chan struct{} { return k.wake }

func (k *fakeKernel) addLink(name string, l dataplane.HostLink) {
	k.mu.Lock()
	if old := k.host.Links[name]; old.Index != l.Index {
		k.forget(name)
	}
	k.host.Links[name] = l
	k.mu.Unlock()
	k.tell(kernel.Notice{Links: map[string]bool{name: false}})
}

// forget lets a link have nothing of another one of its name.
func (k *fakeKernel) forget(name string) {
	k.links.Change(func(t *reconciletest.Table[string, dataplane.Link]) { delete(t.Have, name) })
}

// change does something to the kernel of which there is no notice.
func (k *fakeKernel) change(do func(*fakeKernel)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	do(k)
}

func (k *fakeKernel) removeLink(name string) {
	k.mu.Lock()
	delete(k.host.Links, name)
	k.forget(name)
	k.mu.Unlock()
	k.tell(kernel.Notice{Links: map[string]bool{name: true}})
}

func (k *fakeKernel) tell(n kernel.Notice) {
	k.mu.Lock()
	k.notice = n
	k.mu.Unlock()
	poke(k.wake)
}

// fakeSpeaker remembers the Plan and tells the RIB that it is given.
type fakeSpeaker struct {
	wake       chan struct{}
	mu         sync.Mutex
	plan       bgp.Plan
	restarting bool
	rib        bgp.RIB
}

func (s *fakeSpeaker) Want(p bgp.Plan, restarting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan, s.restarting = p, restarting
}

func (s *fakeSpeaker) RIB() bgp.RIB {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rib
}

func (s *fakeSpeaker) Err() error            { return nil }
func (s *fakeSpeaker) Wake() <-chan struct{} { return s.wake }

func (s *fakeSpeaker) learn(rib bgp.RIB) {
	s.mu.Lock()
	rib.Generation = s.rib.Generation + 1
	s.rib = rib
	s.mu.Unlock()
	poke(s.wake)
}

func (s *fakeSpeaker) wanted() (bgp.Plan, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan, s.restarting
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (w *testWorld) hasRoute(text string) bool { return strings.Contains(w.routes.Dump(), text) }

// create puts an object into the datastore.
func (w *testWorld) create(obj api.Object) {
	w.t.Helper()
	if _, err := w.store.Create(w.t.Context(), obj); err != nil {
		w.t.Fatal(err)
	}
}

func nodeObject(name, address string) *api.Node {
	n := &api.Node{}
	n.Name = name
	n.Spec.BGP = &api.NodeBGPSpec{IPv4Address: address}
	return n
}

func routeTo(prefix string, gateway string) (dataplane.RouteKey, dataplane.Route) {
	return dataplane.RouteKey{Prefix: netip.MustParsePrefix(prefix)},
		dataplane.Route{NextHops: []dataplane.NextHop{{Device: "eth0", Gateway: netip.MustParseAddr(gateway)}}}
}

func describeReply(err error) string {
	if err == nil {
		return "ok"
	}
	var coded *socket.Error
	if errors.As(err, &coded) {
		return fmt.Sprintf("code %d: %s", coded.Code, coded.Error())
	}
	return err.Error()
}
