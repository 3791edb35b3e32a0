// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"korat/api"
	"korat/api/store"
	"korat/api/store/memory"
	"korat/cni-plugin/socket"
	"korat/felix"
	"korat/felix/autodetect"
	"korat/felix/calc"
	"korat/felix/endpoint"
	"korat/felix/kernel"
	"korat/felix/mirror"
	"korat/felix/revocation"
	"korat/ipam"
	"korat/ipam/journal"
	"korat/test/logbook"
	"korat/test/netns"
)

// The nodes, and a network in which the host and the neighbour are that stands for all others.
const (
	thisNode  = "a"
	otherNode = "b"
)

// Site is a host with its agent, its pods, and a neighbour by which everything else is reached.
type Site struct {
	t         testing.TB
	host      *netns.Namespace
	neighbour *netns.Namespace
	dir       string
	store     store.Store
	wire      *Wire
	log       logbook.Book
	pods      []*Pod
	life
}

// life is one life of an agent.
type life struct {
	agent *felix.Agent
	data  *watched
	// diary has what it has written.
	diary *diary
	// flows is the host's connection tracking.
	flows kernel.Conntrack
	stop  func()
}

// Pod is one of this node's. It has no address itself, so that it answers nothing.
type Pod struct {
	endpoint.Endpoint
	sandbox *netns.Namespace
}

// newSite makes the host with its neighbour, and starts an agent.
func newSite(t testing.TB) *Site {
	s := &Site{t: t, host: netns.New(t), neighbour: netns.New(t), dir: t.TempDir(), store: memory.New()}
	for _, ns := range []*netns.Namespace{s.host, s.neighbour} {
		// What comes back another way than it went, or to nobody, is nothing that the kernel should judge itself.
		ns.Run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0", "net.ipv6.conf.default.accept_dad=0")
	}
	s.host.Run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_echo_ignore_all=1", "net.ipv6.icmp.echo_ignore_all=1",
		// Connections of TCP whose beginning it has not seen, it knows nevertheless.
		"net.netfilter.nf_conntrack_max=1048576", "net.netfilter.nf_conntrack_tcp_be_liberal=1", "net.netfilter.nf_conntrack_tcp_loose=1",
		// Linux checks UDP-Lite's checksums as if they were UDP's. (udplite_error in nf_conntrack_proto_udp.c)
		"net.netfilter.nf_conntrack_checksum=0")
	s.quiet(s.neighbour)
	s.host.Batch(
		"link add eth0 type veth peer name eth0 netns "+s.neighbour.Path(), "addr add "+hostIPv4+"/24 dev eth0",
		"addr add "+hostIPv6+"/64 dev eth0 nodad", "link set eth0 up",
	)
	s.neighbour.Batch("link set eth0 address 02:00:00:00:00:fe", "link set eth0 up")
	s.host.Batch(
		"neigh replace 192.168.100.1 lladdr 02:00:00:00:00:fe dev eth0 nud permanent",
		"neigh replace fd00:192::1 lladdr 02:00:00:00:00:fe dev eth0 nud permanent",
		"route add default via 192.168.100.1", "route add default via fd00:192::1 dev eth0",
	)
	var err error
	if s.wire, err = newWire(s.host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.must(s.wire.close()) })
	s.must(s.wire.add(uplink, "eth0", s.host, s.neighbour))
	s.addStray()
	s.start()
	t.Cleanup(s.end)
	return s
}

// The host's own addresses.
const (
	hostIPv4  = "192.168.100.100"
	hostIPv6  = "fd00:192::100"
	strayIPv4 = "10.99.0.1"
	strayIPv6 = "fd00:99::1"
)

func (s *Site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// quiet lets a namespace say nothing on its own.
func (s *Site) quiet(ns *netns.Namespace) {
	ns.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv4.conf.all.arp_ignore=8")
}

func (s *Site) end() {
	s.stop()
	if s.t.Failed() {
		text := s.log.String()
		s.t.Logf("the agent's log ends with\n%s", text[max(0, len(text)-4000):])
	}
}

// addStray makes an interface that nobody has told the agent of.
func (s *Site) addStray() {
	ns := netns.New(s.t)
	s.quiet(ns)
	s.host.Batch(
		"link add "+stray+" type veth peer name eth0 netns "+ns.Path(), "link set "+stray+" address ee:ee:ee:ee:ee:ee", "link set "+stray+" up",
		"route add "+strayIPv4+"/32 dev "+stray, "route add "+strayIPv6+"/128 dev "+stray,
		"neigh replace "+strayIPv4+" lladdr 02:00:00:00:00:fd dev "+stray+" nud permanent",
		"neigh replace "+strayIPv6+" lladdr 02:00:00:00:00:fd dev "+stray+" nud permanent",
	)
	ns.Batch("link set eth0 address 02:00:00:00:00:fd", "link set eth0 up")
	s.must(s.wire.add(stray, "eth0", s.host, ns))
}

// forget empties the connection tracking, so that every packet is the first of its flow.
func (s *Site) forget() {
	s.t.Helper()
	s.must(s.host.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }))
}

// addresses are those of all pods, and of the host.
func (s *Site) addresses() []netip.Addr {
	all := []netip.Addr{netip.MustParseAddr(hostIPv4), netip.MustParseAddr(hostIPv6)}
	for _, p := range s.pods {
		all = append(all, p.Addresses...)
	}
	return all
}

// parts are an agent's that are not felix.Parts alone.
type parts struct {
	handle *kernel.Handle
	chains *kernel.AutoChains
	diary  *diary
	tables felix.Tables
}

// start starts an agent on the host's kernel, and waits until it is ready.
func (s *Site) start() {
	s.t.Helper()
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	handle, err := kernel.OpenAt(s.host.Path())
	s.must(err)
	chains, d := handle.AutoChains(log), &diary{}
	s.run(parts{handle, chains, d, felix.Tables{
		Links: handle.Links(), Sysctls: handle.Sysctls(), Sets: notedSets{handle.Sets(0), d}, Chains: notedChains{chains, d},
		Neighbours: handle.Neighbours(), Routes: handle.Routes(),
	}})
	s.until("the agent is in sync", func(snap api.Snapshot) error {
		if !snap.InSync {
			return errors.New("it is not")
		}
		return nil
	})
}

func (s *Site) run(p parts) {
	s.t.Helper()
	log, st := slog.New(slog.NewTextHandler(&s.log, nil)), s.store
	record, err := journal.Open[endpoint.Endpoint](filepath.Join(s.dir, "journal"))
	s.must(err)
	follower := store.NewFollower(st, api.Kinds(), log)
	follower.Track = calc.Heeds
	data := &watched{Follower: follower, news: make(chan struct{})}
	keeper, copies := ipam.NewKeeper(st, thisNode, log), mirror.New(st, thisNode, log)
	revoker := revocation.New(p.handle.Conntrack(), log)
	agent := felix.New(felix.Config{
		Identity: felix.Identity{
			Node: thisNode, IPv4: felix.Source{Method: autodetect.FirstFound(api.IPv4)},
			IPv6: felix.Source{Method: autodetect.FirstFound(api.IPv6)},
		},
		Version: "test", Resync: 2 * time.Minute,
		Bootstrap: felix.Bootstrap{
			IPv4: felix.DefaultPool{CIDR: netip.MustParsePrefix("172.17.0.0/16"), BlockSize: 24},
			IPv6: felix.DefaultPool{CIDR: netip.MustParsePrefix("fd00:17::/48"), BlockSize: 120},
		},
	}, felix.Parts{
		Datastore: data, Store: st, Kernel: p.handle, Tables: p.tables, Speaker: silent{},
		Keeper: keeper, Mirror: copies, Journal: record, Revoker: revoker, Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context){follower.Run, keeper.Run, copies.Run, revoker.Run, func(ctx context.Context) {
		if err := agent.Run(ctx); err != nil {
			s.t.Error(err)
		}
	}} {
		running.Go(func() { run(ctx) })
	}
	s.life = life{agent, data, p.diary, p.handle.Conntrack(), sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := errors.Join(record.Close(), p.chains.Close(), p.handle.Close()); err != nil {
			s.t.Error(err)
		}
	})}
}

// patience bounds every wait.
const patience = 30 * time.Second

// until waits until the agent has taken a Snapshot of which the condition holds.
func (s *Site) until(what string, holds func(api.Snapshot) error) {
	s.t.Helper()
	s.must(s.await(what, holds))
}

func (s *Site) await(what string, holds func(api.Snapshot) error) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if err := s.data.await(ctx, holds); err != nil {
		return fmt.Errorf("wait in vain until %s: %w", what, err)
	}
	return nil
}

// ask sends the agent one request, which must succeed.
func (s *Site) ask(r socket.Request) (*endpoint.Endpoint, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	reply := s.agent.Handle(ctx, r)
	if reply.Error != nil {
		return nil, fmt.Errorf("%s of %s: %w", r.Verb, r.ID, reply.Error)
	}
	return reply.Endpoint, nil
}

// attach plays the runtime and the plugin for a new pod.
func (s *Site) attach(namespace, name string, traits endpoint.Traits) *Pod {
	s.t.Helper()
	id := endpoint.ID{ContainerID: "sandbox-" + namespace + "-" + name, IfName: "eth0"}
	ep, err := s.ask(socket.Request{
		Verb: socket.VerbAdd, ID: id, Network: "korat", Namespace: namespace, Pod: name,
		Wish: socket.Wish{Families: []socket.Family{{Version: 4}, {Version: 6}}}, Traits: traits,
	})
	s.must(err)
	p := &Pod{Endpoint: *ep, sandbox: netns.New(s.t)}
	s.quiet(p.sandbox)
	s.host.Run("ip", "link", "add", ep.Interface, "type", "veth", "peer", "name", "eth0", "netns", p.sandbox.Path())
	p.sandbox.Batch("link set eth0 up")
	s.host.Run("ip", "link", "set", ep.Interface, "address", "ee:ee:ee:ee:ee:ee", "alias", endpoint.FormatAlias(ep.Alias()))
	s.host.Run("ip", "link", "set", ep.Interface, "up")
	s.must(s.wire.add(ep.Interface, "eth0", s.host, p.sandbox))
	_, err = s.ask(socket.Request{Verb: socket.VerbReady, ID: id, MAC: fmt.Sprintf("02:00:00:00:00:%02x", len(s.pods)+1)})
	s.must(err)
	s.pods = append(s.pods, p)
	return p
}

// Change is what becomes of objects, and what a runtime asks for.
type Change struct {
	Put, Delete []api.Object
	Ask         []socket.Request
}

// apply makes a change in the datastore, which the agent sees at once, and waits until it has made the kernel so.
func (s *Site) apply(c Change) error {
	for _, request := range c.Ask {
		if _, err := s.ask(request); err != nil {
			return err
		}
	}
	s.data.hold()
	if err := s.change(c); err != nil {
		return err
	}
	s.data.release()
	return s.settled()
}

// settled waits until the agent has made the kernel as it is to be by now.
func (s *Site) settled() error {
	_, err := s.ask(socket.Request{Verb: socket.VerbCheck, ID: s.pods[0].ID}) // it is answered once a later pass is over
	return err
}

// change makes a change in the datastore, and waits until the agent could see it.
func (s *Site) change(c Change) error {
	versions := map[api.Key]string{}
	for _, obj := range c.Delete {
		if err := s.store.Delete(s.t.Context(), obj.Key(), ""); err != nil {
			return err
		}
		versions[obj.Key()] = ""
	}
	for _, obj := range c.Put {
		stored, err := s.put(obj)
		if err != nil {
			return err
		}
		versions[obj.Key()] = stored.GetResourceVersion()
	}
	return s.await("the agent could see the change", func(snap api.Snapshot) error {
		for key, want := range versions {
			have := ""
			if obj, there := snap.Get(key); there {
				have = obj.GetResourceVersion()
			}
			if have != want {
				return fmt.Errorf("%s has version %q, want %q", key, have, want)
			}
		}
		return nil
	})
}

// put puts an object into the datastore, over that which is there, and gives it as stored.
func (s *Site) put(obj api.Object) (api.Object, error) {
	have, err := s.store.Get(s.t.Context(), obj.Key())
	if errors.Is(err, store.ErrNotFound) {
		return s.store.Create(s.t.Context(), obj)
	}
	if err != nil {
		return nil, err
	}
	obj = obj.DeepCopyObject()
	obj.SetResourceVersion(have.GetResourceVersion())
	return s.store.Update(s.t.Context(), obj)
}
