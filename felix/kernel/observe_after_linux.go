// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"maps"

	"golang.org/x/sys/unix"

	"korat/felix/dataplane"
)

// maxSingleLinks is up to how many links are read one by one. A dump of a hundred costs as much as
// some ten of them.
const maxSingleLinks = 16

// ObserveAfter gives what Observe would, and reads only what the notice is about; before is what was observed
// last, with all earlier notices.
func (h *Handle) ObserveAfter(ctx context.Context, before dataplane.Host, n Notice) (dataplane.Host, error) {
	if n.Lost || len(n.Links) > maxSingleLinks || before.Links == nil {
		return h.Observe(ctx)
	}
	host := dataplane.Host{Links: maps.Clone(before.Links), DefaultRoute: before.DefaultRoute}
	for name := range n.Links {
		if err := h.reread(ctx, host.Links, name); err != nil {
			return host, err
		}
	}
	if n.Addresses {
		if err := h.readdress(ctx, host.Links); err != nil {
			return host, err
		}
	}
	// With a link or an address the kernel takes IPv4 routes away of which it sends no notice.
	silently := before.DefaultRoute && (n.flushed() || len(n.RemovedAddresses) > 0)
	if !n.DefaultRoute && !silently {
		return host, nil
	}
	var err error
	host.DefaultRoute, err = h.foreignDefault()
	return host, err
}

// reread brings one link up to date, or removes it. Its addresses stay: changes of them come with a
// notice of their own.
func (h *Handle) reread(ctx context.Context, links map[string]dataplane.HostLink, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	old := links[name]
	delete(links, name)
	return h.conn.link(name, func(l kernelLink) {
		link := l.hostLink()
		if link.Index == old.Index {
			link.Addresses, link.Unsettled = old.Addresses, old.Unsettled
		}
		links[name] = link
	})
}

// readdress gives the links the addresses that they have now.
func (h *Handle) readdress(ctx context.Context, links map[string]dataplane.HostLink) error {
	byIndex := make(map[uint32]*dataplane.HostLink, len(links))
	names := make(map[uint32]string, len(links))
	for name, link := range links {
		link.Addresses, link.Unsettled = nil, nil
		byIndex[uint32(link.Index)], names[uint32(link.Index)] = &link, name
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if err := h.observeAddresses(ctx, family, byIndex); err != nil {
			return err
		}
	}
	for index, link := range byIndex {
		links[names[index]] = *link
	}
	return nil
}
