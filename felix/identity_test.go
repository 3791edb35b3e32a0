// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"korat/api"
	"korat/api/store"
	"korat/felix/autodetect"
	"korat/felix/dataplane"
)

// sixth gives the same text for IPv6: "fd00:1:1::2/64" for "10.0.1.2/24".
func sixth(text string) string {
	text = regexp.MustCompile(`10\.0\.(\d+)\.(\d+)(/24)?`).ReplaceAllStringFunc(text, func(four string) string {
		p, err := netip.ParsePrefix(four)
		if err != nil {
			p = netip.PrefixFrom(netip.MustParseAddr(four), 32)
		}
		b := p.Addr().As4()
		six := netip.MustParseAddr(fmt.Sprintf("fd00:1:%d::%d", b[2], b[3])).String()
		if p.Bits() == 24 {
			six += "/64"
		}
		return six
	})
	return strings.ReplaceAll(text, "--ip ", "--ip6 ")
}

// Both families have the same rules.
func TestChooseAddress(t *testing.T) {
	var host dataplane.Host
	var six bool
	text := func(four string) string {
		if six {
			return sixth(four)
		}
		return four
	}
	prefix := func(four string) netip.Prefix { return netip.MustParsePrefix(text(four)) }
	addr := func(four string) netip.Addr { return netip.MustParseAddr(text(four)) }
	registered := func(address string) (s api.Snapshot) {
		node := nodeObject("a", "")
		if six {
			node.Spec.BGP.IPv6Address = text(address)
		} else {
			node.Spec.BGP.IPv4Address = address
		}
		s.Nodes = s.Nodes.With(node)
		return s
	}
	set := func(addrs ...string) map[netip.Addr]bool {
		all := map[netip.Addr]bool{}
		for _, a := range addrs {
			all[addr(a)] = true
		}
		return all
	}
	none := map[netip.Addr]bool{{}: true}
	const waits = "address 10.0.9.1, with which this node is registered, is on no interface"
	for _, f := range api.Families() {
		six = f == api.IPv6
		method := func(text string) autodetect.Method {
			m, err := autodetect.Parse(text, f)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		host = dataplane.Host{Links: map[string]dataplane.HostLink{
			"eth0": {Index: 2, Up: true, Running: true, IPv6: true, Addresses: []netip.Prefix{prefix("10.0.0.1/24")}},
			"eth1": {Index: 3, Up: true, Running: true, IPv6: true, Addresses: []netip.Prefix{prefix("10.0.1.1/24")}},
			"eth2": {Index: 4, Addresses: []netip.Prefix{prefix("10.0.2.1/24")}},
		}}
		detect := Source{Method: method("")}
		given := func(address string) Source { return Source{Address: addr(address), Method: method("")} }
		for _, c := range []struct {
			name   string
			source Source
			snap   api.Snapshot
			st     standing
			want   string
		}{
			{"first start", detect, api.Snapshot{}, standing{}, "eth0 10.0.0.1/24"},
			{"sticky", detect, registered("10.0.1.1/24"), standing{}, "eth1 10.0.1.1/24"},
			{"sticky over another method", Source{Method: method("interface=eth0")}, registered("10.0.1.1/24"), standing{}, "eth1 10.0.1.1/24"},
			{"sticky while its link is down", detect, registered("10.0.2.1/24"), standing{}, "eth2 10.0.2.1/24"},
			{"the registered one is missing", detect, registered("10.0.9.1/24"), standing{seen: before(time.Second)}, waits},
			{"and was ours", detect, registered("10.0.9.1/24"), standing{seen: before(time.Second), ours: set("10.0.9.1")}, waits},
			{"the registered one is gone", detect, registered("10.0.9.1/24"), standing{seen: before(addressPatience)}, "eth0 10.0.0.1/24"},
			{"and was ours", detect, registered("10.0.9.1/24"), standing{seen: before(addressPatience), ours: set("10.0.9.1")}, "eth0 10.0.0.1/24"},
			{"given", given("10.0.1.1"), registered("10.0.0.1/24"), standing{}, "eth1 10.0.1.1/24"},
			{"given over one that is missing", given("10.0.1.1"), registered("10.0.9.1/24"), standing{seen: before(0)}, "eth1 10.0.1.1/24"},
			{"given but absent", given("10.0.9.1"), registered("10.0.0.1/24"), standing{}, "address 10.0.9.1 given by --ip is on no running interface"},
			{"given, but its link is down", given("10.0.2.1"), registered("10.0.2.1/24"), standing{}, "address 10.0.2.1 given by --ip is on no running interface"},
			{"given, and its link has gone down", given("10.0.2.1"), registered("10.0.2.1/24"), standing{ours: set("10.0.2.1")}, "eth2 10.0.2.1/24"},
			{"another host's", detect, registered("10.0.9.1/24"), standing{ours: set("10.0.0.1")}, `another host (address 10.0.9.1) runs as node "a"`},
			{"another host's, for good", detect, registered("10.0.9.1/24"), standing{seen: before(time.Hour), ours: set("10.0.0.1")}, `another host (address 10.0.9.1) runs as node "a"`},
			{"another host's, given", given("10.0.0.1"), registered("10.0.9.1/24"), standing{ours: set("10.0.0.1")}, `another host (address 10.0.9.1) runs as node "a"`},
			{"not overwritten yet", detect, registered("10.0.9.1/24"), standing{seen: before(time.Hour), ours: set("10.0.0.1"), over: addr("10.0.9.1")}, "eth0 10.0.0.1/24"},
			{"of this host by somebody's hand", detect, registered("10.0.1.1/24"), standing{ours: set("10.0.0.1")}, "eth1 10.0.1.1/24"},
			{"deleted", detect, api.Snapshot{}, standing{ours: set("10.0.1.1")}, "eth0 10.0.0.1/24"},
			{"none", Source{}, api.Snapshot{}, standing{}, "nothing"},
			{"none any more", Source{}, registered("10.0.1.1/24"), standing{}, "nothing"},
			{"none, and what was there is gone", Source{}, registered("10.0.9.1/24"), standing{seen: before(0)}, "nothing"},
			{"none, not overwritten yet", Source{}, registered("10.0.9.1/24"), standing{ours: none, over: addr("10.0.9.1")}, "nothing"},
			{"none, and another host's", Source{}, registered("10.0.9.1/24"), standing{ours: none}, `another host (address 10.0.9.1) runs as node "a"`},
			{"none, but by somebody's hand", Source{}, registered("10.0.1.1/24"), standing{ours: none}, "nothing"},
		} {
			id := Identity{Node: "a", IPv4: c.source}
			if six {
				id = Identity{Node: "a", IPv6: c.source}
			}
			c.st.now = func() time.Time { return noon }
			got, err := id.choose(t.Context(), f, c.snap, host, &c.st)
			have := got.Interface + " " + got.Address.String()
			switch {
			case err != nil:
				have = err.Error()
			case got == autodetect.Choice{}:
				have = "nothing"
			}
			if want := text(c.want); !strings.HasPrefix(have, want) {
				t.Errorf("%s, %s: got %s, want %s", f, c.name, have, want)
			}
		}
	}
}

// An IPv6 address is missed for more reasons than an IPv4 one.
func TestGivenAddressIsMissing(t *testing.T) {
	id := Identity{IPv6: Source{Address: netip.MustParseAddr("fd00::1")}}
	for _, c := range []struct {
		ipv6 bool
		want string
	}{
		{true, "address fd00::1 given by --ip6 is on no running interface (is the sysctl disable_ipv6 of its interface 1?)"},
		{false, "address fd00::1 given by --ip6 is on no running interface, as this kernel has no IPv6 (was it started with ipv6.disable=1?)"},
	} {
		host := dataplane.Host{Links: map[string]dataplane.HostLink{"lo": {Running: true, IPv6: c.ipv6}}}
		_, err := id.choose(t.Context(), api.IPv6, api.Snapshot{}, host, &standing{now: time.Now})
		if err == nil || err.Error() != c.want {
			t.Errorf("have %v, want %s", err, c.want)
		}
	}
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) time.Time { return noon.Add(-d) }

// The Node object has fields that are the user's; ours are the addresses.
func TestRegisterKeepsWhatIsTheUsers(t *testing.T) {
	as := api.ASNumber(65001)
	node := nodeObject("a", "10.0.0.9/24")
	node.Labels = map[string]string{"rack": "7"}
	node.Spec.BGP.ASNumber = &as
	node.Spec.BGP.IPv6Address = "fd00::9/64"
	for _, a := range []string{"Hostname a.example.org", "InternalIP 10.0.0.9", "InternalIP 192.0.2.7", "InternalIP fd00:0:0::9", "InternalIP 2001:db8::7", "ExternalIP fd00::9"} {
		typ, address, _ := strings.Cut(a, " ")
		node.Spec.Addresses = append(node.Spec.Addresses, api.NodeAddress{Address: address, Type: typ})
	}
	four, six := netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")
	for _, c := range []struct {
		own  api.Addresses
		want string
	}{
		{api.Addresses{IPv4: four, IPv6: six}, "10.0.0.1/24 fd00::1/64: ExternalIP=fd00::9 Hostname=a.example.org InternalIP=10.0.0.1 InternalIP=192.0.2.7 InternalIP=2001:db8::7 InternalIP=fd00::1"},
		{api.Addresses{IPv4: four}, "10.0.0.1/24 : ExternalIP=fd00::9 Hostname=a.example.org InternalIP=10.0.0.1 InternalIP=192.0.2.7 InternalIP=2001:db8::7"},
		{api.Addresses{IPv6: six}, " fd00::1/64: ExternalIP=fd00::9 Hostname=a.example.org InternalIP=192.0.2.7 InternalIP=2001:db8::7 InternalIP=fd00::1"},
	} {
		var snap api.Snapshot
		snap.Nodes = snap.Nodes.With(node)
		id := Identity{Node: "a"}
		got := id.register(snap, c.own)
		if got == nil || *got.Spec.BGP.ASNumber != as || got.Labels["rack"] != "7" {
			t.Fatalf("got %+v", got)
		}
		have := got.Spec.BGP.IPv4Address + " " + got.Spec.BGP.IPv6Address + ":"
		for _, a := range got.Spec.Addresses {
			have += " " + a.Type + "=" + a.Address
		}
		if have != c.want {
			t.Errorf("have %s\nwant %s", have, c.want)
		}
		snap.Nodes = snap.Nodes.With(got)
		if again := id.register(snap, c.own); again != nil {
			t.Errorf("a Node that is as it should be would be written again: %+v", again)
		}
	}
}

// lockedStore refuses to write Nodes while locked is true.
type lockedStore struct {
	store.Store
	locked *atomic.Bool
}

func (s lockedStore) Update(ctx context.Context, obj api.Object) (api.Object, error) {
	if s.locked.Load() && obj.Key().Kind == api.KindNode {
		return nil, store.ErrUnavailable
	}
	return s.Store.Update(ctx, obj)
}

// An address that the node had only while the datastore was away must not be registered afterwards.
func TestRegistrationIsWithdrawn(t *testing.T) {
	w := newWorld(t)
	var locked atomic.Bool
	n := w.startWith(lockedStore{w.store, &locked}, &sync.WaitGroup{})
	link := func(index int, addrs ...netip.Prefix) dataplane.HostLink {
		return dataplane.HostLink{Index: index, MTU: 1500, Up: true, Running: true, Addresses: addrs}
	}
	home, other := netip.MustParsePrefix("192.168.100.100/24"), netip.MustParsePrefix("10.0.0.1/24")
	w.until("the node is registered", func() bool { return w.registered() == home.String() })
	w.until("the agent has seen it", func() bool { return !n.Mirror.NodePending() })

	locked.Store(true)
	w.kernel.addLink("eth0", link(2))
	w.kernel.addLink("eth1", link(3, other))
	w.until("that is told", func() bool { return strings.Contains(strings.Join(n.report.notReady(), ""), "is on no interface") })
	w.later(addressPatience)
	w.until("it wants the other address", func() bool { return n.status().Address == other.String() && n.Mirror.Err() != nil })
	w.kernel.addLink("eth0", link(2, home))
	w.until("it is home again", func() bool { return n.status().Address == home.String() && !n.Mirror.NodePending() })
	locked.Store(false)
	w.until("the mirror has caught up", func() bool { return n.Mirror.Err() == nil })
	if have := w.registered(); have != home.String() {
		t.Errorf("registered %s, want %s", have, home)
	}
}

// registered gives the address of the Node object.
func (w *testWorld) registered() string {
	obj, err := w.store.Get(w.t.Context(), api.Key{Kind: api.KindNode, Name: "a"})
	if err != nil {
		return err.Error()
	}
	return obj.(*api.Node).Spec.BGP.IPv4Address
}

// Networking that is restarted takes the node's address away for a moment.
func TestAnAddressThatIsMissing(t *testing.T) {
	w := newWorld(t)
	home, other := w.kernel.host.Links["eth0"], w.kernel.host.Links["eth0"]
	other.Index, other.Addresses = 3, []netip.Prefix{netip.MustParsePrefix("10.9.9.5/24")}
	w.kernel.addLink("eth1", other)
	n := w.start()
	ep := n.attach("web")
	w.until("the node is registered", func() bool { return w.registered() == "192.168.100.100/24" })
	none := home
	none.Addresses = nil
	missing := func() bool { return strings.Contains(strings.Join(n.report.notReady(), ""), "192.168.100.100") }

	w.kernel.addLink("eth0", none)
	w.until("that is told", missing)
	if _, err := n.ask(request("c2", "other")); !strings.Contains(describeReply(err), "code 11") {
		t.Errorf("ADD: %s", describeReply(err))
	}
	if p, _ := w.speaker.wanted(); p.Global.RouterID.String() != "192.168.100.100" || !w.hasRoute(ep.Addresses[0].String()+"/32") {
		t.Errorf("router ID %s, routes\n%s", p.Global.RouterID, w.routes.Dump())
	}
	w.kernel.addLink("eth0", home)
	n.untilReady()
	if have := w.registered(); have != "192.168.100.100/24" {
		t.Errorf("registered %s", have)
	}

	w.kernel.addLink("eth0", none)
	w.until("it is told again", missing)
	w.later(addressPatience)
	w.until("the node has its other address", func() bool { return w.registered() == "10.9.9.5/24" })
	n.untilReady()
}

// Two hosts with one name: cloned machines, most often.
func TestTwoHostsWithOneName(t *testing.T) {
	first := newWorld(t)
	n1 := first.start()
	p1 := n1.attach("p1")
	first.until("the first has registered", func() bool { return first.registered() == "192.168.100.100/24" })
	first.published(1)

	second := newWorld(t)
	second.store = first.store
	link := second.kernel.host.Links["eth0"]
	link.Addresses = []netip.Prefix{netip.MustParsePrefix("192.168.100.101/24")}
	second.kernel.addLink("eth0", link)
	n2 := second.start()
	reasons := func(n *node) string { return strings.Join(n.report.notReady(), "; ") }
	second.until("the second waits", func() bool {
		return strings.Contains(reasons(n2), "address 192.168.100.100, with which this node is registered")
	})
	second.later(addressPatience)
	n2.untilReady()
	const usurped = `another host (address 192.168.100.101) runs as node "a": give one of the two another --node-name`
	first.until("the first complains", func() bool { return strings.Contains(reasons(n1), usurped) })
	if _, err := n1.ask(request("c2", "p2")); !strings.Contains(describeReply(err), usurped) {
		t.Errorf("ADD of the first: %s", describeReply(err))
	}

	// The datastore is the second's now, and what the first's pods have stays theirs.
	node, _ := first.store.Get(t.Context(), api.Key{Kind: api.KindNode, Name: "a"})
	for i := range 300 {
		ep := n2.attach(fmt.Sprint("pod", i))
		if ep.Addresses[0] == p1.Addresses[0] {
			t.Fatalf("%s is given twice", ep.Addresses[0])
		}
		if err := n2.detach(ep.ID); err != nil {
			t.Fatal(err)
		}
	}
	p2 := n2.attach("p2")
	// The first may have put its own pod's copy back just before it learned that it has lost the name.
	second.until("the datastore has the second's endpoint", func() bool {
		objs, _, err := second.store.List(t.Context(), api.KindWorkloadEndpoint)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(objs, func(o api.Object) bool { return o.(*api.WorkloadEndpoint).Spec.Pod == "p2" })
	})
	second.published(2)
	if have, _ := first.store.Get(t.Context(), node.Key()); have.GetResourceVersion() != node.GetResourceVersion() {
		t.Error("the Node has been written again")
	}

	// When the second is gone and its Node deleted, the first serves again.
	if err := n2.detach(p2.ID); err != nil {
		t.Fatal(err)
	}
	n2.stop()
	if err := first.store.Delete(t.Context(), node.Key(), ""); err != nil {
		t.Fatal(err)
	}
	first.until("the first has registered again", func() bool { return first.registered() == "192.168.100.100/24" })
	n1.untilReady()
	n1.attach("p3")
}
