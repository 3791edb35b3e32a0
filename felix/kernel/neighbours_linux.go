// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"korat/felix/dataplane"
	"korat/felix/reconcile"
)

// ndaProtocol is NDA_PROTOCOL (Linux 5.0): who made a neighbour entry.
const ndaProtocol = 12

// Neighbours is the ARP and NDP table. Ours are its permanent entries on cali… interfaces that carry
// our protocol number.
type Neighbours struct{ h *Handle }

// Neighbours gives the table.
func (h *Handle) Neighbours() Neighbours { return Neighbours{h} }

// Read implements reconcile.Table.
func (t Neighbours) Read(ctx context.Context) (map[dataplane.NeighbourKey]dataplane.Neighbour, error) {
	have := map[dataplane.NeighbourKey]dataplane.Neighbour{}
	devices := t.h.conn.devices()
	err := t.h.conn.dump(ctx, func(b *buffer) {
		b.begin(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
		b.raw(bytesOf(&unix.NdMsg{}))
	}, func() { clear(have) }, func(m message) {
		n, ok := decodeNeighbour(m.body)
		if !ok || !n.ours() {
			return
		}
		if device := devices.name(uint32(n.Ifindex)); strings.HasPrefix(device, InterfacePrefix) {
			have[dataplane.NeighbourKey{Device: device, Address: n.address}] = dataplane.Neighbour{MAC: n.mac}
		}
	})
	return have, err
}

// Write implements reconcile.Table.
func (t Neighbours) Write(ctx context.Context, d reconcile.Diff[dataplane.NeighbourKey, dataplane.Neighbour]) error {
	var failed reconcile.WriteError[dataplane.NeighbourKey]
	set, del := slices.Collect(maps.Keys(d.Set)), slices.Collect(maps.Keys(d.Delete))
	devices := t.h.conn.devices()
	err := t.h.conn.write(ctx, changes{
		n: len(set), count: &t.h.writes.neighbours,
		encode: func(b *buffer, i int) error { return encodeNeighbour(b, set[i], d.Set[set[i]], devices) },
		failed: func(i int, err error) {
			failed.Fail(set[i], fmt.Errorf("set %v %v: %w", set[i], d.Set[set[i]], err))
		},
	})
	if err != nil {
		return fmt.Errorf("set neighbours: %w", err)
	}
	err = t.h.conn.write(ctx, changes{
		n: len(del), count: &t.h.writes.neighbours,
		encode: func(b *buffer, i int) error { return encodeNeighbourDelete(b, del[i], devices) },
		failed: func(i int, err error) {
			// An interface takes its entries with it.
			if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
				failed.Fail(del[i], fmt.Errorf("delete %v: %w", del[i], err))
			}
		},
	})
	if err != nil {
		return fmt.Errorf("delete neighbours: %w", err)
	}
	return failed.Err()
}

func encodeNeighbour(b *buffer, k dataplane.NeighbourKey, n dataplane.Neighbour, devices *devices) error {
	mac, err := net.ParseMAC(n.MAC)
	if err != nil || len(mac) != 6 {
		return fmt.Errorf("%q is not a MAC address", n.MAC)
	}
	index, err := devices.index(k.Device)
	if err != nil {
		return err
	}
	b.begin(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	b.raw(bytesOf(&unix.NdMsg{Family: family(k.Address), Ifindex: int32(index), State: unix.NUD_PERMANENT}))
	b.attrAddr(unix.NDA_DST, k.Address)
	b.attr(unix.NDA_LLADDR, mac)
	b.attr(ndaProtocol, []byte{Protocol})
	return nil
}

func encodeNeighbourDelete(b *buffer, k dataplane.NeighbourKey, devices *devices) error {
	index, err := devices.index(k.Device)
	if err != nil {
		return err
	}
	b.begin(unix.RTM_DELNEIGH, 0)
	b.raw(bytesOf(&unix.NdMsg{Family: family(k.Address), Ifindex: int32(index)}))
	b.attrAddr(unix.NDA_DST, k.Address)
	return nil
}

// kernelNeighbour is a neighbour entry as a message has it.
type kernelNeighbour struct {
	unix.NdMsg
	address  netip.Addr
	mac      string
	protocol uint8
}

func (n kernelNeighbour) ours() bool {
	return n.protocol == Protocol && n.State&unix.NUD_PERMANENT != 0 && n.Flags&unix.NTF_PROXY == 0
}

func decodeNeighbour(body []byte) (n kernelNeighbour, ok bool) {
	n.NdMsg, ok = header[unix.NdMsg](body)
	if !ok || n.Family != unix.AF_INET && n.Family != unix.AF_INET6 {
		return n, false
	}
	for typ, value := range attributes(body, unix.SizeofNdMsg) {
		switch typ {
		case unix.NDA_DST:
			n.address, _ = netip.AddrFromSlice(value)
		case unix.NDA_LLADDR:
			n.mac = net.HardwareAddr(value).String()
		case ndaProtocol:
			if len(value) == 1 {
				n.protocol = value[0]
			}
		}
	}
	return n, n.address.IsValid()
}
