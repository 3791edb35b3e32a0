// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"net/netip"
	"sync/atomic"

	"korat/felix/calc"
	"korat/felix/dataplane"
	"korat/felix/packetlog"
	"korat/felix/revocation"
	"korat/policy/compile"
)

// enforcement is what the loop keeps of policies.
type enforcement struct {
	// filter computes the packet filter, of pods among others.
	filter *calc.Filter
	pods   pods
	// written says that the packet filter is in the kernel, but perhaps for single chains and sets.
	written bool
	// complete says that it has once been, in this run of the agent or, by the look of the kernel, in an earlier one.
	complete bool
	// owed is which established flows are to be judged anew.
	owed revocation.Owed
	// revoked is what the status shows of the Revoker.
	revoked revocation.Status
	// packets are those that rules report.
	packets *packetlog.Log
	// told says that objects have changed since the last Update, and edition is another one after each that was told
	// something; any goroutine may look at it.
	told    bool
	edition *atomic.Uint64
}

// newEnforcement owes a look at the flows of all pods: policies may have changed while no agent ran.
func newEnforcement(node string) enforcement {
	return enforcement{
		filter: calc.NewFilter(node), pods: pods{}, owed: revocation.Owed{Affected: compile.Affected{All: true}},
		edition: &atomic.Uint64{},
	}
}

// update gives the packet filter.
func (e *enforcement) update() dataplane.Filter {
	f := e.filter.Update()
	if e.told || f.Changed() {
		e.told = false
		e.edition.Add(1)
	}
	return f
}

// leave notes addresses that pods have had.
func (e *enforcement) leave(all []netip.Addr) {
	for _, addr := range all {
		e.owed.Leave(addr)
	}
}

// owes says whether there are flows to be judged anew, with what the Revoker has left undone.
func (a *Agent) owes() bool {
	e, r := &a.memos.enforcement, a.Revoker
	e.owed.Merge(r.TakeUndone())
	if !r.Standing() {
		clear(e.owed.Widened)
	}
	return !e.owed.Empty()
}

// revoked says whether a pass is called for by a Revoker that is ready again: it has more to do, or the status is to show
// what it has done.
func (a *Agent) revoked() bool {
	now, shown := a.Revoker.Status(), a.memos.revoked
	return a.owes() || now.Cut != shown.Cut || (now.Err == nil) != (shown.Err == nil)
}

// revoke has the flows judged anew that what has changed in the kernel may concern. What comes while the Revoker works
// waits until it is ready.
func (a *Agent) revoke() {
	e, r := &a.memos.enforcement, a.Revoker
	e.owed.Affected.Merge(e.filter.TakeAffected())
	if !e.written || !r.Ready() || !a.owes() {
		return
	}
	job := revocation.Job{Owed: e.owed, Node: a.Node, Pods: e.filter.Pods(), Host: a.world.host, Snapshot: a.world.snap}
	job.Adopt(job.Pods)
	e.owed = revocation.Owed{}
	if !job.Affected.Empty() {
		job.Rules, job.Hosts = e.filter.Rules(), e.filter.Hosts()
		job.Lifelines = append(revocation.Sessions(a.world.plan), a.Lifelines...)
	}
	r.Give(job)
}
