// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"korat/api"
	"korat/api/store"
	"korat/felix/autodetect"
	"korat/felix/dataplane"
)

func TestChooseAddress(t *testing.T) {
	host := dataplane.Host{Links: map[string]dataplane.HostLink{
		"eth0": {Index: 2, Up: true, Running: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
		"eth1": {Index: 3, Up: true, Running: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.1.1/24")}},
		"eth2": {Index: 4, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.1/24")}},
	}}
	registered := func(address string) (s api.Snapshot) {
		s.Nodes = s.Nodes.With("a", nodeObject("a", address))
		return s
	}
	method := func(text string) autodetect.Method {
		m, err := autodetect.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range []struct {
		name string
		id   Identity
		snap api.Snapshot
		want string
	}{
		{"first start", Identity{}, api.Snapshot{}, "eth0 10.0.0.1/24"},
		{"sticky", Identity{}, registered("10.0.1.1/24"), "eth1 10.0.1.1/24"},
		{"sticky over another method", Identity{Method: method("interface=eth0")}, registered("10.0.1.1/24"), "eth1 10.0.1.1/24"},
		{"sticky while its link is down", Identity{}, registered("10.0.2.1/24"), "eth2 10.0.2.1/24"},
		{"given, but its link is down", Identity{Address: netip.MustParseAddr("10.0.2.1")}, registered("10.0.2.1/24"), "address 10.0.2.1 given by --ip is on no running interface"},
		{"the registered one is gone", Identity{}, registered("10.0.9.1/24"), "eth0 10.0.0.1/24"},
		{"given", Identity{Address: netip.MustParseAddr("10.0.1.1")}, registered("10.0.0.1/24"), "eth1 10.0.1.1/24"},
		{"given but absent", Identity{Address: netip.MustParseAddr("10.0.9.1")}, registered("10.0.0.1/24"), "address 10.0.9.1 given by --ip is on no running interface"},
	} {
		c.id.Node = "a"
		got, err := c.id.choose(t.Context(), c.snap, host)
		text := got.Interface + " " + got.Address.String()
		if err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("%s: got %s, want %s", c.name, text, c.want)
		}
	}
}

// The Node object has fields that are the user's; ours is the address.
func TestRegisterKeepsWhatIsTheUsers(t *testing.T) {
	as := uint32(65001)
	node := nodeObject("a", "10.0.0.9/24")
	node.Labels = map[string]string{"rack": "7"}
	node.Spec.BGP.ASNumber = &as
	node.Spec.Addresses = []api.NodeAddress{{Address: "a.example.org", Type: "Hostname"}, {Address: "10.0.0.9", Type: "InternalIP"}}
	var snap api.Snapshot
	snap.Nodes = snap.Nodes.With("a", node)
	id := Identity{Node: "a"}
	got := id.register(snap, netip.MustParsePrefix("10.0.0.1/24"))
	if got == nil || got.Spec.BGP.IPv4Address != "10.0.0.1/24" || *got.Spec.BGP.ASNumber != as || got.Labels["rack"] != "7" {
		t.Fatalf("got %+v", got)
	}
	var addrs []string
	for _, a := range got.Spec.Addresses {
		addrs = append(addrs, a.Type+"="+a.Address)
	}
	if text := strings.Join(addrs, " "); text != "Hostname=a.example.org InternalIP=10.0.0.1" {
		t.Errorf("addresses %s", text)
	}
	snap.Nodes = snap.Nodes.With("a", got)
	if again := id.register(snap, netip.MustParsePrefix("10.0.0.1/24")); again != nil {
		t.Errorf("a Node that is as it should be would be written again: %+v", again)
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
	registered := func() string {
		obj, err := w.store.Get(t.Context(), api.Key{Kind: api.KindNode, Name: "a"})
		if err != nil {
			return ""
		}
		return obj.(*api.Node).Spec.BGP.IPv4Address
	}
	link := func(index int, addrs ...netip.Prefix) dataplane.HostLink {
		return dataplane.HostLink{Index: index, MTU: 1500, Up: true, Running: true, Addresses: addrs}
	}
	home, other := netip.MustParsePrefix("192.168.100.100/24"), netip.MustParsePrefix("10.0.0.1/24")
	w.until("the node is registered", func() bool { return registered() == home.String() })
	w.until("the agent has seen it", func() bool { return !n.Mirror.NodePending() })

	locked.Store(true)
	w.kernel.addLink("eth0", link(2))
	w.kernel.addLink("eth1", link(3, other))
	w.until("it wants the other address", func() bool { return n.status().Address == other.String() && n.Mirror.Err() != nil })
	w.kernel.addLink("eth0", link(2, home))
	w.until("it is home again", func() bool { return n.status().Address == home.String() && !n.Mirror.NodePending() })
	locked.Store(false)
	w.until("the mirror has caught up", func() bool { return n.Mirror.Err() == nil })
	if have := registered(); have != home.String() {
		t.Errorf("registered %s, want %s", have, home)
	}
}
