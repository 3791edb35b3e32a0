// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"korat/api"
	"korat/api/store"
	"korat/bgp"
	"korat/cni-plugin/socket"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/kernel"
	"korat/felix/reconcile/reconciletest"
)

func TestAttachAndDetach(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	ep := n.attach("web")
	if ep.MTU != 1400 {
		t.Errorf("MTU %d, want the uplink's 1400", ep.MTU)
	}
	addr := ep.Addresses[0].String()
	// The route is there when ADD returns: no waiting here.
	for _, want := range []string{addr + "/32 dev " + ep.Interface, "blackhole"} {
		if !w.hasRoute(want) {
			t.Errorf("want %q among the routes:\n%s", want, w.routes.Dump())
		}
	}
	if !strings.Contains(w.neighbours.Dump(), "02:00:00:00:00:01") {
		t.Errorf("no neighbour entry:\n%s", w.neighbours.Dump())
	}
	again, err := n.add(request("container-of-web", "web"))
	if err != nil || again.Addresses[0] != ep.Addresses[0] {
		t.Errorf("repeated ADD gave %v, %v, want the same address", again.Addresses, err)
	}
	for range 2 {
		if err := n.detach(ep.ID); err != nil {
			t.Errorf("DEL: %v", err)
		}
	}
	if w.hasRoute(addr + "/32") {
		t.Errorf("route left after DEL:\n%s", w.routes.Dump())
	}
	if other := n.attach("other"); other.Addresses[0] == ep.Addresses[0] {
		t.Errorf("address %s given again at once although others were idle longer", addr)
	}
}

func TestDatastoreMirrorsEndpoints(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	ep := n.attach("web")
	stored := func() []api.Object {
		objs, _, err := w.store.List(t.Context(), api.KindWorkloadEndpoint)
		if err != nil {
			t.Fatal(err)
		}
		return objs
	}
	w.until("the endpoint is in the datastore", func() bool { return len(stored()) == 1 })
	if got := stored()[0].(*api.WorkloadEndpoint); got.Spec.IPNetworks[0] != ep.Addresses[0].String()+"/32" || got.Spec.Node != "a" {
		t.Errorf("stored %+v", got.Spec)
	}
	if err := n.detach(ep.ID); err != nil {
		t.Fatal(err)
	}
	w.until("the endpoint has left the datastore", func() bool { return len(stored()) == 0 })
}

func TestNothingIsWrittenBeforeInSync(t *testing.T) {
	w := newWorld(t)
	var running sync.WaitGroup
	n := w.startWith(deafStore{w.store}, &running)
	reply := n.Handle(t.Context(), socket.Request{Verb: socket.VerbStatus})
	if reply.Error == nil || reply.Error.Code != socket.CodeTryAgainLater {
		t.Errorf("STATUS: %+v, want code %d", reply.Error, socket.CodeTryAgainLater)
	}
	w.kernel.tell(kernel.Everything())
	if err := n.detach(endpoint.ID{ContainerID: "gone", IfName: "eth0"}); err != nil {
		t.Errorf("DEL of the absent: %v", err)
	}
	if text := w.writes(); text != "" {
		t.Errorf("written before the first Snapshot:\n%s", text)
	}
}

// deafStore can't be listed.
type deafStore struct{ store.Store }

func (deafStore) List(context.Context, api.Kind) ([]api.Object, string, error) {
	return nil, "", errors.New("no answer")
}

func TestDatastoreNotReadyStopsWrites(t *testing.T) {
	w := newWorld(t)
	no := false
	info := &api.ClusterInformation{Spec: api.ClusterInformationSpec{DatastoreReady: &no}}
	info.Name = "default"
	w.create(info)
	n := w.start()
	w.until("the reason is reported", func() bool {
		return strings.Contains(strings.Join(n.report.notReady(), ""), "datastoreReady")
	})
	if text := w.writes(); text != "" {
		t.Errorf("written although datastoreReady is false:\n%s", text)
	}
}

func TestRestartWritesNothing(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	ep := n.attach("web")
	w.speaker.learn(bgp.RIB{Running: true, Complete: true, Paths: map[netip.Prefix][]bgp.Path{
		netip.MustParsePrefix("172.17.99.0/24"): {{NextHop: netip.MustParseAddr("192.168.100.101")}},
	}})
	w.until("the learned route is there", func() bool { return w.hasRoute("172.17.99.0/24 via 192.168.100.101") })
	n.stop()
	w.writes()

	w.speaker.learn(bgp.RIB{}) // the new client has not heard from the speaker yet
	n = w.start()
	w.until("the agent is in sync", func() bool { return n.status().Address != "" })
	if _, restarting := w.speaker.wanted(); !restarting {
		t.Error("the kernel held learned routes, yet the speaker was not told that this is a restart")
	}
	w.speaker.learn(bgp.RIB{Running: true, Complete: true, Paths: map[netip.Prefix][]bgp.Path{
		netip.MustParsePrefix("172.17.99.0/24"): {{NextHop: netip.MustParseAddr("192.168.100.101")}},
	}})
	n.untilReady()
	if again, err := n.ask(request("container-of-web", "web")); err != nil || again.Addresses[0] != ep.Addresses[0] {
		t.Errorf("after the restart ADD gave %v, %v, want %s", again.Addresses, err, ep.Addresses[0])
	}
	if text := w.writes(); text != "" {
		t.Errorf("an unchanged restart wrote:\n%s", text)
	}
}

func TestLearnedRoutesAreHeldUntilAllIsTold(t *testing.T) {
	w := newWorld(t)
	w.create(nodeObject("b", "192.168.100.101/24"))
	w.create(nodeObject("c", "192.168.100.102/24"))
	w.routes.Have = map[dataplane.RouteKey]dataplane.Route{}
	for prefix, gateway := range map[string]string{"172.17.8.0/24": "192.168.100.101", "172.17.9.0/24": "192.168.100.102"} {
		k, r := routeTo(prefix, gateway)
		w.routes.Have[k] = r
	}
	up := bgp.Session{State: "Established", EndOfRIB: true}
	b, c := netip.MustParseAddr("192.168.100.101"), netip.MustParseAddr("192.168.100.102")
	w.speaker.rib = bgp.RIB{Running: true}
	n := w.start()
	n.untilReady()
	if !w.hasRoute("172.17.8.0/24") || !w.hasRoute("172.17.9.0/24") {
		t.Fatalf("pruned before any neighbour spoke:\n%s", w.routes.Dump())
	}
	w.speaker.learn(bgp.RIB{Running: true, Sessions: map[netip.Addr]bgp.Session{b: up}})
	w.until("what b no longer announces is gone", func() bool { return !w.hasRoute("172.17.8.0/24") })
	if !w.hasRoute("172.17.9.0/24") {
		t.Fatalf("c has not spoken, yet its route is gone:\n%s", w.routes.Dump())
	}
	w.speaker.learn(bgp.RIB{Running: true, Complete: true, Sessions: map[netip.Addr]bgp.Session{b: up, c: up}})
	w.until("the rest is gone", func() bool { return !w.hasRoute("172.17.9.0/24") })
}

func TestAddressOfAnotherNodeIsRefused(t *testing.T) {
	w := newWorld(t)
	w.create(nodeObject("b", "192.168.100.100/24"))
	n := w.start()
	w.until("the reason is reported", func() bool {
		text := strings.Join(n.report.notReady(), "")
		return strings.Contains(text, "192.168.100.100") && strings.Contains(text, `"b"`)
	})
	_, err := n.add(request("c1", "web"))
	if text := describeReply(err); !strings.Contains(text, "code 11") || !strings.Contains(text, `held by node "b"`) {
		t.Errorf("ADD: %s", text)
	}
	if p, _ := w.speaker.wanted(); p.Global.AS != 0 {
		t.Errorf("the speaker was given a plan: %+v", p.Global)
	}
	if err := w.store.Delete(t.Context(), api.Key{Kind: api.KindNode, Name: "b"}, ""); err != nil {
		t.Fatal(err)
	}
	n.untilReady()
	n.attach("web")
}

func TestReadyWithoutInterface(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	r := request("c1", "web")
	r.Verb, r.Network = socket.VerbAdd, "korat"
	if reply := n.Handle(t.Context(), r); reply.Error != nil {
		t.Fatal(reply.Error)
	}
	if text := describeReply(n.ready(r.ID)); !strings.Contains(text, "does not exist") {
		t.Errorf("READY without the interface: %s", text)
	}
}

func TestAbortFreesTheAddress(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	ep, err := n.add(request("c1", "web"))
	if err != nil {
		t.Fatal(err)
	}
	n.Abort(t.Context(), ep.ID, false)
	w.until("the attachment is gone", func() bool {
		return strings.Contains(describeReply(n.check(ep.ID)), "attachment unknown")
	})
	if text := describeReply(n.ready(ep.ID)); !strings.Contains(text, "code 11") {
		t.Errorf("READY after the abort: %s", text)
	}
}

// A plugin that hangs up while its ADD is on its way through the loop leaves nothing, wherever that is.
func TestAbandonedAddLeavesNothing(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.untilReady()
	there := n.attach("there")
	for i := range 200 {
		r := request(fmt.Sprint("c", i), fmt.Sprint("p", i))
		if i%2 == 0 {
			r = request(there.ContainerID, there.Pod) // the runtime repeats what it has
		}
		r.Verb, r.Network = socket.VerbAdd, "korat"
		ctx, hangUp := context.WithCancel(t.Context())
		left := make(chan struct{})
		go func() {
			defer close(left)
			for range i * 100 {
				runtime.Gosched()
			}
			hangUp()
		}()
		if reply := n.Handle(ctx, r); reply.Error != nil {
			n.Abort(t.Context(), r.ID, true)
		} else if !reply.Endpoint.Ready {
			n.Abort(t.Context(), r.ID, false)
		}
		<-left
		want := "attachment unknown"
		if i%2 == 0 {
			want = "ok"
		}
		if text := describeReply(n.check(r.ID)); !strings.Contains(text, want) {
			t.Fatalf("%s: %s, want %s", r.ID, text, want)
		}
	}
}

func TestNewSandboxDisplacesTheOld(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	old := n.attach("web")
	ep, err := n.add(request("second-sandbox", "web"))
	if err == nil {
		err = n.ready(ep.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	if ep.Interface != old.Interface || ep.Addresses[0] == old.Addresses[0] {
		t.Errorf("old %s %v, new %s %v: want the same interface and another address", old.Interface, old.Addresses, ep.Interface, ep.Addresses)
	}
	if err := n.detach(old.ID); err != nil {
		t.Fatal(err)
	}
	if !w.hasRoute(ep.Addresses[0].String()+"/32") || w.hasRoute(old.Addresses[0].String()+"/32") {
		t.Errorf("the late DEL of the old sandbox must not touch the new one:\n%s", w.routes.Dump())
	}
}

// The old sandbox keeps its address and route until the new one has an address.
func TestNewSandboxWithoutAddressDisplacesNothing(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	old := n.attach("web")
	next := request("second-sandbox", "web")
	next.Families = []socket.Family{{Version: 4, Pools: []string{"no-such-pool"}}}
	if _, err := n.ask(next); !strings.Contains(describeReply(err), "code 101") {
		t.Errorf("ADD: %s", describeReply(err))
	}
	if err := n.check(old.ID); err != nil || !w.hasRoute(old.Addresses[0].String()+"/32") {
		t.Errorf("the old sandbox: %v, routes:\n%s", err, w.routes.Dump())
	}
	// But one that asks for the old one's address gets it.
	next.Families, next.Addresses = nil, old.Addresses
	ep, err := n.add(next)
	if err == nil {
		err = n.ready(ep.ID)
	}
	if err != nil || ep.Addresses[0] != old.Addresses[0] || n.check(old.ID) == nil {
		t.Errorf("ADD with the same address: %v, %v", ep, err)
	}
	other := request("third", "other")
	other.Addresses = old.Addresses
	if _, err := n.ask(other); !strings.Contains(describeReply(err), "is in use by pod ns/web") {
		t.Errorf("ADD of another pod with that address: %s", describeReply(err))
	}
}

// A learned route that the kernel refuses is a problem, but neither holds up pods nor makes the node
// unready; one of the node's own does.
func TestABadRouteHoldsUpNoPod(t *testing.T) {
	w := newWorld(t)
	bad := dataplane.RouteKey{Prefix: netip.MustParsePrefix("172.17.99.0/24")}
	w.routes.Bad = map[dataplane.RouteKey]error{bad: errors.New("no buffer space")}
	w.speaker.rib = bgp.RIB{Running: true, Complete: true, Paths: map[netip.Prefix][]bgp.Path{
		bad.Prefix: {{NextHop: netip.MustParseAddr("192.168.100.101")}},
	}}
	n := w.start()
	ep := n.attach("web")
	if !w.hasRoute(ep.Addresses[0].String() + "/32") {
		t.Errorf("routes:\n%s", w.routes.Dump())
	}
	problems := func() string { return strings.Join(n.status().Problems, "\n") }
	w.until("the bad route is told", func() bool {
		return strings.Contains(problems(), "learned routes: set 172.17.99.0/24: no buffer space")
	})
	n.untilReady()

	own := dataplane.RouteKey{Prefix: netip.PrefixFrom(ep.Addresses[0], 32)}
	w.routes.Change(func(r *reconciletest.Table[dataplane.RouteKey, dataplane.Route]) {
		r.Bad[own] = errors.New("no buffer space")
		delete(r.Have, own)
	})
	w.kernel.tell(kernel.Notice{Routes: map[netip.Prefix]bool{own.Prefix: true}})
	w.until("the node is not ready", func() bool {
		text := strings.Join(n.report.notReady(), "")
		return strings.Contains(text, own.Prefix.String()) && !strings.Contains(text, bad.Prefix.String())
	})
	if text := problems(); !strings.Contains(text, "learned routes: ") {
		t.Errorf("problems: %s", text)
	}
}

func TestWrongNodeName(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.untilReady()
	r := request("c1", "web")
	r.NodeName = "z"
	_, err := n.add(r)
	if text := describeReply(err); !strings.Contains(text, "code 7") || !strings.Contains(text, `"z"`) || !strings.Contains(text, `"a"`) {
		t.Errorf("ADD: %s", text)
	}
}

func TestUnknownPoolAndTakenAddress(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	ep := n.attach("web")
	for name, change := range map[string]func(*socket.Request){
		"no-such-pool":           func(r *socket.Request) { r.Families = []socket.Family{{Version: 4, Pools: []string{"no-such-pool"}}} },
		ep.Addresses[0].String(): func(r *socket.Request) { r.Addresses = ep.Addresses },
		"10.1.2.3":               func(r *socket.Request) { r.Addresses = []netip.Addr{netip.MustParseAddr("10.1.2.3")} },
	} {
		r := request("c2", "other")
		change(&r)
		_, err := n.add(r)
		if text := describeReply(err); !strings.Contains(text, "code 101") || !strings.Contains(text, name) {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestStatus(t *testing.T) {
	w := newWorld(t)
	w.create(nodeObject("b", "192.168.100.101/24"))
	w.speaker.rib = bgp.RIB{Running: true, Sessions: map[netip.Addr]bgp.Session{
		netip.MustParseAddr("192.168.100.101"): {State: "Active", Reason: "connection refused"},
	}}
	n := w.start()
	ep := n.attach("web")
	s := n.status()
	if len(s.Sessions) != 1 || s.Sessions[0].Name != "b" || s.Sessions[0].Reason != "connection refused" {
		t.Errorf("sessions: %+v", s.Sessions)
	}
	w.until("the pod's route is shown", func() bool {
		return slices.ContainsFunc(n.status().Routes, func(r RouteStatus) bool {
			return r.Prefix == ep.Addresses[0].String()+"/32" && r.From == "local pod"
		})
	})
	n.untilReady() // a session that is down does not make the node unready
}
