// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"cmp"
	"maps"
	"slices"

	"korat/api"
	"korat/felix/dataplane"
	"korat/policy"
	"korat/policy/compile"
)

// Filter computes what policies ask of this node's packet filter. It is told what changes, and keeps the rest, so that
// it costs what has changed; what it gives depends on nothing but what it was told last of each thing.
type Filter struct {
	compiler *compile.Compiler
	options  compile.Options
	// own are this node's pods as they were told last.
	own map[api.Key]*Pod
	// faults are what is wrong with objects. These deny, for want of knowing what they mean.
	faults map[api.Key]error
	// doubts are objects of which not all is known, so that rules which they may concern are closed.
	doubts   doubts
	hosts    hosts
	services services
}

// NewFilter gives a Filter of a node that knows of nothing.
func NewFilter(node string) *Filter {
	options := optionsOf(&api.FelixConfigurationSpec{}, []api.Family{api.IPv4})
	return &Filter{
		compiler: compile.New(options), options: options,
		own: map[api.Key]*Pod{}, faults: map[api.Key]error{}, hosts: newHosts(node), services: newServices(),
	}
}

// Heeds says whether a Filter is to be told of a kind's objects.
func Heeds(kind api.Kind) bool {
	switch kind {
	case api.KindTier, api.KindProfile, api.KindNetworkSet, api.KindGlobalNetworkSet, api.KindWorkloadEndpoint, api.KindHostEndpoint,
		api.KindEndpointSlice, api.KindFelixConfiguration, api.KindIPPool:
		return true
	default:
		return ruled(kind)
	}
}

// Own tells which pods this node has. The objects must not be changed afterwards; one that is told again as the
// same object costs nothing.
func (f *Filter) Own(snap api.Snapshot, pods []*api.WorkloadEndpoint) {
	now := make(map[api.Key]*Pod, len(pods))
	var others []*Pod
	for _, w := range pods {
		key := w.Key()
		if p := f.own[key]; p != nil && p.Object == w {
			now[key] = p
			continue
		}
		now[key] = &Pod{ID: key.String(), Object: w}
		others = append(others, now[key])
	}
	before := f.own
	f.own = now
	for key, p := range before {
		if now[key] == nil {
			f.compiler.DeleteLocal(p.ID)
			f.peer(snap, key)
		}
	}
	for _, p := range others {
		f.pod(snap, p)
	}
	f.reconsider(snap, nil)
}

// Changed tells which objects of a Snapshot are not as they were. Policies come last, as what they become depends on whether
// all of the others is known.
func (f *Filter) Changed(snap api.Snapshot, keys map[api.Key]struct{}) {
	for key := range keys {
		if !ruled(key.Kind) {
			f.changed(snap, key)
		}
	}
	f.reconsider(snap, keys)
	for key := range keys {
		if ruled(key.Kind) {
			f.changed(snap, key)
		}
	}
}

func (f *Filter) changed(snap api.Snapshot, key api.Key) {
	delete(f.faults, key)
	switch key.Kind {
	case api.KindTier:
		f.tier(snap, key)
	case api.KindProfile:
		f.profile(snap, key)
	case api.KindNetworkSet, api.KindGlobalNetworkSet:
		f.peer(snap, key)
	case api.KindWorkloadEndpoint:
		if p := f.own[key]; p != nil {
			f.pod(snap, p)
		} else {
			f.peer(snap, key)
		}
	case api.KindHostEndpoint:
		f.hostEndpoint(snap, key)
	case api.KindEndpointSlice:
		f.endpointSlice(snap, key)
	case api.KindFelixConfiguration:
		f.configured(snap)
	case api.KindIPPool:
		f.pools(snap)
	default:
		f.policy(snap, key)
	}
}

func (f *Filter) tier(snap api.Snapshot, key api.Key) {
	t, exists := snap.Tiers.Get(key.Name)
	if f.doubts.tier(key.Name, t); !exists {
		f.compiler.DeleteTier(key.Name)
		return
	}
	f.note(key, api.Fault(t))
	f.compiler.SetTier(policy.TierOf(t))
}

func (f *Filter) policy(snap api.Snapshot, key api.Key) {
	obj, exists := snap.Get(key)
	if !exists {
		f.compiler.DeletePolicy(policy.IDOf(key))
		return
	}
	p, err := policy.Of(obj)
	f.note(key, err)
	if p == nil {
		f.compiler.DeletePolicy(policy.IDOf(key))
	} else {
		f.compiler.SetPolicy(f.doubts.known.Policy(p))
	}
}

// profile tells of a profile, or of what stands for it where there is no object.
func (f *Filter) profile(snap api.Snapshot, key api.Key) {
	o, ok := snap.Profiles.Get(key.Name)
	f.doubts.profile(key.Name, ok && api.Hollow(o))
	if ok {
		p, err := policy.ProfileOf(o)
		f.note(key, err)
		f.compiler.SetProfile(f.doubts.known.Profile(p))
	} else if p := policy.Implied(key.Name); p != nil {
		f.compiler.SetProfile(p)
	} else {
		f.compiler.DeleteProfile(key.Name)
	}
}

// peer tells of something that rules can pick. A pod of this node is none unless Own says so: the datastore may go on
// showing one that is gone, whose address is another's by then.
func (f *Filter) peer(snap api.Snapshot, key api.Key) {
	obj, exists := snap.Get(key)
	if w, ok := obj.(*api.WorkloadEndpoint); !exists || ok && w.Spec.Node == f.hosts.node {
		f.compiler.DeletePeer(key.String())
		f.doubts.item(snap, key, policy.Item{})
		return
	}
	item := f.item(snap, obj)
	f.imply(snap, item.Parents)
	f.setPeer(snap, key, item)
}

// setPeer tells of something that rules can pick as far as its labels are known.
func (f *Filter) setPeer(snap api.Snapshot, key api.Key, item policy.Item) {
	if f.doubts.item(snap, key, item); !item.Doubt.Labelled() {
		f.compiler.DeletePeer(key.String())
	} else {
		f.compiler.SetPeer(key.String(), item)
	}
}

// pod tells of one of this node's own. What people have said of it in the datastore counts as soon as it is there. If nobody
// can read that, or what it inherits, no policy is for the pod: nothing goes to it, and nothing comes from it.
func (f *Filter) pod(snap api.Snapshot, p *Pod) {
	w, key := p.Object, p.Object.Key()
	stored, ok := snap.WorkloadEndpoints.Get(key.TableName())
	if ok && w.SameAttachment(stored) {
		said := w.DeepCopy()
		said.Labels = maps.Clone(stored.Labels)
		w = said
	}
	item := f.item(snap, w)
	if ok {
		f.note(key, api.Fault(stored))
		if api.Hollow(stored) {
			item.Doubt = policy.Hollow
		}
	}
	f.imply(snap, item.Parents)
	p.Item, p.Profiles = item, policy.Profiles(w)
	if f.setPeer(snap, key, item); !item.Doubt.Labelled() {
		f.compiler.DeleteLocal(p.ID)
		return
	}
	f.compiler.SetLocal(p.ID, compile.Local{
		Interface: w.Spec.InterfaceName, Labels: item.Labels, Parents: item.Parents, Profiles: p.Profiles,
	})
}

// imply sees to it that namespaces and service accounts without an object have their profile.
func (f *Filter) imply(snap api.Snapshot, names []string) {
	for _, name := range names {
		if _, exists := snap.Profiles.Get(name); exists || f.compiler.HasProfile(name) {
			continue
		}
		if p := policy.Implied(name); p != nil {
			f.compiler.SetProfile(p)
		}
	}
}

func (f *Filter) note(key api.Key, err error) {
	if err != nil {
		f.faults[key] = err
	}
}

// Problems says what is wrong with objects, in the order of their names.
func (f *Filter) Problems() []string {
	keys := slices.SortedFunc(maps.Keys(f.faults), func(a, b api.Key) int { return cmp.Compare(a.String(), b.String()) })
	var all []string
	for _, key := range keys {
		all = append(all, "policy: "+f.faults[key].Error())
	}
	return append(all, f.hosts.problems...)
}

// Update gives the packet filter, with what has changed since the last one.
func (f *Filter) Update() dataplane.Filter {
	changes := f.compiler.Update()
	out := dataplane.Filter{
		Chains: f.compiler.Chains(), ChangedChains: changes.Chains, Sets: f.compiler,
		ChangedSets: make(map[policy.SetKey]dataplane.SetChange, len(changes.Sets)),
	}
	for key, c := range changes.Sets {
		out.ChangedSets[key] = dataplane.SetChange(c)
	}
	return out
}
