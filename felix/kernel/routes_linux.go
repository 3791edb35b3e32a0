// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"korat/felix/dataplane"
	"korat/felix/reconcile"
)

// Routes is the main routing table. Ours are its routes with our protocol number, TOS 0 and metric 0
// (IPv6: 1024, the kernel's default). Foreign routes with another prefix, metric or TOS, and those behind ours,
// are left alone.
//
// The IPv4 table (net/ipv4/fib_trie.c) may hold several routes with one prefix, TOS and metric, one
// behind the other; only the first forwards. NLM_F_REPLACE replaces that first one, whosever it
// is, so that setting a route also clears somebody else's out of our way; it changes nothing if the
// first is ours already. If ours stands behind another ("ip route prepend"), the kernel answers
// EEXIST instead: then the first is deleted and ours is set again. A deletion can't be limited to metric
// 0 and takes all routes with the prefix and our protocol number.
//
// The IPv6 table (net/ipv6/ip6_fib.c) holds several, too, of two classes: those with a gateway are one
// multipath route, and the others stand behind one another. Here NLM_F_REPLACE replaces the first of the
// route's own class, and only if there is none the first of all: one of the other class in front stays in
// effect, be it an older one of ours, and nothing is said. A later one with a gateway becomes a next hop
// of ours if that has one. The kernel's routes to the host's own subnets have metric 256, and so come first.
//
// What others do to our prefixes is noticed as it happens. Read sees it as well, since it reads
// foreign routes too: the kernel gives a prefix' routes in their order, so that one of ours in
// second place is known by the route before it, and is reported as Shadowed. So is an IPv6 one behind which
// there is another one of ours. When a Shadowed IPv6 route is set, those before it are deleted.
type Routes struct{ h *Handle }

// Routes gives the table.
func (h *Handle) Routes() Routes { return Routes{h} }

// maxInFront bounds the foreign routes that are deleted from before one of ours.
const maxInFront = 16

// errHostSubnet refuses a route that would cut the host off.
var errHostSubnet = errors.New("it is the subnet of one of the host's own addresses")

// Read implements reconcile.Table.
func (t Routes) Read(ctx context.Context) (map[dataplane.RouteKey]dataplane.Route, error) {
	have, _, err := t.ReadChanged(ctx, 0)
	return have, err
}

// routeReader collects one family's routes of ours.
type routeReader struct {
	family  uint8
	devices *devices
	have    map[dataplane.RouteKey]dataplane.Route
	// front is the prefix of the foreign route with our metric that was seen last.
	front netip.Prefix
	hops  hopSlab
}

// start forgets what an interrupted dump gave.
func (r *routeReader) start() {
	r.front = netip.Prefix{}
	maps.DeleteFunc(r.have, func(k dataplane.RouteKey, _ dataplane.Route) bool { return family(k.Prefix.Addr()) == r.family })
}

func (r *routeReader) message(m message) {
	k, ok := decodeRoute(m.body, r.family)
	switch {
	case !ok || !k.atOurMetric():
	case k.Protocol != Protocol:
		r.front = k.prefix
	default:
		key := dataplane.RouteKey{Prefix: k.prefix}
		first, twice := r.have[key]
		if !twice {
			r.have[key] = k.route(r.devices, &r.hops, r.front == k.prefix)
		} else if r.family == unix.AF_INET6 {
			first.Shadowed = true
			r.have[key] = first
		}
	}
}

// Write implements reconcile.Table: sets before deletes.
func (t Routes) Write(ctx context.Context, d reconcile.Diff[dataplane.RouteKey, dataplane.Route]) error {
	var failed reconcile.WriteError[dataplane.RouteKey]
	if err := t.set(ctx, d.Set, &failed); err != nil {
		return err
	}
	if err := t.remove(ctx, d.Delete, &failed); err != nil {
		return err
	}
	return failed.Err()
}

func (t Routes) set(ctx context.Context, set map[dataplane.RouteKey]dataplane.Route, failed *reconcile.WriteError[dataplane.RouteKey]) error {
	if len(set) == 0 {
		return nil
	}
	subnets, err := t.h.conn.subnets(ctx)
	if err != nil {
		return err
	}
	keys := slices.Collect(maps.Keys(set))
	for range maxInFront {
		behind, err := t.replace(ctx, keys, set, subnets, failed)
		if err != nil {
			return fmt.Errorf("set %d routes: %w", len(keys), err)
		}
		behind6, err := t.stillShadowed(ctx, keys)
		if err != nil {
			return fmt.Errorf("set %d routes: %w", len(keys), err)
		}
		keys = append(behind, behind6...)
		if len(keys) == 0 {
			return nil
		}
		if err := t.removeFront(ctx, keys); err != nil {
			return err
		}
	}
	for _, k := range keys {
		failed.Fail(k, fmt.Errorf("set %v %v: more than %d other routes are in the way", k, set[k], maxInFront))
	}
	return nil
}

// replace sets routes and gives those that stand behind another one.
func (t Routes) replace(ctx context.Context, keys []dataplane.RouteKey, set map[dataplane.RouteKey]dataplane.Route,
	subnets map[netip.Prefix]bool, failed *reconcile.WriteError[dataplane.RouteKey],
) (behind []dataplane.RouteKey, err error) {
	devices := t.h.conn.devices()
	err = t.h.conn.write(ctx, changes{
		n: len(keys), count: &t.h.writes.routes,
		encode: func(b *buffer, i int) error {
			if subnets[keys[i].Prefix] {
				return errHostSubnet
			}
			return encodeRoute(b, keys[i].Prefix, set[keys[i]], devices)
		},
		failed: func(i int, err error) {
			if errors.Is(err, unix.EEXIST) {
				behind = append(behind, keys[i])
				return
			}
			failed.Fail(keys[i], fmt.Errorf("set %v %v: %w", keys[i], set[keys[i]], err))
		},
	})
	return behind, err
}

// stillShadowed gives those IPv6 routes that were Shadowed when all were read last, and still are.
func (t Routes) stillShadowed(ctx context.Context, keys []dataplane.RouteKey) ([]dataplane.RouteKey, error) {
	t.h.routesMu.Lock()
	were := t.h.routeTable.shadowed6
	t.h.routesMu.Unlock()
	if len(were) == 0 {
		return nil, nil
	}
	keys = slices.DeleteFunc(slices.Clone(keys), func(k dataplane.RouteKey) bool { return !were[k.Prefix] })
	if len(keys) == 0 {
		return nil, nil
	}
	read := routeReader{family: unix.AF_INET6, devices: t.h.conn.devices(), have: map[dataplane.RouteKey]dataplane.Route{}}
	if err := t.dump(ctx, read.family, read.start, read.message); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(keys, func(k dataplane.RouteKey) bool { return !read.have[k].Shadowed }), nil
}

// shadowed6 picks the IPv6 routes that are Shadowed. It is nil if there are none.
func shadowed6(have map[dataplane.RouteKey]dataplane.Route) (shadowed map[netip.Prefix]bool) {
	for k, r := range have {
		if r.Shadowed && k.Prefix.Addr().Is6() {
			if shadowed == nil {
				shadowed = map[netip.Prefix]bool{}
			}
			shadowed[k.Prefix] = true
		}
	}
	return shadowed
}

// removeFront deletes the first route of each prefix, whosever it is: the caller sets its own anew.
func (t Routes) removeFront(ctx context.Context, keys []dataplane.RouteKey) error {
	err := t.h.conn.write(ctx, changes{
		n: len(keys), count: &t.h.writes.routes,
		encode: func(b *buffer, i int) error {
			encodeRouteDelete(b, keys[i].Prefix, unix.RTPROT_UNSPEC)
			return nil
		},
		failed: func(int, error) {}, // what is wrong, setting the route will say
	})
	return wrap("delete routes in the way", err)
}

// remove deletes until nothing of ours is left under the keys. Replacing a foreign route that stood
// before an older one of ours leaves that in second place, where it would come into effect again.
func (t Routes) remove(ctx context.Context, del map[dataplane.RouteKey]dataplane.Route, failed *reconcile.WriteError[dataplane.RouteKey]) error {
	keys := slices.Collect(maps.Keys(del))
	for len(keys) > 0 {
		done := map[dataplane.RouteKey]bool{}
		err := t.h.conn.write(ctx, changes{
			n: len(keys), count: &t.h.writes.routes,
			encode: func(b *buffer, i int) error {
				encodeRouteDelete(b, keys[i].Prefix, Protocol)
				return nil
			},
			failed: func(i int, err error) {
				done[keys[i]] = true
				if !errors.Is(err, unix.ESRCH) {
					failed.Fail(keys[i], fmt.Errorf("delete %v %v: %w", keys[i], del[keys[i]], err))
				}
			},
		})
		if err != nil {
			return fmt.Errorf("delete routes: %w", err)
		}
		keys = slices.DeleteFunc(keys, func(k dataplane.RouteKey) bool { return done[k] })
	}
	return nil
}

// subnets gives the IPv4 prefixes for which the kernel made a route because the host has an address there.
func (c *conn) subnets(ctx context.Context) (map[netip.Prefix]bool, error) {
	subnets := map[netip.Prefix]bool{}
	err := c.addresses(ctx, unix.AF_INET, func() { clear(subnets) }, func(_ unix.IfAddrmsg, p netip.Prefix) {
		if !p.IsSingleIP() {
			subnets[p.Masked()] = true
		}
	})
	return subnets, err
}
