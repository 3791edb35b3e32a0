// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"slices"
	"time"

	"korat/api"
)

// rules are what the IPAMConfiguration says about addresses, and for whom.
type rules struct {
	node string
	// agent tells this run of the node's agent from earlier ones; see lend.go.
	agent string
	now   func() time.Time
	// unreached are the families that the node has no address of.
	unreached []api.Family
	// strict: addresses are neither lent nor borrowed.
	strict   bool
	cooldown time.Duration
}

// SetFamilies says of which families the node has an address itself: without one nobody would hear of its pods'
// addresses. Of other families no block is claimed ahead of use, and those that nothing is in use of go back. Until
// it is called, the node has both.
func (a *Allocator) SetFamilies(families ...api.Family) {
	a.blocks.rules.unreached = slices.DeleteFunc(api.Families(), func(f api.Family) bool { return slices.Contains(families, f) })
}

func (r *rules) reached(f api.Family) bool { return !slices.Contains(r.unreached, f) }

// read takes in the configuration. Without one the defaults count.
func (r *rules) read(table api.Table[*api.IPAMConfiguration]) {
	r.strict, r.cooldown = true, api.DefaultIPCooldownSeconds*time.Second
	obj, ok := table.Get(api.DefaultName)
	if !ok {
		return
	}
	if s := obj.Spec.StrictAffinity; s != nil {
		r.strict = *s
	}
	if n := obj.Spec.IPCooldownSeconds; n != nil {
		r.cooldown = time.Duration(*n) * time.Second
	}
}

// released gives when an address counts as released that is now: the zero time if it needs no rest.
func (r *rules) released() time.Time {
	if r.cooldown <= 0 {
		return time.Time{}
	}
	return r.now()
}
