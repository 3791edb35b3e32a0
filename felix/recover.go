// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/ipam"
)

// evidence is what the kernel held of pods when the agent started.
type evidence struct {
	// addresses are those that a pod's interface claims, by its alias or by a route.
	addresses map[netip.Addr]string
}

// look takes the first picture of the kernel, before anything is decided.
func (a *Agent) look(ctx context.Context) error {
	host, err := a.Kernel.Observe(ctx)
	if err != nil {
		return err
	}
	routes, err := a.Tables.Routes.Read(ctx)
	if err != nil {
		return err
	}
	neighbours, err := a.Tables.Neighbours.Read(ctx)
	if err != nil {
		return err
	}
	a.world.host = host
	for _, r := range routes {
		a.world.restarting = a.world.restarting || r.Learned()
	}
	a.evidence = gather(host, routes)
	if !a.RecordLost {
		return nil
	}
	for _, ep := range recovered(host, neighbours) {
		if err := a.at.adopt(ep); err != nil {
			return fmt.Errorf("recover attachment %s from the kernel: %w", ep.ID, err)
		}
	}
	return nil
}

// gather collects the addresses that pods seem to use.
func gather(host dataplane.Host, routes map[dataplane.RouteKey]dataplane.Route) evidence {
	e := evidence{addresses: map[netip.Addr]string{}}
	for name, link := range host.Links {
		if alias, err := endpoint.ParseAlias(link.Alias); err == nil && strings.HasPrefix(name, endpoint.InterfacePrefix) {
			for _, addr := range alias.Addresses {
				e.addresses[addr] = name
			}
		}
	}
	for key, r := range routes {
		for _, hop := range r.NextHops {
			if key.Prefix.IsSingleIP() && !hop.Gateway.IsValid() && strings.HasPrefix(hop.Device, endpoint.InterfacePrefix) {
				e.addresses[key.Prefix.Addr()] = hop.Device
			}
		}
	}
	return e
}

// recovered rebuilds records from the aliases of pods' interfaces, and the pods' MACs from our
// neighbour entries. Without its record a pod would lose its route, and its address could be given
// to another.
func recovered(host dataplane.Host, neighbours map[dataplane.NeighbourKey]dataplane.Neighbour) []endpoint.Endpoint {
	var all []endpoint.Endpoint
	for name, link := range host.Links {
		alias, err := endpoint.ParseAlias(link.Alias)
		if err != nil || !strings.HasPrefix(name, endpoint.InterfacePrefix) || len(alias.Addresses) == 0 {
			continue
		}
		ep := endpoint.Endpoint{
			ID: alias.ID, Namespace: alias.Namespace, Pod: alias.Pod, Interface: name, MTU: link.MTU,
			Addresses: alias.Addresses, Ready: true,
		}
		for _, addr := range alias.Addresses {
			ep.MAC = neighbours[dataplane.NeighbourKey{Device: name, Address: addr}].MAC
		}
		all = append(all, ep)
	}
	slices.SortFunc(all, func(x, y endpoint.Endpoint) int { return strings.Compare(x.Interface, y.Interface) })
	return all
}

// adopt takes over an attachment that the kernel knows of and the journal does not.
func (at *attachments) adopt(ep endpoint.Endpoint) error {
	for _, known := range at.endpoints {
		if known.Interface == ep.Interface {
			return nil
		}
	}
	ep.Since = at.now()
	if err := at.journal.Put(ep.ID.String(), ep); err != nil {
		return err
	}
	at.log.Warn("attachment recovered from the kernel", "endpoint", ep.ID.String(), "pod", ep.Namespace+"/"+ep.Pod, "addresses", ep.Addresses)
	at.endpoints[ep.ID] = ep
	at.alloc.Restore(ep.Handle(), at.owner(ep), ep.Addresses)
	at.changed = true
	return nil
}

// releaseOrphans frees the addresses of this node's blocks that only the datastore holds in use:
// neither the record nor, at the agent's start, the kernel knew their pods, as after a reboot.
func (a *Agent) releaseOrphans() {
	var gone []ipam.Orphan
	for _, o := range a.at.alloc.Orphans() {
		if device, used := a.evidence.addresses[o.Address]; used {
			a.Log.Warn("address in use without a record", "address", o.Address.String(), "interface", device)
			continue
		}
		a.Log.Info("address released: its pod is gone", "address", o.Address.String(), "handle", o.Handle)
		gone = append(gone, o)
	}
	if err := a.at.alloc.ReleaseOrphans(gone...); err != nil {
		a.Log.Error("release addresses of pods that are gone", "error", err)
	}
}
