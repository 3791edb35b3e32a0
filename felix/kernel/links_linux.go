// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"korat/felix/dataplane"
	"korat/felix/reconcile"
)

// Links are the host's sides of pods' interfaces, cali…. They are made and removed by the CNI plugin:
// setting one that doesn't exist succeeds and does nothing, and so does every deletion. Read gives all
// of them; whoever applies keeps those that are not wanted.
type Links struct{ h *Handle }

// Links gives the table.
func (h *Handle) Links() Links { return Links{h} }

// Read implements reconcile.Table.
func (t Links) Read(ctx context.Context) (map[string]dataplane.Link, error) {
	have := map[string]dataplane.Link{}
	err := t.h.conn.links(ctx, func() { clear(have) }, func(l kernelLink) {
		if strings.HasPrefix(l.name, InterfacePrefix) {
			have[l.name] = l.link()
		}
	})
	return have, err
}

// ReadEntries implements reconcile.EntryReader.
func (t Links) ReadEntries(ctx context.Context, names []string) (map[string]dataplane.Link, error) {
	have := make(map[string]dataplane.Link, len(names))
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := t.h.conn.link(name, func(l kernelLink) {
			have[name] = l.link()
		})
		if err != nil {
			return nil, err
		}
	}
	return have, nil
}

func (l kernelLink) link() dataplane.Link {
	return dataplane.Link{Up: l.Flags&unix.IFF_UP != 0, MTU: l.mtu, Group: l.group}
}

// link reads one link; found is not called if there is none of the name.
func (c *conn) link(name string, found func(kernelLink)) error {
	err := c.get(func(b *buffer) {
		b.begin(unix.RTM_GETLINK, 0)
		b.raw(bytesOf(&unix.IfInfomsg{}))
		b.attrString(unix.IFLA_IFNAME, name)
		b.attrUint32(unix.IFLA_EXT_MASK, skipStatistics)
	}, func(m message) {
		if l, ok := decodeLink(m.body); ok && l.name == name { // not by an alternative name
			found(l)
		}
	})
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// Write implements reconcile.Table.
func (t Links) Write(ctx context.Context, d reconcile.Diff[string, dataplane.Link]) error {
	var failed reconcile.WriteError[string]
	names := slices.Collect(maps.Keys(d.Set))
	err := t.h.conn.write(ctx, changes{
		n: len(names), count: &t.h.writes.links,
		encode: func(b *buffer, i int) error {
			t.h.notices.regroup(names[i], d.Set[names[i]].Group)
			encodeLink(b, names[i], d.Set[names[i]])
			return nil
		},
		failed: func(i int, err error) {
			t.h.notices.notRegrouped(names[i])
			if !errors.Is(err, unix.ENODEV) {
				failed.Fail(names[i], fmt.Errorf("set %s %v: %w", names[i], d.Set[names[i]], err))
			}
		},
	})
	if err != nil {
		return err
	}
	return failed.Err()
}

func encodeLink(b *buffer, name string, l dataplane.Link) {
	msg := unix.IfInfomsg{Change: unix.IFF_UP}
	if l.Up {
		msg.Flags = unix.IFF_UP
	}
	b.begin(unix.RTM_SETLINK, 0)
	b.raw(bytesOf(&msg))
	b.attrString(unix.IFLA_IFNAME, name) // without an index this selects the link
	if l.MTU != 0 {
		b.attrUint32(unix.IFLA_MTU, uint32(l.MTU))
	}
	b.attrUint32(unix.IFLA_GROUP, l.Group)
}
