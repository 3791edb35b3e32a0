// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"korat/api"
	"korat/policy"
	"korat/policy/chain"
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

// Host is a host endpoint of this node at one of its interfaces, or at "*".
type Host struct {
	// ID is the one that compile.Affected names it by.
	ID, Name, Interface string
	policy.Item
}

// Hosts gives this node's host endpoints. They must not be changed.
func (f *Filter) Hosts() []Host {
	var all []Host
	for name, e := range f.hosts.own {
		for id, l := range f.hosts.told {
			if id == localID(e, l.Interface) {
				all = append(all, Host{id, name, l.Interface, e.Item})
			}
		}
	}
	return all
}

// Rules is what decides on packets of this node.
type Rules struct {
	Tiers    []policy.Tier
	Policies []*policy.Policy
	// Doubts are what they were made without, which are to close profiles too.
	Doubts *policy.Doubts
	// Options have what becomes of what pods send to their own node, and the failsafe ports.
	Options compile.Options
}

// Rules gives what is in force, as of the last Update. Profiles, of which there is one for each namespace, it leaves out.
func (f *Filter) Rules() Rules {
	tiers, policies := f.compiler.InForce()
	return Rules{tiers, policies, f.doubts.known.Clone(), f.options}
}

// Rule says what a report's ID stands for, as of the last Update; rule is of ByRule alone.
func (f *Filter) Rule(id string) (o compile.Origin, rule policy.Rule, known bool) {
	if o, known = f.compiler.Rule(id); known && o.What == compile.ByRule {
		rule, known = f.compiler.Says(o)
	}
	return o, rule, known
}

// ChainAt gives the chain of a check of one of this node's endpoints, as of the last Update.
func (f *Filter) ChainAt(at compile.Check) (chain.Key, bool) { return f.compiler.ChainAt(at) }

// Locate gives the rules that decide in a check, with the chain that they are in, as of the last Update.
func (f *Filter) Locate(at compile.Check, o compile.Origin) (compile.Position, *chain.Chain, bool) {
	where, ok := f.compiler.Locate(at, o)
	c := f.compiler.Chains()[where.Chain]
	return where, c, ok && c != nil
}

// TakeAffected gives what the Updates since the last call have affected.
func (f *Filter) TakeAffected() compile.Affected { return f.compiler.TakeAffected() }

// Size is how much there is, as of the last Update.
func (f *Filter) Size() compile.Size { return f.compiler.Size() }

// Faults is how many objects are not understood.
func (f *Filter) Faults() int { return len(f.faults) }
