// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"korat/felix/dataplane"
)

// digester hashes what Routes reads, as the kernel sends it: to see that nothing has changed costs a tenth
// of decoding it.
type digester struct{ hash maphash.Hash }

// routeTable remembers what the digests of one Handle have in common.
type routeTable struct {
	seed maphash.Seed
	// count is how many routes of ours the last Read found.
	count int
	// indexes are the interfaces of those routes: messages have their indexes, we speak of names.
	indexes []uint32
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
	d := digester{}
	d.hash.SetSeed(table.seed)
	for _, family := range routeFamilies() {
		read := routeReader{family: family, devices: devices, have: have}
		err := t.dump(ctx, family, func() { read.start(); d.hash.Reset(); d.begin(digest, family) }, func(m message) {
			d.add(family, m)
			read.message(m)
		})
		if err != nil {
			return nil, 0, err
		}
		digest = d.hash.Sum64()
	}
	table.count, table.indexes = len(have), slices.Sorted(maps.Keys(devices.names))
	return have, d.names(digest, table.indexes, devices), nil
}

// digest gives what ReadChanged would give, without reading what the messages say.
func (t Routes) digest(ctx context.Context, table *routeTable) (digest uint64, err error) {
	d := digester{}
	d.hash.SetSeed(table.seed)
	for _, family := range routeFamilies() {
		err := t.dump(ctx, family, func() { d.hash.Reset(); d.begin(digest, family) }, func(m message) { d.add(family, m) })
		if err != nil {
			return 0, err
		}
		digest = d.hash.Sum64()
	}
	return d.names(digest, table.indexes, t.h.conn.devices()), nil
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

// begin goes on from the digest of what came before.
func (d *digester) begin(before uint64, family uint8) {
	maphash.WriteComparable(&d.hash, before)
	_ = d.hash.WriteByte(family)
}

// add takes in a route: any of IPv4, as one of another's before ours shadows it; of IPv6 only ours, as
// others carry times that run.
func (d *digester) add(family uint8, m message) {
	if family == unix.AF_INET || len(m.body) > protocolAt && m.body[protocolAt] == Protocol {
		_, _ = d.hash.Write(m.body) // never fails
	}
}

// protocolAt is where struct rtmsg has rtm_protocol.
const protocolAt = 5

// names takes in what the interfaces are called now. The digest is never 0, which stands for none.
func (d *digester) names(before uint64, indexes []uint32, devices *devices) uint64 {
	d.hash.Reset()
	maphash.WriteComparable(&d.hash, before)
	for _, index := range indexes {
		maphash.WriteComparable(&d.hash, index)
		_, _ = d.hash.WriteString(devices.name(index))
		_ = d.hash.WriteByte(0)
	}
	return cmp.Or(d.hash.Sum64(), 1)
}
