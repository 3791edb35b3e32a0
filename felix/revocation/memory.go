// SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"net"
	"net/netip"
	"slices"

	"korat/api"
	"korat/policy"
	"korat/policy/explain"
)

// memory keeps what objects were read as from one job to the next. An object of a Snapshot is never changed.
type memory struct {
	now, before map[api.Object]any
}

// forget drops what the last two jobs had no use for.
func (m *memory) forget() { m.now, m.before = nil, m.now }

func recall[O api.Object, V any](m *memory, obj O, read func(O) (V, error)) V {
	if known, ok := m.now[obj].(V); ok {
		return known
	}
	value, ok := m.before[obj].(V)
	if !ok {
		value, _ = read(obj) // what is wrong with it the loop reports; it counts as far as it is understood
	}
	if m.now == nil {
		m.now = map[api.Object]any{}
	}
	m.now[obj] = value
	return value
}

func itemOf(obj api.Object) (policy.Item, error) { return policy.ItemOf(obj) }

// holders gives the pods and host endpoints of other nodes, and the network sets, that have one of the addresses.
func (m *memory) holders(job *Job, of map[netip.Addr]struct{}) []explain.NetworkSet {
	var all []explain.NetworkSet
	if len(of) == 0 {
		return nil
	}
	for w := range job.Snapshot.WorkloadEndpoints.Objects() {
		if !holds(w.Spec.IPNetworks, of) {
			continue
		}
		if _, own := job.Pods[w.Key().String()]; !own { // those are known better
			item, _ := policy.ItemOf(w)
			all = append(all, explain.NetworkSet{Item: item, Namespace: w.Namespace, Name: w.Name})
		}
	}
	return append(all, m.sets(job, of)...)
}

// holds says whether one of the prefixes, which have one address each, is one of the addresses.
func holds(texts []string, of map[netip.Addr]struct{}) bool {
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			if _, is := of[p.Addr()]; is {
				return true
			}
		}
	}
	return false
}

// sets gives the network sets and host endpoints that have one of the addresses.
func (m *memory) sets(job *Job, of map[netip.Addr]struct{}) []explain.NetworkSet {
	sorted := make([]netip.Addr, 0, len(of))
	for a := range of {
		sorted = append(sorted, a)
	}
	slices.SortFunc(sorted, netip.Addr.Compare)
	within := func(p netip.Prefix) bool {
		i, _ := slices.BinarySearchFunc(sorted, p.Masked().Addr(), netip.Addr.Compare)
		return i < len(sorted) && p.Contains(sorted[i])
	}
	var all []explain.NetworkSet
	for _, kind := range []api.Kind{api.KindNetworkSet, api.KindGlobalNetworkSet, api.KindHostEndpoint} {
		for obj := range job.Snapshot.Objects(kind) {
			if item := recall(m, obj, itemOf); slices.ContainsFunc(item.Prefixes, within) {
				all = append(all, explain.NetworkSet{Item: item, Namespace: obj.GetNamespace(), Name: obj.GetName()})
			}
		}
	}
	return all
}

// profiles gives those that the parts name. Those of which there is no object explain knows by itself.
func (m *memory) profiles(job *Job, parts *explain.Parts) []*policy.Profile {
	names := map[string]struct{}{}
	add := func(all []string) {
		for _, name := range all {
			names[name] = struct{}{}
		}
	}
	for i := range parts.Endpoints {
		add(parts.Endpoints[i].Parents)
		add(parts.Endpoints[i].Profiles)
	}
	for i := range parts.Sets {
		add(parts.Sets[i].Parents)
	}
	var all []*policy.Profile
	for name := range names {
		if obj, ok := job.Snapshot.Profiles.Get(name); ok {
			all = append(all, recall(m, obj, policy.ProfileOf))
		}
	}
	return all
}

// linkLocal gives the link-local address of a hardware address: RFC 4291, appendix A.
func linkLocal(text string) (netip.Addr, bool) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	}), true
}
