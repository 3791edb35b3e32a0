// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"korat/api"
	"korat/bgp"
	"korat/bgp/fib"
	"korat/bgp/plan"
	"korat/felix/calc"
	"korat/felix/dataplane"
)

// planned is a part of the plan with what could not be made sense of.
type planned[T any] struct {
	part     T
	problems []string
}

// sessionInputs is what the plan's sessions depend on.
type sessionInputs struct {
	nodes          api.Table[*api.Node]
	configurations api.Table[*api.BGPConfiguration]
	peers          api.Table[*api.BGPPeer]
	addresses      api.Addresses
	held           uint64
}

// originInputs is what the plan's origins depend on.
type originInputs struct {
	pools      api.Table[*api.IPPool]
	affinities api.Table[*api.BlockAffinity]
	blocks     api.Table[*api.IPAMBlock]
	addresses  api.Addresses
	subnets    uint64
	borrowed   uint64
}

// speak plans BGP and hands the plan to the speaker. Without a usable address the last plan stands; trouble
// with one family's address is none of the other's.
func (a *Agent) speak() {
	w, m, subnets := &a.world, &a.memos.plan, &a.memos.subnets
	w.problems = nil
	if a.world.registration.usurped() || !w.reachable() {
		return
	}
	in := plan.Input{Snapshot: w.snap, Node: a.Node, Addresses: w.own(), Connected: subnets.connected(), Borrowed: a.at.alloc.Borrowed()}
	if a.Supervisor != nil {
		in.Held = a.Supervisor.Suspects()
	}
	s := m.sessions.get(sessionInputs{
		w.snap.Nodes, w.snap.BGPConfigurations, w.snap.BGPPeers, in.Addresses, m.held.of(in.Held, maps.Equal),
	}, func() planned[bgp.Plan] {
		p, problems := plan.Sessions(in)
		return planned[bgp.Plan]{p, texts(problems)}
	})
	o := m.origins.get(originInputs{
		w.snap.IPPools, w.snap.BlockAffinities, w.snap.IPAMBlocks, in.Addresses, subnets.local.number,
		m.borrowed.of(in.Borrowed, slices.Equal),
	}, func() planned[map[netip.Prefix]struct{}] {
		origins, problems := plan.Origins(in)
		return planned[map[netip.Prefix]struct{}]{origins, texts(problems)}
	})
	w.problems = slices.Concat(s.problems, o.problems)
	if now := [2]uint64{m.sessions.generation, m.prefixes.of(o.part, maps.Equal)}; m.told != now {
		m.told = now
		w.plan = s.part
		w.plan.Origins = o.part
		a.Speaker.Want(w.plan, w.restarting)
	}
}

func texts(errs []error) []string {
	all := make([]string, len(errs))
	for i, err := range errs {
		all[i] = err.Error()
	}
	return all
}

// learned is what BGP gave: routes, and what could not become one.
type learned struct {
	routes   map[dataplane.RouteKey]dataplane.Route
	problems []string
}

// learnedInputs is what the learned routes depend on.
type learnedInputs struct {
	rib, host, blocks, lent uint64
	addresses               api.Addresses
}

// stateInputs is what the wanted state depends on.
type stateInputs struct {
	learned, host, blocks, endpoints, settled uint64
	uplink                                    string
	addresses                                 api.Addresses
	hold                                      bool
}

// conflictInputs is what a conflict over one of the node's addresses depends on.
type conflictInputs struct {
	nodes   api.Table[*api.Node]
	pools   api.Table[*api.IPPool]
	address netip.Prefix
}

// plans are the parts of the last plan.
type plans struct {
	sessions memo[sessionInputs, planned[bgp.Plan]]
	origins  memo[originInputs, planned[map[netip.Prefix]struct{}]]
	held     version[map[netip.Addr]string]
	prefixes version[map[netip.Prefix]struct{}]
	borrowed version[[]netip.Addr]
	// told are the generation of sessions and the version of the prefixes that the speaker was given.
	told [2]uint64
}

// memos are the results of earlier passes.
type memos struct {
	conflict perFamily[memo[conflictInputs, error]]
	subnets  subnets

	plan plans

	learned memo[learnedInputs, learned]
	state   memo[stateInputs, dataplane.State]

	host    version[dataplane.Host]
	blocks  version[[]netip.Prefix]
	lent    version[[]netip.Addr]
	settled version[map[netip.Addr]bool]
	// endpoints counts the changes of the record, as far as what is Ready is concerned.
	endpoints uint64

	thrift thrift
	enforcement
}

// state computes what the kernel should hold; fresh says that it is not what the last pass had.
func (a *Agent) state(ctx context.Context) (state dataplane.State, fresh bool, err error) {
	if err := a.lookAtLinks(ctx); err != nil {
		return state, false, err
	}
	w, m := &a.world, &a.memos
	blocks, lent := a.at.alloc.Blocks(), a.at.alloc.Lent()
	host, own := m.host.of(w.host, dataplane.Host.Equal), m.blocks.of(blocks, slices.Equal)
	l := m.learned.get(learnedInputs{w.rib.Generation, host, own, m.lent.of(lent, slices.Equal), w.own()}, func() learned {
		routes, left := fib.Routes(w.rib, w.host, fib.Own{Blocks: blocks, Lent: lent, Addresses: w.own().All()})
		l := learned{routes: routes}
		for _, u := range left {
			l.problems = append(l.problems, u.String())
		}
		return l
	})
	w.learned, w.problems = l.routes, append(w.problems, l.problems...)
	if a.at.remade {
		m.endpoints++
		a.at.remade = false
	}
	done, before := settled(w.plan, w.rib), m.state.generation
	state = m.state.get(stateInputs{
		m.learned.generation, host, own, m.endpoints, m.settled.of(done, maps.Equal), w.self.ipv4.Interface, w.own(), !w.rib.Complete,
	}, func() dataplane.State {
		return calc.State(calc.Inputs{
			Endpoints: a.at.endpoints, Blocks: blocks, Addresses: w.own(), Learned: l.routes, Host: w.host, Uplink: w.self.ipv4.Interface,
			HoldLearned: !w.rib.Complete, Settled: done,
		})
	})
	state.Filter = a.packetFilter(ctx)
	links, regrouped := a.links().grouped(state.Links, m.filter)
	state.Links = links
	return state, m.state.generation != before || state.Filter.Changed() || regrouped, nil
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
