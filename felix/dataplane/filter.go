// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"iter"

	"korat/policy"
	"korat/policy/chain"
)

// Filter is the packet filter: its chains, and the sets that these name. Chains and Sets are the calculation's own,
// and change from one State to the next; what changed since the last one is told beside them, so that a pass costs
// that and not what they hold. A chain and its rules never change.
type Filter struct {
	Chains        map[chain.Key]*chain.Chain
	ChangedChains []chain.Key
	Sets          Sets
	ChangedSets   map[policy.SetKey]SetChange
}

// Changed says whether anything is different from the last State's.
func (f Filter) Changed() bool { return len(f.ChangedChains) > 0 || len(f.ChangedSets) > 0 }

// Sets are the sets that rules name, and who is in them.
type Sets interface {
	Sets() iter.Seq[policy.SetKey]
	Members(key policy.SetKey) iter.Seq[policy.Member]
}

// SetChange is what became of a set.
type SetChange struct {
	// New says that the set has just come to be: Added is all that is in it. Gone says that no rule names it any more.
	New, Gone      bool
	Added, Removed []policy.Member
	// Order is for sets that are neither.
	Order policy.SetOrder
}
