// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"errors"
	"net/netip"

	"korat/api"
	"korat/policy"
)

// Of gives the World that the datastore tells of. Objects with faults, which the error names, count as far as they
// are understood.
func Of(snap api.Snapshot) (*World, error) {
	r := &reader{snap: snap, parts: Parts{Doubts: &policy.Doubts{}}}
	for _, t := range snap.Tiers.All() {
		r.note(api.Fault(t))
		r.parts.Doubts.Tier(t.Name, t)
		r.parts.Tiers = append(r.parts.Tiers, policy.TierOf(t))
	}
	for _, prof := range snap.Profiles.All() {
		p, err := policy.ProfileOf(prof)
		r.note(err)
		r.parts.Profiles = append(r.parts.Profiles, p)
	}
	for _, kind := range []api.Kind{
		api.KindNetworkPolicy, api.KindGlobalNetworkPolicy, api.KindKubernetesNetworkPolicy, api.KindClusterNetworkPolicy,
		api.KindStagedNetworkPolicy, api.KindStagedGlobalNetworkPolicy,
	} {
		for obj := range snap.Objects(kind) {
			p, err := policy.Of(obj)
			r.note(err)
			if p != nil {
				r.parts.Policies = append(r.parts.Policies, p)
			}
		}
	}
	r.places(snap)
	for _, kind := range []api.Kind{api.KindNetworkSet, api.KindGlobalNetworkSet} {
		for obj := range snap.Objects(kind) {
			r.parts.Sets = append(r.parts.Sets, NetworkSet{Item: r.item(obj), Namespace: obj.GetNamespace(), Name: obj.GetName()})
		}
	}
	r.services(snap)
	r.settings(snap)
	return New(r.parts), errors.Join(r.errs...)
}

// reader turns objects into Parts.
type reader struct {
	snap  api.Snapshot
	parts Parts
	errs  []error
}

func (r *reader) note(err error) {
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

func (r *reader) item(obj api.Object) policy.Item {
	item, err := policy.ItemOf(obj)
	r.note(err)
	item.Inherit(r.snap)
	r.parts.Doubts.Item(r.snap, obj.Key(), item)
	return item
}

// places reads the endpoints and nodes.
func (r *reader) places(snap api.Snapshot) {
	for _, w := range snap.WorkloadEndpoints.All() {
		if api.Hollow(w) {
			r.item(w) // nobody knows where it is
			continue
		}
		r.parts.Endpoints = append(r.parts.Endpoints, Endpoint{
			Item: r.item(w), Profiles: policy.Profiles(w), Namespace: w.Namespace, Name: podName(w),
			Node: w.Spec.Node, Interface: w.Spec.InterfaceName,
		})
	}
	for _, h := range snap.HostEndpoints.All() {
		item := r.item(h)
		if api.Hollow(h) {
			continue
		}
		r.parts.Endpoints = append(r.parts.Endpoints, Endpoint{
			Item: item, Profiles: item.Parents, Name: h.Name, Host: true, Node: h.Spec.Node, Interface: h.Spec.InterfaceName,
		})
	}
	for _, n := range snap.Nodes.All() {
		r.parts.Nodes = append(r.parts.Nodes, Node{n.Name, nodeAddresses(n)})
	}
}

// services reads what is behind services: of one with several slices the endpoints of all.
func (r *reader) services(snap api.Snapshot) {
	r.parts.Services = map[policy.Service][]ServiceEndpoint{}
	for _, slice := range snap.EndpointSlices.All() {
		behind, err := policy.Behind(slice)
		r.note(err)
		service, _ := policy.ServiceOf(slice)
		r.parts.Doubts.Slice(slice.Key(), service, policy.Missing(slice, err))
		for _, m := range behind {
			r.parts.Services[service] = append(r.parts.Services[service], ServiceEndpoint{m.Prefix.Addr(), m.Protocol, m.Port})
		}
	}
}

// podName is the pod's, with the interface's after it if that is not the first.
func podName(w *api.WorkloadEndpoint) string {
	name := cmp.Or(w.Spec.Pod, w.Name)
	if w.Spec.Endpoint != "eth0" && w.Spec.Endpoint != "" {
		name += "/" + w.Spec.Endpoint
	}
	return name
}

func nodeAddresses(n *api.Node) []netip.Addr {
	var addrs []netip.Addr
	add := func(text string) {
		if p, err := netip.ParsePrefix(text); err == nil {
			addrs = append(addrs, p.Addr())
		} else if a, err := netip.ParseAddr(text); err == nil {
			addrs = append(addrs, a)
		}
	}
	if bgp := n.Spec.BGP; bgp != nil {
		add(bgp.IPv4Address)
		add(bgp.IPv6Address)
	}
	for _, a := range n.Spec.Addresses {
		add(a.Address)
	}
	return addrs
}

// settings reads the FelixConfiguration, with the defaults if there is none.
func (r *reader) settings(snap api.Snapshot) {
	r.parts.Pools = policy.Pools(snap)
	felix := &api.FelixConfiguration{}
	if have, ok := snap.FelixConfigurations.Get(api.DefaultName); ok {
		r.note(api.Fault(have))
		felix = have.DeepCopy()
	}
	api.Default(felix)
	r.parts.EndpointToHost = felix.Spec.DefaultEndpointToHostAction
	if felix.Spec.ServiceLoopPrevention != api.FelixDisabled {
		r.parts.ServiceCIDRs = serviceCIDRs(felix.Spec.ServiceCIDRs)
	}
	r.parts.FailsafeInbound = r.failsafes(felix.Spec.FailsafeInboundHostPorts)
	r.parts.FailsafeOutbound = r.failsafes(felix.Spec.FailsafeOutboundHostPorts)
}

func serviceCIDRs(texts []string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil && p.Bits() > 0 {
			all = append(all, p)
		}
	}
	return all
}

func (r *reader) failsafes(ports *[]api.ProtoPort) []Failsafe {
	if ports == nil {
		return nil
	}
	var open []Failsafe
	for _, p := range *ports {
		f := Failsafe{Protocol: policy.Protocol(p.Protocol.Number()), Port: p.Port}
		if p.Net != "" {
			net, err := netip.ParsePrefix(p.Net)
			if addr, isAddr := netip.ParseAddr(p.Net); isAddr == nil {
				net, err = addr.Prefix(addr.BitLen())
			}
			if err != nil {
				continue // nobody is let in by what is not understood
			}
			f.Net = net
		}
		open = append(open, f)
	}
	return open
}
