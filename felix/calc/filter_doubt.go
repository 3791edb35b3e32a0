// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"korat/api"
	"korat/policy"
)

// doubts are what is not known, and what rules were made without.
type doubts struct {
	known policy.Doubts
	// stale says that others are known by now than rules were made with.
	stale bool
	// profiles are those of which nothing is known, and unlabelled says that they are others than when somebody's labels were
	// looked at.
	profiles   map[string]struct{}
	unlabelled bool
}

func (d *doubts) tier(name string, t *api.Tier) {
	if d.known.Tier(name, t) {
		d.stale = true
	}
}

func (d *doubts) item(snap api.Snapshot, key api.Key, it policy.Item) {
	if d.known.Item(snap, key, it) {
		d.stale = true
	}
}

// profile notes whether nothing is known of a profile, and so not which labels others have.
func (d *doubts) profile(name string, hollow bool) {
	if _, was := d.profiles[name]; was == hollow {
		return
	}
	d.unlabelled = true
	if !hollow {
		delete(d.profiles, name)
		return
	}
	if d.profiles == nil {
		d.profiles = map[string]struct{}{}
	}
	d.profiles[name] = struct{}{}
}

// item gives what rules know of an object.
func (f *Filter) item(snap api.Snapshot, obj api.Object) policy.Item {
	item, err := policy.ItemOf(obj)
	f.note(obj.Key(), err)
	if len(f.doubts.profiles) > 0 {
		item.Inherit(snap)
	}
	return item
}

func (d *doubts) slice(key api.Key, s policy.Service, missing bool) {
	if d.known.Slice(key, s, missing) {
		d.stale = true
	}
}

// ruled says whether objects of a kind that a Filter heeds are policies.
func ruled(k api.Kind) bool {
	switch k {
	case api.KindNetworkPolicy, api.KindGlobalNetworkPolicy, api.KindKubernetesNetworkPolicy, api.KindClusterNetworkPolicy,
		api.KindStagedNetworkPolicy, api.KindStagedGlobalNetworkPolicy:
		return true
	default:
		return false
	}
}

// reconsider makes the rules anew of all policies and profiles whose keys are not given, if others are in doubt now than
// when they were made.
func (f *Filter) reconsider(snap api.Snapshot, keys map[api.Key]struct{}) {
	f.relabel(snap, keys)
	if !f.doubts.stale {
		return
	}
	f.doubts.stale = false
	for _, kind := range api.Kinds() {
		if !ruled(kind) && kind != api.KindProfile {
			continue
		}
		for obj := range snap.Objects(kind) {
			key := obj.Key()
			if _, anyway := keys[key]; !anyway || kind == api.KindProfile {
				f.changed(snap, key)
			}
		}
	}
}

// relabel looks again at those who may have other labels than it is known, as profiles have changed.
func (f *Filter) relabel(snap api.Snapshot, keys map[api.Key]struct{}) {
	if f.doubts.unlabelled {
		f.doubts.unlabelled = false
		for _, kind := range []api.Kind{api.KindNetworkSet, api.KindGlobalNetworkSet, api.KindHostEndpoint, api.KindWorkloadEndpoint} {
			for obj := range snap.Objects(kind) {
				f.changed(snap, obj.Key())
			}
		}
		for _, p := range f.own {
			f.pod(snap, p)
		}
		return
	}
	if f.doubts.known.None() || !changedProfile(keys) {
		return
	}
	for _, key := range f.doubts.known.Items() {
		f.changed(snap, key)
	}
}

func changedProfile(keys map[api.Key]struct{}) bool {
	for key := range keys {
		if key.Kind == api.KindProfile {
			return true
		}
	}
	return false
}
