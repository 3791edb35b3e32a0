// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/policytest"
)

// TestTransitions makes one change after another as the kernel does it: chains all at once, sets member by member in the
// order that is asked for, then interfaces get their groups, one after the other and not always all of them, while packets
// are half-way through the chains. The verdict on each must be the one before or the one after. COMPILE_SEED repeats a walk.
func TestTransitions(t *testing.T) {
	seed := seedOf(t)
	orders := map[policy.SetOrder]int{}
	for world := range 20 {
		w := newWalk(seed + uint64(world))
		w.options.Groups = world%4 > 0
		w.have = compile.New(w.options)
		for i := range 6 {
			w.inhabit(i)
		}
		for range 8 {
			w.changePolicy()
			w.pickPeers()
		}
		for range 4 {
			w.changePeer()
		}
		w.settle()
		for range 40 {
			w.transit(t, orders)
			if t.Failed() {
				t.Fatalf("COMPILE_SEED=%d", seed+uint64(world))
			}
		}
	}
	t.Logf("%d sets changed members one by one, %d with the chains", orders[policy.AddedFirst], orders[policy.AtOnce])
	if orders[policy.AddedFirst] < 20 || orders[policy.AtOnce] < 100 {
		t.Error("that tells little")
	}
}

// inhabit makes a pod, or gives one other labels.
func (w *walk) inhabit(i int) string {
	id := fmt.Sprint("pod", i)
	it := policy.Item{Labels: w.labels(), Parents: []string{"kns.a", "kns.b"}[i%2:][:1], Prefixes: podPrefixes(i)}
	it.Ports = some(w, 2, policy.NamedPort{Name: "http", Protocol: policy.TCP, Port: 80}, policy.NamedPort{Name: "dns", Protocol: policy.UDP, Port: 53})
	w.have.SetPeer(id, it)
	w.locals[id] = compile.Local{Interface: fmt.Sprint("cali", i), Labels: it.Labels, Parents: it.Parents, Profiles: it.Parents}
	w.have.SetLocal(id, w.locals[id])
	return fmt.Sprintf("%s = %v", id, it)
}

// pickPeers makes a policy of rules that look into sets and at nothing else.
func (w *walk) pickPeers() string {
	p := &policy.Policy{
		ID: policy.ID{Kind: policy.KindGlobal, Name: fmt.Sprint("peers", w.IntN(8))}, Tier: pick(w, "x", "y", policy.TierDefault),
		Order: float64(w.IntN(3)), Selector: w.selector(), AppliesIngress: w.IntN(3) > 0, AppliesEgress: w.IntN(2) > 0,
	}
	for _, rules := range []*[]policy.Rule{&p.Ingress, &p.Egress} {
		for range w.IntN(5) {
			s := w.selector()
			e := pick(w, policy.Entity{Selector: &s}, policy.Entity{Selector: &s}, policy.Entity{NotSelector: &s})
			r := policy.Rule{Action: pick(w, api.Allow, api.Allow, api.Deny, api.Pass), Source: e}
			if w.IntN(2) == 0 {
				r.Source, r.Destination = r.Destination, r.Source
			}
			*rules = append(*rules, r)
		}
	}
	w.policies[p.ID] = p
	w.have.SetPolicy(p)
	return fmt.Sprintf("policy %+v", *p)
}

func podPrefixes(i int) []netip.Prefix {
	return prefixes(fmt.Sprintf("10.1.%d.%d/32", i%3, i), fmt.Sprintf("fd00::%x/128", i))
}

// transit makes a change, or what several things of which none concerns another come to.
func (w *walk) transit(t *testing.T, orders map[policy.SetOrder]int) {
	before := w.state()
	did := ""
	several := 1 + w.IntN(3)
	for range several {
		switch w.IntN(9) {
		case 0, 1, 2:
			did += "; " + w.inhabit(w.IntN(6))
		case 3:
			did += "; " + w.changePeer()
		case 4:
			did += "; " + w.changeProfile()
		case 5:
			did += "; " + w.changeTier()
		case 6:
			s := policy.Service{Namespace: "a", Name: "s"}
			var behind []policy.Member
			for i := range w.IntN(4) {
				behind = append(behind, policy.Member{Prefix: podPrefixes(i)[0], Protocol: policy.TCP, Port: 80})
			}
			w.have.SetService(s, behind)
			did += "; " + fmt.Sprint("service ", behind)
		case 7:
			did += "; " + w.changePolicy()
		default:
			did += "; " + w.pickPeers()
		}
	}
	changes := w.have.Update()
	moves := w.moves()
	after := w.state()
	for name, number := range moves {
		after.groups[name] = number
	}
	for _, c := range changes.Sets {
		if !c.New && !c.Gone {
			orders[c.Order]++
		}
	}
	for range 100 {
		p := w.passing()
		old, now := before.verdict(t, p), after.verdict(t, p)
		if old != now || several > 1 && w.eitherAlone(t, before, after, p, old) {
			continue
		}
		for range 3 {
			have, trail := w.raced(t, before, after, changes, p)
			if have == old {
				continue
			}
			t.Errorf("%s: on %s\nthe verdict is %v before and after, and %v meanwhile:\n%s\n%v", did, p, old, have, strings.Join(trail, "\n"), changes.Sets)
			return
		}
	}
	w.move(t, moves, after)
}

// eitherAlone says whether a packet would have another verdict if only the members of sets, or only the chains, had changed:
// of several changes that have nothing to do with each other each may come alone.
func (w *walk) eitherAlone(t *testing.T, before, after state, p packet, verdict policytest.Fate) bool {
	first, last := state{before.chains, maps.Clone(before.sets), before.groups}, state{after.chains, maps.Clone(after.sets), after.groups}
	for name, now := range after.sets {
		if was, both := before.sets[name]; both {
			first.sets[name], last.sets[name] = now, was
		}
	}
	return first.verdict(t, p) != verdict || last.verdict(t, p) != verdict
}

// moves gives the groups that interfaces are to have instead of others.
func (w *walk) moves() map[string]uint32 {
	moves := map[string]uint32{}
	for i := range 6 {
		name := fmt.Sprint("cali", i)
		if number := w.have.Group(name); number != w.groups[name] {
			moves[name] = number
		}
	}
	return moves
}

// move gives some of the interfaces their groups, and wants the chains that follow to judge as those before, whatever
// others have got theirs already.
func (w *walk) move(t *testing.T, moves map[string]uint32, before state) {
	for _, name := range slices.Sorted(maps.Keys(moves)) {
		if w.IntN(4) > 0 {
			w.group(name, moves[name])
		}
	}
	if changes := w.have.Update(); len(changes.Sets) > 0 || len(changes.Groups) > 0 {
		t.Errorf("interfaces have got groups that they were to have, and this changes: %+v", changes)
	}
	after := w.state()
	for range 50 {
		p := w.passing()
		want := before.verdict(t, p)
		if have := after.verdict(t, p); have != want {
			t.Errorf("%s: the verdict is %v, and %v after interfaces have got groups: %v of %v", p, want, have, w.groups, moves)
			return
		}
	}
}

// state is all that packets are judged by.
type state struct {
	chains map[chain.Key]*chain.Chain
	sets   map[string][]policy.Member
	groups map[string]uint32
}

func (w *walk) state() state {
	return state{maps.Clone(w.have.Chains()), policytest.Contents(w.have), maps.Clone(w.groups)}
}

func (s state) verdict(t *testing.T, p packet) policytest.Fate {
	k := &kernel{TB: t, Chains: s.chains, Sets: s.sets, Groups: s.groups}
	return k.Through(&p, hook{Table: chain.Filter, Name: "FORWARD"})
}

// passing gives a packet between pods, or from and to somebody else.
func (w *walk) passing() packet {
	v6 := w.IntN(2)
	end := func() (string, netip.Addr) {
		if i := w.IntN(8); i < 6 {
			return fmt.Sprint("cali", i), podPrefixes(i)[v6].Addr()
		}
		return "eth9", netip.MustParseAddr(fmt.Sprintf([]string{"10.1.%d.9", "fd00:%x::9"}[v6], w.IntN(6)))
	}
	p := packet{Protocol: pick(w, policy.TCP, policy.UDP, policy.SCTP), SourcePort: uint16(w.IntN(65536)), DestinationPort: pick[uint16](w, 80, 53, 1000)}
	p.In, p.Source = end()
	p.Out, p.Destination = end()
	return p
}

// raced gives the verdict on a packet while sets change: at each look into one some more members may have come or gone.
func (w *walk) raced(t *testing.T, before, after state, changes compile.Changes, p packet) (policytest.Fate, []string) {
	now := state{before.chains, maps.Clone(before.sets), before.groups}
	late := w.IntN(2) == 0
	early, rest := w.operations(now.sets, after.sets, changes)
	if late {
		for _, do := range early {
			do()
		}
		now.chains, now.groups = after.chains, w.between(before.groups, after.groups)
		for key, c := range changes.Sets {
			if c.Order == policy.AtOnce {
				now.sets[key.Name] = after.sets[key.Name]
			}
		}
		early = slices.Concat(rest, w.regroupings(now.groups, after.groups))
	}
	some := func() {
		for n := w.IntN(3); n > 0 && len(early) > 0; n-- {
			early[0]()
			early = early[1:]
		}
	}
	for n := w.IntN(len(early) + 1); n > 0; n-- { // those that were before
		early[0]()
		early = early[1:]
	}
	k := &kernel{TB: t, Chains: now.chains, Sets: now.sets, Groups: now.groups, Between: some}
	have := k.Through(&p, hook{Table: chain.Filter, Name: "FORWARD"})
	return have, k.Trail
}

// between gives groups of which some are as they were, and others as they will be.
func (w *walk) between(before, after map[string]uint32) map[string]uint32 {
	some := maps.Clone(before)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if w.IntN(2) == 0 {
			some[name] = after[name]
		}
	}
	return some
}

// regroupings give interfaces the groups that they are to have.
func (w *walk) regroupings(groups, want map[string]uint32) (all []func()) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if groups[name] != want[name] {
			all = append(all, func() { groups[name] = want[name] })
		}
	}
	w.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// operations are what is done to the kernel's sets before the chains change, and after, in some order within each.
func (w *walk) operations(sets, want map[string][]policy.Member, changes compile.Changes) (early, late []func()) {
	for key, c := range changes.Sets {
		name := key.Name
		if c.New {
			sets[name] = want[name] // no chain looks into it yet
		}
		if c.New || c.Gone || c.Order == policy.AtOnce {
			continue
		}
		var add, remove []func()
		for _, m := range c.Added {
			add = append(add, func() { sets[name] = append(slices.Clone(sets[name]), m) })
		}
		for _, m := range c.Removed {
			remove = append(remove, func() {
				sets[name] = slices.DeleteFunc(slices.Clone(sets[name]), func(have policy.Member) bool { return have == m })
			})
		}
		if c.Order == policy.RemovedFirst {
			add, remove = remove, add
		}
		early, late = append(early, add...), append(late, remove...)
	}
	for _, all := range [][]func(){early, late} {
		w.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	return early, late
}
