// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"korat/felix/dataplane"
)

// digester hashes what Routes reads, as the kernel sends it: to see that nothing has changed costs a tenth
// of decoding it.
type digester struct {
	seed maphash.Seed
	// family is the one that is being read.
	family uint8
	sum    uint64
}

// mix makes the order of what is taken in count. (2^64 divided by the golden ratio, which is odd)
const mix = 0x9e3779b97f4a7c15

func (d *digester) take(hash uint64) { d.sum = d.sum*mix + hash }

// routeTable remembers what the digests of one Handle have in common.
type routeTable struct {
	seed maphash.Seed
	// count is how many routes of ours the last Read found.
	count int
	// indexes are the interfaces of those routes: messages have their indexes, we speak of names.
	indexes []uint32
	// shadowed6 are the IPv6 ones of those routes that were Shadowed.
	shadowed6 map[netip.Prefix]bool
}

// ReadChanged implements reconcile.DigestReader.
func (t Routes) ReadChanged(ctx context.Context, since uint64) (have map[dataplane.RouteKey]dataplane.Route, digest uint64, err error) {
	t.h.routesMu.Lock()
	defer t.h.routesMu.Unlock()
	table := &t.h.routeTable
	if since != 0 {
		if now, err := t.digest(ctx, table); err != nil || now == since {
			return nil, now, err
		}
	}
	// A map of the final size: growing it would cost more than reading.
	have = make(map[dataplane.RouteKey]dataplane.Route, table.count)
	devices := t.h.conn.devices()
	d := digester{seed: table.seed}
	for _, family := range routeFamilies() {
		before := d.sum
		d.family = family
		read := routeReader{family: family, devices: devices, have: have}
		err := t.dump(ctx, family, func() { read.start(); d.sum = before }, func(m message) {
			d.add(m)
			read.message(m)
		})
		if err != nil {
			return nil, 0, err
		}
	}
	table.count, table.indexes = len(have), slices.Sorted(maps.Keys(devices.names))
	table.shadowed6 = shadowed6(have)
	return have, d.end(table.indexes, devices), nil
}

// digest gives what ReadChanged would give, without reading what the messages say.
func (t Routes) digest(ctx context.Context, table *routeTable) (uint64, error) {
	d := digester{seed: table.seed}
	for _, family := range routeFamilies() {
		before := d.sum
		d.family = family
		if err := t.dump(ctx, family, func() { d.sum = before }, d.add); err != nil {
			return 0, err
		}
	}
	return d.end(table.indexes, t.h.conn.devices()), nil
}

func routeFamilies() []uint8 { return []uint8{unix.AF_INET, unix.AF_INET6} }

// dump asks for a family's main table.
func (t Routes) dump(ctx context.Context, family uint8, start func(), each func(message)) error {
	err := t.h.conn.dump(ctx, func(b *buffer) {
		b.begin(unix.RTM_GETROUTE, unix.NLM_F_DUMP)
		b.raw(bytesOf(&unix.RtMsg{Family: family, Table: unix.RT_TABLE_MAIN}))
	}, start, each)
	if errors.Is(err, unix.ENOENT) {
		return nil // the kernel makes the table with its first route
	}
	return err
}

// add takes in a route: any of IPv4, as one of another's before ours shadows it; of IPv6 only ours, as
// others carry times that run, and come to stand before ours only when we set it.
func (d *digester) add(m message) {
	if d.family == unix.AF_INET || len(m.body) > protocolAt && m.body[protocolAt] == Protocol {
		d.take(maphash.Bytes(d.seed, m.body))
	}
}

// protocolAt is where struct rtmsg has rtm_protocol.
const protocolAt = 5

// end takes in what the interfaces are called now, and gives the digest. It is never 0, which stands for none.
func (d *digester) end(indexes []uint32, devices *devices) uint64 {
	for _, index := range indexes {
		d.take(uint64(index))
		d.take(maphash.String(d.seed, devices.name(index)))
	}
	return cmp.Or(d.sum, 1)
}
