// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"korat/api"
	"korat/felix/calc"
)

// Expect answers a Question about pods of whatever node, and about what no policy can allow there, by what the datastore
// has: where a node's agent puts the rules once it has done what the datastore says. Nothing is known of counters, and
// nothing told of host endpoints, which depend on interfaces.
func Expect(snap api.Snapshot, q Question) []LocatedRule {
	filters := map[string]*calc.Filter{}
	all := make([]LocatedRule, len(q.Checks))
	for i, c := range q.Checks {
		f := filters[c.Node]
		if f == nil {
			f = expected(snap, c.Node, q)
			filters[c.Node] = f
		}
		s := seatOf(f, c.Node, c)
		all[i] = LocatedRule{Table: string(s.key.Table), Chain: s.key.Name}
		if len(s.rules) > 0 {
			all[i].Number = s.rules[0] + 1
		}
	}
	return all
}

// expected gives a node's packet filter, with no more pods than are asked about. Chains say nothing of who is in a set.
func expected(snap api.Snapshot, node string, q Question) *calc.Filter {
	named := map[string]bool{}
	for _, c := range q.Checks {
		named[c.Endpoint] = c.Node == node || named[c.Endpoint]
	}
	f := calc.NewFilter(node)
	f.Families(api.Families())
	var pods []*api.WorkloadEndpoint
	for _, w := range snap.WorkloadEndpoints.All() {
		if w.Spec.Node == node && named[api.PodName(w)] {
			pods = append(pods, w)
		}
	}
	changed := map[api.Key]struct{}{{Kind: api.KindFelixConfiguration, Name: api.DefaultName}: {}}
	for _, kind := range []api.Kind{
		api.KindTier, api.KindProfile, api.KindNetworkPolicy, api.KindGlobalNetworkPolicy, api.KindStagedNetworkPolicy,
		api.KindStagedGlobalNetworkPolicy, api.KindKubernetesNetworkPolicy, api.KindClusterNetworkPolicy,
	} {
		for obj := range snap.Objects(kind) {
			changed[obj.Key()] = struct{}{}
		}
	}
	inDoubt(snap, changed)
	f.Changed(snap, changed)
	f.Own(snap, pods)
	f.Update()
	return f
}

// inDoubt adds the keys of what is not understood whole: rules depend on that.
func inDoubt(snap api.Snapshot, keys map[api.Key]struct{}) {
	for _, kind := range []api.Kind{
		api.KindNetworkSet, api.KindGlobalNetworkSet, api.KindHostEndpoint, api.KindEndpointSlice, api.KindWorkloadEndpoint,
	} {
		for obj := range snap.Objects(kind) {
			if api.Unreadable(obj) != "" || kind == api.KindNetworkSet || kind == api.KindGlobalNetworkSet {
				keys[obj.Key()] = struct{}{}
			}
		}
	}
}
