// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"korat/api"
	"korat/policy"
	"korat/policy/compile"
)

// Pod is one of this node's pods as policies see it.
type Pod struct {
	// ID is the one that compile.Affected names it by.
	ID string
	// Object is what the node's record says of it; the Item has what people say of it, too.
	Object *api.WorkloadEndpoint
	policy.Item
	// Profiles decide where no policy does.
	Profiles []string
}

// Pods gives this node's pods by their IDs. They must not be changed.
func (f *Filter) Pods() map[string]Pod {
	all := make(map[string]Pod, len(f.own))
	for _, p := range f.own {
		all[p.ID] = *p
	}
	return all
}

// Rules is what decides on packets of this node's pods.
type Rules struct {
	Tiers    []policy.Tier
	Policies []*policy.Policy
	// ToHost is what becomes of what pods send to their own node.
	ToHost compile.ToHost
}

// Rules gives what is in force, as of the last Update. Profiles, of which there is one for each namespace, it leaves out.
func (f *Filter) Rules() Rules {
	tiers, policies := f.compiler.InForce()
	return Rules{tiers, policies, f.options.ToHost}
}

// TakeAffected gives what the Updates since the last call have affected.
func (f *Filter) TakeAffected() compile.Affected { return f.compiler.TakeAffected() }

// Size is how much there is, as of the last Update.
func (f *Filter) Size() compile.Size { return f.compiler.Size() }

// Faults is how many objects are not understood.
func (f *Filter) Faults() int { return len(f.faults) }
