// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"net/netip"

	"korat/bgp"
	"korat/bgp/fib"
	"korat/bgp/plan"
	"korat/felix/calc"
	"korat/felix/dataplane"
)

// speak plans BGP and hands the plan to the speaker. Without a usable address the last plan stands.
func (a *Agent) speak() {
	w := &a.world
	w.problems = nil
	if w.selfErr != nil {
		return
	}
	in := plan.Input{Snapshot: w.snap, Node: a.Node, Address: w.self.Address}
	if a.Supervisor != nil {
		in.Held = a.Supervisor.Suspects()
	}
	p, problems := plan.Plan(in)
	for _, problem := range problems {
		w.problems = append(w.problems, problem.Error())
	}
	w.plan = p
	a.Speaker.Want(p, w.restarting)
}

// state computes what the kernel should hold.
func (a *Agent) state() dataplane.State {
	w := &a.world
	blocks := a.at.alloc.Blocks()
	learned, unresolved := fib.Routes(w.rib, w.host, fib.Own{Blocks: blocks, Address: w.self.Address.Addr()})
	for _, u := range unresolved {
		w.problems = append(w.problems, u.String())
	}
	w.learned = learned
	return calc.State(calc.Inputs{
		Endpoints: a.at.endpoints, Blocks: blocks, Learned: learned, Host: w.host, Uplink: w.self.Interface,
		HoldLearned: !w.rib.Complete, Settled: settled(w.plan, w.rib),
	})
}

// settled are the planned peers that have told everything: a route via one of them that the RIB does
// not hold is gone for good, even while other peers are still silent.
func settled(p bgp.Plan, rib bgp.RIB) map[netip.Addr]bool {
	if rib.Complete || !rib.Running {
		return nil
	}
	done := map[netip.Addr]bool{}
	for addr := range p.Peers {
		if s := rib.Sessions[addr]; s.Established() && s.EndOfRIB {
			done[addr] = true
		}
	}
	return done
}
