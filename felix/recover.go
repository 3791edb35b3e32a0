// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"korat/api"
	"korat/felix/dataplane"
	"korat/felix/endpoint"
	"korat/ipam"
)

// evidence is what the kernel held of pods when the agent started: the addresses that pods'
// interfaces claim, by an alias or by a route.
type evidence map[netip.Addr]*claim

// claim is an interface's claim to an address.
type claim struct {
	device string
	// index tells the interface from a later one of the same name.
	index int
	// told is true once the log has it.
	told bool
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
	// Whatever of ours the kernel holds, it forwards for: routes to pods as well as learned ones.
	a.world.restarting = len(routes) > 0
	a.memos.complete = a.world.restarting
	a.at.evidence = gather(host, routes)
	for _, f := range find(host, routes, neighbours) {
		if err := a.at.adopt(f); err != nil {
			return fmt.Errorf("recover attachment %s from the kernel: %w", f.ID, err)
		}
	}
	a.at.trust(routes)
	return nil
}

// gather collects the addresses that pods seem to use.
func gather(host dataplane.Host, routes map[dataplane.RouteKey]dataplane.Route) evidence {
	e := evidence{}
	for name, link := range host.Links {
		if alias, err := endpoint.ParseAlias(link.Alias); err == nil && strings.HasPrefix(name, endpoint.InterfacePrefix) {
			for _, addr := range alias.Addresses {
				e[addr] = &claim{device: name, index: link.Index}
			}
		}
	}
	for key, r := range routes {
		for _, hop := range r.NextHops {
			if key.Prefix.IsSingleIP() && !hop.Gateway.IsValid() && strings.HasPrefix(hop.Device, endpoint.InterfacePrefix) {
				e[key.Prefix.Addr()] = &claim{device: hop.Device, index: host.Links[hop.Device].Index}
			}
		}
	}
	return e
}

// found is an attachment as the kernel knows it.
type found struct {
	endpoint.Endpoint
	// routed says that there is a route of ours to it: only a Ready attachment has ever had one.
	routed bool
}

// find rebuilds records from the aliases of pods' interfaces, and the pods' MACs from our neighbour
// entries.
func find(host dataplane.Host, routes map[dataplane.RouteKey]dataplane.Route, neighbours map[dataplane.NeighbourKey]dataplane.Neighbour) []found {
	var all []found
	for name, link := range host.Links {
		alias, err := endpoint.ParseAlias(link.Alias)
		if err != nil || !strings.HasPrefix(name, endpoint.InterfacePrefix) || len(alias.Addresses) == 0 {
			continue
		}
		f := found{Endpoint: endpoint.Endpoint{
			ID: alias.ID, Namespace: alias.Namespace, Pod: alias.Pod, Interface: name, MTU: link.MTU,
			Addresses: alias.Addresses, Ready: true,
		}}
		for _, addr := range alias.Addresses {
			if n, ok := neighbours[dataplane.NeighbourKey{Device: name, Address: addr}]; ok {
				f.MAC = n.MAC
			}
			f.routed = f.routed || leadsTo(routes, addr, name)
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(x, y found) int { return strings.Compare(x.Interface, y.Interface) })
	return all
}

// leadsTo says whether there is a route to the address that is directly on the interface.
func leadsTo(routes map[dataplane.RouteKey]dataplane.Route, addr netip.Addr, device string) bool {
	r := routes[dataplane.RouteKey{Prefix: netip.PrefixFrom(addr, addr.BitLen())}]
	return slices.Contains(r.NextHops, dataplane.NextHop{Device: device})
}

// adopt takes over what the kernel knows of an attachment and the journal does not: all of it, or that
// it was Ready. Without its record a pod would lose its route, and its address could be given to another.
func (at *attachments) adopt(f found) error {
	for _, known := range at.endpoints {
		if known.Interface != f.Interface {
			continue
		}
		if known.Ready || !f.Alias().Is(known.ID) {
			return nil
		}
		at.log.Warn("attachment is ready by the kernel's word", "endpoint", known.ID.String())
		delete(at.unfinished.all, known.ID)
		known.Ready, known.MAC = true, f.MAC
		return at.put(known)
	}
	if !f.routed {
		return nil
	}
	f.Since, f.Traits.Lost = at.now(), true
	at.log.Warn("attachment recovered from the kernel", "endpoint", f.ID.String(), "pod", f.Namespace+"/"+f.Pod, "addresses", f.Addresses)
	at.recovered[f.ID] = struct{}{}
	return at.put(f.Endpoint)
}

// incomplete says whether a record was recovered from an alias and has never been amended: an alias
// lacks the network's name and what policies know the pod by, and may have the other names shortened.
func incomplete(ep endpoint.Endpoint) bool {
	return ep.Network == "" || ep.Alias().Shortened() || ep.Traits.Lost
}

// learn completes what was recovered with what the datastore says of the addresses, now that it is
// known, and makes them the attachments' own: under the handle that the datastore has. What lacks its labels then stays
// recovered.
func (at *attachments) learn(snap api.Snapshot) {
	if len(at.recovered) == 0 {
		return
	}
	stored := map[netip.Addr]ipam.Orphan{}
	for _, o := range at.alloc.Orphans() {
		stored[o.Address] = o
	}
	for _, id := range slices.Collect(maps.Keys(at.recovered)) {
		delete(at.recovered, id)
		ep := at.endpoints[id]
		whole := ep
		for _, addr := range ep.Addresses {
			whole = told(whole, stored[addr])
		}
		whole = withTraits(at.node, whole, snap)
		if err := at.amend(ep, whole); err != nil {
			at.log.Error("complete attachment", "endpoint", id.String(), "error", err)
			at.hold(ep)
			whole = ep
		}
		if whole.Traits.Lost {
			at.recovered[whole.ID] = struct{}{}
			at.log.Warn("policy", "error", at.unknown(whole))
		}
	}
}

// told completes a record with what the datastore says of one of its addresses, if that is of the same
// attachment. A network's name may contain dots, and so may a container's ID.
func told(ep endpoint.Endpoint, o ipam.Orphan) endpoint.Endpoint {
	names, ok := strings.CutSuffix(o.Handle, "."+ep.IfName)
	for i := 0; ok && i < len(names); i++ {
		id := endpoint.ID{ContainerID: names[i+1:], IfName: ep.IfName}
		if i == 0 || names[i] != '.' || !ep.Alias().Is(id) {
			continue
		}
		ep.ID, ep.Network = id, names[:i]
		if namespace, pod := o.Attrs["namespace"], o.Attrs["pod"]; ep.Alias().Of(namespace, pod) {
			ep.Namespace, ep.Pod = namespace, pod
		}
		if since, err := time.Parse(time.RFC3339, o.Attrs["timestamp"]); err == nil {
			ep.Since = since
		}
		break
	}
	return ep
}

// withTraits completes a record with what policies know the attachment by, if the datastore has kept that.
func withTraits(node string, ep endpoint.Endpoint, snap api.Snapshot) endpoint.Endpoint {
	want := workloadEndpoint(node, ep)
	stored, ok := snap.WorkloadEndpoints.Get(want.Key().TableName())
	if !ok || !want.SameAttachment(stored) {
		return ep
	}
	ep.Traits = endpoint.Traits{Labels: maps.Clone(stored.Labels)}
	for _, p := range stored.Spec.Ports {
		ep.Traits.Ports = append(ep.Traits.Ports, endpoint.Port{Name: p.Name, Protocol: string(p.Protocol), Port: p.Port})
	}
	return ep
}

// amend replaces a record by one that says more of the same attachment.
func (at *attachments) amend(old, ep endpoint.Endpoint) error {
	if err := at.put(ep); err != nil {
		return err
	}
	if at.guarded[old.ID] {
		at.guarded[ep.ID] = true
	}
	if old.ID != ep.ID {
		if err := at.forget(old.ID); err != nil {
			return err
		}
	}
	if old.Handle() != ep.Handle() {
		at.alloc.Release(old.Handle())
	}
	at.hold(ep)
	return nil
}

// releaseOrphans frees the addresses of this node's blocks that only the datastore holds in use:
// neither the record nor an interface that was there at the agent's start and still is knows their
// pods, as after a reboot. Where the node was registered with an address that this host does not have,
// they may be another host's, until a later start finds the address here.
func (a *Agent) releaseOrphans() {
	if a.world.selfErr != nil || a.world.registration.inherited() {
		return
	}
	var gone []ipam.Orphan
	for _, o := range a.at.alloc.Orphans() {
		if c := a.at.evidence[o.Address]; c != nil && a.holds(c) {
			if !c.told {
				a.Log.Warn("address in use without a record", "address", o.Address.String(), "interface", c.device)
			}
			c.told = true
			continue
		}
		a.Log.Info("address released: its pod is gone", "address", o.Address.String(), "handle", o.Handle)
		gone = append(gone, o)
		a.memos.leave([]netip.Addr{o.Address})
	}
	if err := a.at.alloc.ReleaseOrphans(gone...); err != nil {
		a.Log.Error("release addresses of pods that are gone", "error", err)
	}
}

// holds says whether a claim still stands.
func (a *Agent) holds(c *claim) bool {
	link, exists := a.world.host.Links[c.device]
	return exists && link.Index == c.index
}
