// SPDX-License-Identifier: Apache-2.0

package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/api/store/memory"
	"korat/api/store/storetest"
	"korat/api/wake"
	"korat/bgp"
	"korat/felix"
	"korat/felix/autodetect"
	"korat/felix/calc"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/felix/kernel"
	"korat/felix/mirror"
	"korat/felix/reconcile"
	"korat/ipam"
	"korat/ipam/block"
	"korat/ipam/journal"
	"korat/policy/chain"
	"korat/test/lab"
	"korat/test/logbook"
	"korat/test/netns"
)

// walk is a host with a kernel of its own, and with a datastore and a speaker that do as they are told.
type walk struct {
	t       *testing.T
	rand    *rand.Rand
	host    *netns.Namespace
	dir     string
	store   *storetest.Faults
	speaker *toldSpeaker
	log     logbook.Book
	life
	model
}

// model is how things must be.
type model struct {
	pods map[string]endpoint.Endpoint
	// nodes and blocks are those of other nodes.
	nodes, blocks map[int]bool
	uplinkDown    bool
	next          int
	// last is the last step, and taken counts them.
	last  string
	taken map[string]int
}

// life is one life of an agent.
type life struct {
	agent *felix.Agent
	stop  func()
}

func newWalk(t *testing.T, seed uint64) *walk {
	w := &walk{
		t: t, rand: rand.New(rand.NewPCG(seed, 0)), host: netns.New(t), dir: t.TempDir(),
		store: storetest.NewFaults(memory.New()), speaker: &toldSpeaker{wake: wake.New(), rib: bgp.RIB{Running: true, Complete: true}},
		model: model{pods: map[string]endpoint.Endpoint{}, nodes: map[int]bool{}, blocks: map[int]bool{}, taken: map[string]int{}},
	}
	w.host.Batch(
		"link add eth0 type veth peer name lan", "addr add 192.168.100.100/24 dev eth0",
		"addr add fd00:192::100/64 dev eth0 nodad", "link set lan up", "link set eth0 up",
	)
	// IPv4 addresses stay where a link goes down; so are these to.
	w.host.Run("sysctl", "-qw", "net/ipv6/conf/eth0/keep_addr_on_down=1", "net/ipv6/conf/eth0/accept_dad=0")
	w.start()
	t.Cleanup(func() {
		w.stop()
		if t.Failed() {
			text := w.log.String()
			t.Logf("the agents' log ends with\n%s", text[max(0, len(text)-4000):])
		}
	})
	w.ready()
	return w
}

func (w *walk) journalFile() string { return filepath.Join(w.dir, "journal") }

// tables gives an agent its tables of this host's kernel.
type tables func(*kernel.Handle, *kernel.AutoChains) felix.Tables

// begin starts an agent on the host's kernel.
func (w *walk) begin(file string, st store.Store, log *slog.Logger, of tables) life {
	w.t.Helper()
	handle, err := kernel.OpenAt(w.host.Path())
	if err != nil {
		w.t.Fatal(err)
	}
	chains := handle.AutoChains(log)
	record, err := journal.Open[endpoint.Endpoint](file)
	if err != nil {
		w.t.Fatal(err)
	}
	follower := store.NewFollower(st, api.Kinds(), log)
	follower.Track = calc.Heeds
	keeper, copies := ipam.NewKeeper(st, "a", log), mirror.New(st, "a", log)
	agent := felix.New(felix.Config{
		Identity: felix.Identity{
			Node: "a", IPv4: felix.Source{Method: autodetect.FirstFound(api.IPv4)}, IPv6: felix.Source{Method: autodetect.FirstFound(api.IPv6)},
		},
		Version: "test", Resync: 2 * time.Minute,
		Bootstrap: felix.Bootstrap{
			IPv4: felix.DefaultPool{CIDR: netip.MustParsePrefix("172.17.0.0/16"), BlockSize: 24},
			IPv6: felix.DefaultPool{CIDR: netip.MustParsePrefix("fd00:17::/48"), BlockSize: 120},
		},
	}, felix.Parts{
		Datastore: follower, Store: st, Kernel: handle, Tables: of(handle, chains), Speaker: w.speaker,
		Keeper: keeper, Mirror: copies, Journal: record, Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context){follower.Run, keeper.Run, copies.Run, func(ctx context.Context) {
		if err := agent.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}} {
		running.Go(func() { run(ctx) })
	}
	return life{agent, sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := errors.Join(record.Close(), chains.Close(), handle.Close()); err != nil {
			w.t.Error(err)
		}
	})}
}

func (w *walk) start() {
	log := slog.New(slog.NewTextHandler(&w.log, nil))
	w.life = w.begin(w.journalFile(), w.store, log, func(h *kernel.Handle, chains *kernel.AutoChains) felix.Tables {
		return felix.Tables{
			Links: h.Links(), Sysctls: h.Sysctls(), Sets: h.Sets(0), Chains: chains, Neighbours: h.Neighbours(), Routes: h.Routes(),
		}
	})
}

func (w *walk) ready() {
	w.t.Helper()
	w.until("the agent is ready", func(context.Context) error { return readyz(w.agent) })
}

func readyz(agent *felix.Agent) error {
	answer := httptest.NewRecorder()
	agent.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if answer.Code != http.StatusOK {
		return errors.New(answer.Body.String())
	}
	return nil
}

// diary notes what an agent would write.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, fmt.Sprintf(format, args...))
}

// noted is a table that is read, and whose writes are noted instead of done.
type noted[K comparable, V reconcile.Value[V]] struct {
	reconcile.Table[K, V]
	*diary
}

// Write implements reconcile.Table.
func (n noted[K, V]) Write(_ context.Context, d reconcile.Diff[K, V]) error {
	for k, v := range d.Set {
		n.note("+ %v %v", k, v)
	}
	for k := range d.Delete {
		n.note("- %v", k)
	}
	return nil
}

// notedEntries is a noted table of which single entries can be read.
type notedEntries[K comparable, V reconcile.Value[V]] struct {
	noted[K, V]
	reconcile.EntryReader[K, V]
}

// notedSets are sets of which the writes are noted.
type notedSets struct {
	felix.SetTable
	*diary
}

// Write implements felix.SetTable.
func (n notedSets) Write(_ context.Context, changes []kernel.SetChange) error {
	for _, c := range changes {
		n.note("± set %v", c)
	}
	return nil
}

// notedChains are chains of which the writes are noted.
type notedChains struct {
	*kernel.AutoChains
	*diary
}

// Write implements reconcile.Table.
func (n notedChains) Write(ctx context.Context, d reconcile.Diff[chain.Key, *chain.Chain]) error {
	return noted[chain.Key, *chain.Chain]{n.AutoChains, n.diary}.Write(ctx, d)
}

// frozen is a datastore that refuses every change.
type frozen struct{ store.Store }

func (frozen) Create(context.Context, api.Object) (api.Object, error) {
	return nil, store.ErrUnavailable
}

func (frozen) Update(context.Context, api.Object) (api.Object, error) {
	return nil, store.ErrUnavailable
}
func (frozen) Delete(context.Context, api.Key, string) error { return store.ErrUnavailable }

// converged waits until an agent that knows the record alone, and starts now, would write nothing to the kernel, and
// the datastore has the pods' endpoints.
func (w *walk) converged() {
	w.t.Helper()
	w.until("a fresh agent writes nothing", func(ctx context.Context) error {
		if err := readyz(w.agent); err != nil {
			return err
		}
		if text := w.fresh(ctx); text != "" {
			return fmt.Errorf("it would write\n%s", text)
		}
		return w.endpoints(ctx)
	})
}

// fresh gives what such an agent would write.
func (w *walk) fresh(ctx context.Context) string {
	copied := filepath.Join(w.t.TempDir(), "journal")
	data, err := os.ReadFile(w.journalFile())
	if err == nil {
		err = os.WriteFile(copied, data, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	var d diary
	other := w.begin(copied, frozen{w.store}, slog.New(slog.DiscardHandler), func(h *kernel.Handle, chains *kernel.AutoChains) felix.Tables {
		links, sysctls, neighbours, routes := h.Links(), h.Sysctls(), h.Neighbours(), h.Routes()
		return felix.Tables{
			Links: noted[string, dataplane.Link]{links, &d},
			Sysctls: notedEntries[string, dataplane.SysctlValue]{
				noted[string, dataplane.SysctlValue]{sysctls, &d}, sysctls,
			},
			Sets: notedSets{h.Sets(0), &d}, Chains: notedChains{chains, &d},
			Neighbours: noted[dataplane.NeighbourKey, dataplane.Neighbour]{neighbours, &d},
			Routes:     noted[dataplane.RouteKey, dataplane.Route]{routes, &d},
		}
	})
	defer other.stop()
	if err := lab.Until(ctx, "the fresh agent is ready", func(context.Context) error { return readyz(other.agent) }); err != nil {
		return err.Error()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.entries)
	return strings.Join(slices.Compact(d.entries), "\n")
}

// endpoints holds the datastore's WorkloadEndpoints against the pods.
func (w *walk) endpoints(ctx context.Context) error {
	want, have := map[string]string{}, map[string]string{}
	for pod, ep := range w.pods {
		want[pod] = fmt.Sprint(ep.ContainerID, ep.Addresses)
	}
	objs, _, err := w.store.List(ctx, api.KindWorkloadEndpoint)
	if err != nil {
		return err
	}
	for _, obj := range objs {
		spec := obj.(*api.WorkloadEndpoint).Spec
		have[spec.Pod] = fmt.Sprint(spec.ContainerID, bare(spec.IPNetworks))
	}
	if !maps.Equal(want, have) {
		return fmt.Errorf("the datastore has the endpoints %v, want %v", have, want)
	}
	return nil
}

// stored waits until the blocks in the datastore say of each address of this node's which pod has it.
func (w *walk) stored() {
	w.t.Helper()
	w.until("the datastore has the pods' addresses", func(ctx context.Context) error {
		want, have := map[string]string{}, map[string]string{}
		for pod, ep := range w.pods {
			for _, addr := range ep.Addresses {
				want[addr.String()] = pod
			}
		}
		objs, _, err := w.store.List(ctx, api.KindIPAMBlock)
		if err != nil {
			return err
		}
		for _, obj := range objs {
			b, err := block.From(obj.(*api.IPAMBlock).Spec)
			if err != nil {
				return err
			}
			for addr, al := range b.All() {
				if !al.Cooling() {
					have[addr.String()] = al.Attrs["pod"]
				}
			}
		}
		if len(objs) < 2 || !maps.Equal(want, have) {
			return fmt.Errorf("%d blocks have %v, want %v", len(objs), have, want)
		}
		return nil
	})
}

func (w *walk) create(obj api.Object) {
	w.t.Helper()
	if _, err := w.store.Create(w.t.Context(), obj); err != nil {
		w.t.Fatalf("%s: %v", w.last, err)
	}
}

func (w *walk) delete(key api.Key) {
	w.t.Helper()
	if err := w.store.Delete(w.t.Context(), key, ""); err != nil {
		w.t.Fatalf("%s: %v", w.last, err)
	}
}

// blockOf gives a node's empty block with its affinity.
func blockOf(t *testing.T, node string, cidr netip.Prefix) (*api.IPAMBlock, *api.BlockAffinity) {
	t.Helper()
	empty, err := block.New(cidr, "host:"+node)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.NewReplacer(".", "-", "/", "-", ":", "-").Replace(cidr.String())
	b := &api.IPAMBlock{Spec: empty.Spec()}
	b.Name = name
	a := &api.BlockAffinity{Spec: api.BlockAffinitySpec{State: "confirmed", Node: node, CIDR: cidr.String()}}
	a.Name = node + "-" + name
	api.Default(b)
	api.Default(a)
	return b, a
}

// toldSpeaker has the RIB that it is told.
type toldSpeaker struct {
	wake wake.Signal
	mu   sync.Mutex
	rib  bgp.RIB
}

func (s *toldSpeaker) learn(paths map[netip.Prefix][]bgp.Path) {
	s.mu.Lock()
	s.rib.Paths = paths
	s.rib.Generation++
	s.mu.Unlock()
	s.wake.Poke()
}

func (s *toldSpeaker) Want(bgp.Plan, bool) {}
func (s *toldSpeaker) RIB() bgp.RIB {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rib
}
func (s *toldSpeaker) Err() error            { return nil }
func (s *toldSpeaker) Wake() <-chan struct{} { return s.wake }
