// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/cni-plugin/socket"
	"korat/felix/autodetect"
	"korat/felix/calc"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/mirror"
	"korat/felix/reconcile"
	"korat/felix/reconcile/reconciletest"
	"korat/felix/revocation"
	"korat/ipam"
	"korat/ipam/journal"
	"korat/policy/chain"
)

// mishap is what goes wrong with the n-th write of the agent to the kernel or to the journal.
type mishap struct {
	what, how string
	nth       int

	mu     sync.Mutex
	writes int
	// struck says that it has happened, dead that the agent of the moment is a dead man: nothing that it
	// does has an effect any more.
	struck, dead bool
	end          context.CancelFunc
}

const (
	fails       = "fails"
	failsMidway = "fails midway"
	diesBefore  = "dies before"
	diesAfter   = "dies after"
)

var errMishap = errors.New("mishap")

// do does a write, all of it or the first half.
func (m *mishap) do(what string, write func(half bool) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errMishap
	}
	if what == m.what {
		m.writes++
	}
	if what != m.what || m.writes != m.nth {
		return write(false)
	}
	m.struck = true
	var err error
	switch m.how {
	case failsMidway:
		err = write(true)
	case diesBefore:
		m.die()
	case diesAfter:
		err = write(false)
		m.die()
	}
	return errors.Join(err, errMishap)
}

func (m *mishap) die() {
	m.dead = true
	m.end()
}

func (m *mishap) is(of func(*mishap) bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return of(m)
}

// mishapTable is a table to whose writes something happens.
type mishapTable[K comparable, V reconcile.Value[V]] struct {
	*reconciletest.Table[K, V]
	mishap *mishap
}

// Write implements reconcile.Table.
func (t mishapTable[K, V]) Write(ctx context.Context, d reconcile.Diff[K, V]) error {
	return t.mishap.do("kernel", func(half bool) error {
		if half {
			d = reconcile.Diff[K, V]{Set: firstHalf(d.Set), Delete: firstHalf(d.Delete)}
		}
		return t.Table.Write(ctx, d)
	})
}

// mishapChains are chains to whose writes something happens.
type mishapChains struct {
	mishapTable[chain.Key, *chain.Chain]
	grouping
}

// firstHalf gives half of the entries, in an order that is the same each time.
func firstHalf[K comparable, V any](all map[K]V) map[K]V {
	keys := slices.SortedFunc(maps.Keys(all), func(a, b K) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	half := map[K]V{}
	for _, k := range keys[:(len(keys)+1)/2] {
		half[k] = all[k]
	}
	return half
}

// mishapJournal is a journal to whose writes something happens.
type mishapJournal struct {
	*journal.Journal[endpoint.Endpoint]
	mishap *mishap
}

// Put implements Journal.
func (j mishapJournal) Put(key string, ep endpoint.Endpoint) error {
	return j.mishap.do("journal", func(bool) error { return j.Journal.Put(key, ep) })
}

// Delete implements Journal.
func (j mishapJournal) Delete(key string) error {
	return j.mishap.do("journal", func(bool) error { return j.Journal.Delete(key) })
}

// drill is a host whose agent has a mishap while a runtime works on, as kubelet does.
type drill struct {
	*testWorld
	mishap *mishap
	agent  *Agent
	ctx    context.Context
	stop   func()
	// live are the pods that have addresses, by name.
	live map[string]endpoint.Endpoint
	next int
}

// begin starts an agent.
func (d *drill) begin() {
	log := slog.New(slog.DiscardHandler)
	record, err := journal.Open[endpoint.Endpoint](filepath.Join(d.dir, "journal"))
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(d.t.Context())
	m := d.mishap
	m.dead, m.end = false, cancel
	follower := store.NewFollower(d.store, api.Kinds(), log)
	follower.Track = calc.Heeds
	keeper, copies := ipam.NewKeeper(d.store, "a", log), mirror.New(d.store, "a", log)
	revoker := revocation.New(&fakeConntrack{}, log)
	d.agent = New(Config{
		Identity: Identity{Node: "a", IPv4: Source{Method: autodetect.FirstFound(api.IPv4)}}, Version: "test", Resync: time.Minute,
		Bootstrap: Bootstrap{IPv4: DefaultPool{CIDR: netip.MustParsePrefix("172.17.0.0/16"), BlockSize: 24}},
	}, Parts{
		Datastore: follower, Store: d.store, Kernel: d.kernel, Speaker: d.speaker, Keeper: keeper, Mirror: copies, Log: log,
		Journal: mishapJournal{record, m},
		Tables: Tables{
			Links: mishapTable[string, dataplane.Link]{d.links, m}, Sysctls: mishapTable[string, dataplane.SysctlValue]{d.sysctls, m},
			Sets: mishapSets{d.sets, m}, Chains: mishapChains{mishapTable[chain.Key, *chain.Chain]{&d.chains.Table, m}, d.chains},
			Neighbours: mishapTable[dataplane.NeighbourKey, dataplane.Neighbour]{d.neighbours, m},
			Routes:     mishapTable[dataplane.RouteKey, dataplane.Route]{d.routes, m},
		},
		Revoker: revoker,
	})
	var running sync.WaitGroup
	for _, run := range []func(context.Context){follower.Run, keeper.Run, copies.Run, revoker.Run, func(ctx context.Context) {
		// One that dies at its start is started again by whoever keeps it alive.
		if err := d.agent.Run(ctx); err != nil {
			cancel()
		}
	}} {
		running.Go(func() { run(ctx) })
	}
	d.ctx, d.stop = ctx, func() {
		cancel()
		running.Wait()
		record.Close()
	}
}

// alive sees to it that an agent runs.
func (d *drill) alive() {
	if d.ctx.Err() != nil {
		d.stop()
		d.begin()
	}
}

// say sends one request. The answer of a dying agent is not heard.
func (d *drill) say(r socket.Request) (*endpoint.Endpoint, error) {
	d.alive()
	reply := d.agent.Handle(d.ctx, r)
	if reply.Error != nil {
		return nil, reply.Error
	}
	return reply.Endpoint, d.ctx.Err()
}

// attach has a runtime try until the pod is attached, each time with another sandbox.
func (d *drill) attach(pod string) {
	for range 20 {
		d.next++
		r := request(fmt.Sprintf("sandbox-%d", d.next), pod)
		r.Verb, r.Network = socket.VerbAdd, "korat"
		ep, err := d.say(r)
		if err == nil {
			d.taken(*ep)
			d.remove(ep.Interface) // The plugin makes room.
			d.kernel.addLink(ep.Interface, dataplane.HostLink{
				Index: 100 + d.next, Type: "veth", MTU: 1400, Up: true, Running: true, Alias: endpoint.FormatAlias(ep.Alias()),
			})
			_, err = d.say(socket.Request{Verb: socket.VerbReady, ID: r.ID, MAC: "02:00:00:00:00:01"})
		}
		if err == nil {
			d.live[pod] = *ep
			if !d.hasRoute(ep.Addresses[0].String() + "/32 dev " + ep.Interface) {
				d.t.Errorf("%s: ADD has succeeded without a route:\n%s", pod, d.routes.Dump())
			}
			return
		}
		d.detach(endpoint.Endpoint{ID: r.ID, Interface: endpoint.HostInterface(r.Namespace, r.Pod, r.IfName)})
	}
	d.t.Fatalf("%s: no ADD succeeds", pod)
}

// taken holds new addresses against those of the other pods. A pod's old sandbox is no other.
func (d *drill) taken(ep endpoint.Endpoint) {
	for pod, other := range d.live {
		if pod != ep.Pod && slices.ContainsFunc(ep.Addresses, func(a netip.Addr) bool { return slices.Contains(other.Addresses, a) }) {
			d.t.Errorf("%s got %v, which %s has", ep.Pod, ep.Addresses, pod)
		}
	}
}

// detach has a runtime remove a sandbox until that succeeds.
func (d *drill) detach(ep endpoint.Endpoint) {
	if link, there := d.kernel.link(ep.Interface); there {
		if alias, err := endpoint.ParseAlias(link.Alias); err == nil && alias.Is(ep.ID) {
			d.remove(ep.Interface)
		}
	}
	for range 20 {
		if _, err := d.say(socket.Request{Verb: socket.VerbDel, ID: ep.ID}); err == nil {
			return
		}
	}
	d.t.Fatalf("%s: no DEL succeeds", ep.ID)
}

func (k *fakeKernel) link(name string) (dataplane.HostLink, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l, there := k.host.Links[name]
	return l, there
}

// remove takes an interface away, and all that hangs on it, as the kernel does.
func (d *drill) remove(name string) {
	if _, there := d.kernel.link(name); !there {
		return
	}
	d.sysctls.Change(func(t *reconciletest.Table[string, dataplane.SysctlValue]) {
		maps.DeleteFunc(t.Have, func(key string, _ dataplane.SysctlValue) bool { return strings.Contains(key, "/"+name+"/") })
	})
	d.neighbours.Change(func(t *reconciletest.Table[dataplane.NeighbourKey, dataplane.Neighbour]) {
		maps.DeleteFunc(t.Have, func(key dataplane.NeighbourKey, _ dataplane.Neighbour) bool { return key.Device == name })
	})
	d.routes.Change(func(t *reconciletest.Table[dataplane.RouteKey, dataplane.Route]) {
		maps.DeleteFunc(t.Have, func(_ dataplane.RouteKey, r dataplane.Route) bool {
			return slices.Contains(r.NextHops, dataplane.NextHop{Device: name})
		})
	})
	d.kernel.removeLink(name)
}

// settle lets everything be retried that can be.
func (d *drill) settle() {
	d.alive()
	time.Sleep(time.Minute) // of synctest's clock
	synctest.Wait()
	d.alive()               // It may have died of it.
	time.Sleep(time.Minute) // of synctest's clock
	synctest.Wait()
}

// right holds kernel and datastore against the pods, and against what an agent without a memory would do.
func (d *drill) right() {
	d.settle()
	d.holds()
	d.stop()
	d.writes()
	d.begin()
	d.settle()
	if text := d.writes(); text != "" {
		d.t.Errorf("a fresh agent writes\n%s", text)
	}
	d.holds()
}

// holds compares what kernel and datastore hold with the pods.
func (d *drill) holds() {
	var want []string
	for pod, ep := range d.live {
		want = append(want, fmt.Sprint(pod, " ", ep.Addresses[0]))
		if !d.hasRoute(ep.Addresses[0].String() + "/32 dev " + ep.Interface) {
			d.t.Errorf("%s has no route", pod)
		}
	}
	slices.Sort(want)
	routes := strings.Count(d.routes.Dump(), " dev "+endpoint.InterfacePrefix)
	if have := strings.Join(d.inUse(), ", "); have != strings.Join(want, ", ") || routes != len(want) {
		d.t.Errorf("the pods are %v; the datastore's blocks have %s; routes:\n%s", want, have, d.routes.Dump())
	}
	if weps, _, err := d.store.List(d.t.Context(), api.KindWorkloadEndpoint); err != nil || len(weps) != len(want) {
		d.t.Errorf("the pods are %v; there are %d WorkloadEndpoints, %v", want, len(weps), err)
	}
}

// inUse gives "pod address" of what the datastore's blocks say is in use.
func (d *drill) inUse() []string {
	blocks, _, err := d.store.List(d.t.Context(), api.KindIPAMBlock)
	if err != nil {
		d.t.Fatal(err)
	}
	var all []string
	for _, obj := range blocks {
		spec := obj.(*api.IPAMBlock).Spec
		addr := netip.MustParsePrefix(spec.CIDR).Addr()
		for _, attribute := range spec.Allocations {
			if attribute != nil && spec.Attributes[*attribute].ReleasedAt == nil {
				if pod := spec.Attributes[*attribute].ActiveOwnerAttrs["pod"]; pod != "" {
					all = append(all, pod+" "+addr.String())
				}
			}
			addr = addr.Next()
		}
	}
	slices.Sort(all)
	return all
}

// TestMishapAtEveryWrite has pods come, move and go while one write to the kernel or to the journal fails, or is the
// agent's last: each write in turn, and the next as long as there is one.
func TestMishapAtEveryWrite(t *testing.T) {
	for what, hows := range map[string][]string{
		"kernel":  {fails, failsMidway, diesBefore, diesAfter},
		"journal": {fails, diesBefore, diesAfter},
	} {
		for _, how := range hows {
			reached := 0
			for nth := 1; rehearse(t, &mishap{what: what, how: how, nth: nth}); nth++ {
				reached = nth
			}
			t.Logf("%s %s: at each of %d writes", what, how, reached)
			if reached < 6 {
				t.Errorf("only %d writes were reached", reached)
			}
		}
	}
}

// rehearse goes through one life of some pods, and says whether the mishap has happened.
func rehearse(t *testing.T, m *mishap) (struck bool) {
	name := fmt.Sprintf("%s %s at write %d", m.what, m.how, m.nth)
	good := t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := &drill{testWorld: newWorld(t), mishap: m, live: map[string]endpoint.Endpoint{}}
			d.begin()
			defer func() { d.stop() }()
			d.attach("one")
			d.attach("two")
			old := d.live["one"]
			d.attach("one") // its next sandbox, before the old one's DEL
			d.detach(old)
			d.detach(d.live["two"])
			delete(d.live, "two")
			d.attach("three")
			d.right()
			for _, pod := range []string{"one", "three"} {
				d.detach(d.live[pod])
				delete(d.live, pod)
			}
			d.attach("four")
			d.right()
		})
	})
	return good && m.is(func(m *mishap) bool { return m.struck })
}
