// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"korat/api"
	"korat/api/store"
	"korat/cni-plugin/socket"
	"korat/felix/endpoint"
	"korat/ipam"
)

func TestDefaultPools(t *testing.T) {
	both := Bootstrap{
		IPv4: DefaultPool{CIDR: netip.MustParsePrefix("172.17.0.0/16"), BlockSize: 24},
		IPv6: DefaultPool{Derived: true, BlockSize: 122},
	}
	given := both
	given.IPv6 = DefaultPool{CIDR: netip.MustParsePrefix("fd00:10::/48"), BlockSize: 120}
	only4, only6 := Bootstrap{IPv4: both.IPv4}, Bootstrap{IPv6: both.IPv6}
	const guid = "2f1c9a6e-7f0b-4e0e-9d3e-0d6f3f4b8a11"
	const derived = "default-ipv6-ippool fd13:ea80:2c4::/48 122"
	for _, tt := range []struct {
		name      string
		bootstrap Bootstrap
		guid      string
		pools     []string
		taken     string
		want      string
	}{
		{"new cluster", both, guid, nil, "", "default-ipv4-ippool 172.17.0.0/16 24\n" + derived},
		{"IPv4 only", only4, guid, nil, "", "default-ipv4-ippool 172.17.0.0/16 24"},
		{"IPv6 only", only6, guid, nil, "", derived},
		{"none", Bootstrap{}, guid, nil, "", ""},
		{"a range that was given", given, guid, nil, "", "default-ipv4-ippool 172.17.0.0/16 24\ndefault-ipv6-ippool fd00:10::/48 120"},
		{"IPv6 comes later", both, guid, []string{"10.0.0.0/16"}, "", derived},
		{"IPv4 comes later", both, guid, []string{"fd00::/48"}, "", "default-ipv4-ippool 172.17.0.0/16 24"},
		{"pools of both", both, guid, []string{"10.0.0.0/16", "fd00::/48"}, "", ""},
		{"a host's subnet", both, guid, nil, "172.17.0.0/24", "172.17.0.0/16 overlaps 172.17.0.0/24, x: start with another --default-pool-cidr, or create an IPPool with a range that no host has\n" + derived},
		{"a host's IPv6 subnet", given, guid, nil, "fd00:10::/64", "default-ipv4-ippool 172.17.0.0/16 24\nfd00:10::/48 overlaps fd00:10::/64, x: start with another --default-pool6-cidr, or create an IPPool with a range that no host has"},
		{"no GUID", both, "", nil, "", "default-ipv4-ippool 172.17.0.0/16 24\nClusterInformation/default has no spec.clusterGUID to derive a range of the cluster's own from: start with --default-pool6-cidr, or create an IPPool"},
		{"no GUID needed", given, "", nil, "", "default-ipv4-ippool 172.17.0.0/16 24\ndefault-ipv6-ippool fd00:10::/48 120"},
	} {
		from := beginning{info: &api.ClusterInformation{Spec: api.ClusterInformationSpec{ClusterGUID: tt.guid}}}
		from.info.Name = api.DefaultName
		for _, cidr := range tt.pools {
			from.pools = from.pools.With(poolObject(cidr, cidr, 0))
		}
		if tt.taken != "" {
			from.taken = []ipam.Obstacle{{Range: netip.MustParsePrefix(tt.taken), What: "x"}}
		}
		var lines []string
		for _, f := range api.Families() {
			pool, err := tt.bootstrap.pool(f, from)
			switch {
			case err != nil:
				lines = append(lines, err.Error())
			case pool != nil:
				if err := api.Validate(pool); err != nil {
					t.Errorf("%s: %v", tt.name, err)
				}
				lines = append(lines, fmt.Sprint(pool.Name, " ", pool.Spec.CIDR, " ", pool.Spec.BlockSize))
			}
		}
		if have := strings.Join(lines, "\n"); have != tt.want {
			t.Errorf("%s: have\n%s\nwant\n%s", tt.name, have, tt.want)
		}
	}
}

// Whichever agent is first, the range is that of the GUID that the datastore has.
func TestDefaultPoolOfAClusterThatHasAGUID(t *testing.T) {
	w := newWorld(t)
	info := Bootstrap{Version: "v1"}.information()
	from := beginning{info: Bootstrap{Version: "v1"}.information()} // the one that comes second
	if from.info.Spec.ClusterGUID == info.Spec.ClusterGUID {
		t.Fatal("two clusters have one GUID")
	}
	w.create(info)
	b := Bootstrap{IPv6: DefaultPool{Derived: true, BlockSize: 122}}
	b.run(t.Context(), w.store, from, w.start().Log)
	obj, err := w.store.Get(t.Context(), api.Key{Kind: api.KindIPPool, Name: DefaultPoolNameIPv6})
	if err != nil {
		t.Fatal(err)
	}
	if have, want := obj.(*api.IPPool).Spec.CIDR, localRange(info.Spec.ClusterGUID).String(); have != want {
		t.Errorf("have %s, want %s", have, want)
	}
}

// A cluster of IPv6 only gets a pool of IPv6 only, and its pods addresses of it.
func TestClusterOfIPv6Only(t *testing.T) {
	w := newWorld(t)
	w.carry(six)
	w.detect(api.IPv6)
	w.bootstrap = Bootstrap{IPv6: DefaultPool{Derived: true, BlockSize: 122}}
	n := w.start()
	n.untilReady()
	ep := n.attachWeb(6)
	pools, _, err := w.store.List(t.Context(), api.KindIPPool)
	if err != nil || len(pools) != 1 {
		t.Fatalf("pools %v, %v", pools, err)
	}
	ours := netip.MustParsePrefix(pools[0].(*api.IPPool).Spec.CIDR)
	if !netip.MustParsePrefix("fd00::/8").Overlaps(ours) || ours.Bits() != 48 || len(ep.Addresses) != 1 || !ours.Contains(ep.Addresses[0]) || ep.MTU != 1400 {
		t.Errorf("pool %s, pod %v, MTU %d", ours, ep.Addresses, ep.MTU)
	}
}

// poollessStore creates pools once the gate is open.
type poollessStore struct {
	store.Store
	gate chan struct{}
}

func (s poollessStore) Create(ctx context.Context, obj api.Object) (api.Object, error) {
	if obj.Key().Kind == api.KindIPPool {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.Store.Create(ctx, obj)
}

// An ADD that comes before the default pool is there waits for it, one for a fixed address too. The node is not ready before.
func TestAddWaitsForTheDefaultPool(t *testing.T) {
	w := newWorld(t)
	gate := make(chan struct{})
	var running sync.WaitGroup
	n := w.startWith(poollessStore{w.store, gate}, &running)
	lacking := func() bool {
		return slices.Equal(n.report.notReady(), []string{"default pool: the datastore has no IPPool/default-ipv4-ippool yet, which this agent is creating"})
	}
	w.until("nothing but the pool is lacking", lacking)
	status := func() string { return describeReply(n.call(socket.Request{Verb: socket.VerbStatus})) }
	if have := status(); !strings.Contains(have, "IPPool/default-ipv4-ippool") {
		t.Errorf("STATUS without a pool: %s", have)
	}
	type answer struct {
		ep  endpoint.Endpoint
		err error
	}
	fixed := request("web", "web")
	fixed.Addresses = []netip.Addr{netip.MustParseAddr("172.17.5.7")}
	answers := make(chan answer, 2)
	for _, r := range []socket.Request{fixed, request("any", "any")} {
		running.Go(func() {
			ep, err := n.ask(r)
			answers <- answer{ep, err}
		})
	}
	passes := func() (count int) {
		_, after, _ := strings.Cut(n.scrape(), "\nkorat_passes_total ")
		if _, err := fmt.Sscan(after, &count); err != nil {
			t.Fatal(err)
		}
		return count
	}
	before := passes()
	w.until("the agent has looked at them twice", func() bool { return passes() >= before+3 })
	select {
	case a := <-answers:
		t.Fatalf("answered without a pool: %v", a.err)
	default:
	}
	close(gate)
	for range 2 {
		if a := <-answers; a.err != nil {
			t.Error(a.err)
		} else if a.ep.ContainerID == "web" && !slices.Equal(a.ep.Addresses, fixed.Addresses) {
			t.Errorf("addresses %v", a.ep.Addresses)
		}
	}
}
