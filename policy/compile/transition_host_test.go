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

// TestTablesOneByOne makes one change after another as the kernel does it where several tables change: one after the other,
// while packets are on their way. The verdict on each must be the one before or the one after. COMPILE_SEED repeats a walk.
func TestTablesOneByOne(t *testing.T) {
	seed := seedOf(t)
	changes := 0
	for world := range 20 {
		w := newWalk(seed + uint64(world))
		w.options.Groups = world%2 == 0
		w.have = compile.New(w.options)
		for i := range crowd {
			w.inhabit(i)
		}
		for range 10 {
			w.changePolicy()
			w.pickPeers()
			w.hostEndpoint()
		}
		w.settle()
		for range 40 {
			changes += w.tables(t)
			if t.Failed() {
				t.Fatalf("COMPILE_SEED=%d", seed+uint64(world))
			}
		}
	}
	t.Logf("%d changes of several tables", changes)
	if changes < 100 {
		t.Error("that tells little")
	}
}

// crowd is how many pods there are: too many for one chain that tells them apart.
const crowd = 12

// hostEndpoint makes one, changes one or takes one away.
func (w *walk) hostEndpoint() string {
	name := pick(w, "eth0", "eth1", "*")
	if _, there := w.locals[name]; there && w.IntN(4) == 0 {
		delete(w.locals, name)
		w.have.DeleteLocal(name)
		return "no host endpoint " + name
	}
	l := compile.Local{Interface: name, Host: true, Labels: w.labels(), Parents: some(w, 1, "kns.a", "other")}
	l.Profiles = l.Parents
	w.locals[name] = l
	w.have.SetLocal(name, l)
	return fmt.Sprintf("host endpoint %v", l)
}

// changeFailsafes changes which ports are always open.
func (w *walk) changeFailsafes() string {
	ports := func() []compile.Failsafe {
		return some(w, 3, compile.Failsafe{Protocol: policy.TCP, Port: 80}, compile.Failsafe{Protocol: policy.UDP, Port: 53},
			compile.Failsafe{Protocol: policy.TCP, Port: 1000, Net: netip.MustParsePrefix("10.1.0.0/22")}, compile.Failsafe{Protocol: policy.UDP, Port: 1000})
	}
	w.options.FailsafeIn, w.options.FailsafeOut = ports(), ports()
	if w.IntN(4) == 0 {
		w.options.Families = pick(w, api.Families(), []api.Family{api.IPv4}, []api.Family{api.IPv6})
	}
	w.have.SetOptions(w.options)
	return fmt.Sprintf("failsafe ports %v and %v, %v", w.options.FailsafeIn, w.options.FailsafeOut, w.options.Families)
}

// tables makes changes, and says how many times several tables of the kernel changed, which is once at most.
func (w *walk) tables(t *testing.T) int {
	before := w.state()
	did, several := "", 1+w.IntN(3)
	for range several {
		did += "; " + pick(w, w.changeFailsafes, w.somebody, w.hostEndpoint, w.changePolicy, w.changePolicy, w.pickPeers, w.changeTier, w.changePeer, w.changeProfile)()
	}
	changes := w.have.Update()
	after := w.state()
	states := tableByTable(before, after, changes)
	for i, s := range slices.Concat([]state{before}, states)[:len(states)] {
		follows(t, s.chains, states[i].chains, i == len(states)-1)
	}
	w.settle()
	if len(states) < 2 || several > 1 && slices.ContainsFunc(slices.Collect(maps.Values(changes.Sets)), func(c compile.SetChange) bool { return !c.New && !c.Gone }) {
		return 0 // of what has nothing to do with each other each may come alone: TestTransitions is about that
	}
	for range 150 {
		j := w.journey()
		old, tracked, _ := before.travel(t, j)
		now, still, _ := after.travel(t, j)
		if old != now || old != dropped && j.State != "" && tracked != still {
			continue // any is right, or a connection is known no more, or not yet: other endpoints judge its packets anew
		}
		for i, s := range states {
			if have, _, trail := s.travel(t, j); have != old {
				t.Errorf("%s: on %s by %v\nits fate is %v before and after, and %v in state %d of %d:\n%s", did, j.packet, j.hooks, old, have, i+1, len(states), strings.Join(trail, "\n"))
				return 1
			}
		}
	}
	return 1
}

// tableByTable gives the states that the kernel passes through while its tables change, without the first, and with the last.
func tableByTable(before, after state, changes compile.Changes) []state {
	sets, copies := maps.Clone(before.sets), map[string]string{}
	for key, c := range changes.Sets {
		switch name := key.Name; {
		case c.New:
			sets[name] = after.sets[name]
		case c.Gone:
		case c.Order == policy.AtOnce:
			copies[name] = name + "'"
			sets[name+"'"] = after.sets[name]
		case c.Order == policy.AddedFirst:
			sets[name] = slices.Concat(sets[name], c.Added)
		default:
			sets[name] = slices.DeleteFunc(slices.Clone(sets[name]), func(m policy.Member) bool { return slices.Contains(c.Removed, m) })
		}
	}
	want, changed := maps.Clone(after.chains), slices.Clone(changes.Chains)
	for key, c := range after.chains {
		if other := c.Elsewhere(copies); other != nil {
			want[key] = other
			changed = append(changed, key)
		}
	}
	var states []state
	for _, chains := range compile.Transition(before.chains, want, changed) {
		states = append(states, state{chains, sets, before.groups})
	}
	return append(states, state{want, sets, before.groups})
}

// follows wants a state to be closed, and one table to differ from the state before, unless it is the last one.
func follows(t *testing.T, before, now map[chain.Key]*chain.Chain, last bool) {
	t.Helper()
	tables := map[chain.Table]bool{}
	for key, c := range now {
		if len(key.Name) > chain.MaxName {
			t.Errorf("%s: the name is too long", key)
		}
		if had := before[key]; had == nil || !had.Equal(c) {
			tables[key.Table] = true
		}
		for to := range c.Uses {
			if now[chain.Key{Family: key.Family, Table: key.Table, Name: to}] == nil || to == key.Name {
				t.Errorf("%s leads to %s", key, to)
			}
		}
	}
	for key := range before {
		if now[key] == nil {
			tables[key.Table] = true
		}
	}
	if len(tables) != 1 && !last {
		t.Errorf("these tables change at once: %v", tables)
	}
}

// somebody is a pod that comes, goes, or has other labels.
func (w *walk) somebody() string {
	i := w.IntN(crowd)
	id := fmt.Sprint("pod", i)
	if _, there := w.locals[id]; there && w.IntN(3) == 0 {
		delete(w.locals, id)
		w.have.DeleteLocal(id)
		return "no " + id
	}
	return w.inhabit(i)
}

// journey is a packet, and the hooks that it passes.
type journey struct {
	packet
	hooks []hook
}

func (w *walk) journey() journey {
	v6 := w.IntN(2)
	end := func() (string, netip.Addr) {
		if i := w.IntN(2 * crowd); i < crowd {
			return fmt.Sprint("cali", i), podPrefixes(i)[v6].Addr()
		}
		return pick(w, "eth0", "eth1", "eth9"), netip.MustParseAddr(fmt.Sprintf([]string{"10.1.%d.9", "fd00:%x::9"}[v6], w.IntN(6)))
	}
	p := packet{Protocol: pick(w, policy.TCP, policy.UDP, policy.SCTP), SourcePort: pick[uint16](w, 80, 53, 40000), DestinationPort: pick[uint16](w, 80, 53, 1000, 2000)}
	p.In, p.Source = end()
	p.Out, p.Destination = end()
	p.Mark = pick[uint32](w, 0, 0x10000, 0x20000, 0x30000)
	p.State = pick(w, "", "", "", "ESTABLISHED")
	raw, mangle := hook{Table: chain.Raw, Name: "PREROUTING"}, hook{Table: chain.Mangle, Name: "PREROUTING"}
	switch w.IntN(3) {
	case 0:
		p.Out, p.Destination = "", hosts()[v6]
		return journey{p, []hook{raw, mangle, {Table: chain.Filter, Name: "INPUT"}}}
	case 1:
		p.In, p.Source = "", hosts()[v6]
		p.Translated = w.IntN(2) == 0
		return journey{p, []hook{{Table: chain.Raw, Name: "OUTPUT"}, {Table: chain.Filter, Name: "OUTPUT"}, {Table: chain.Mangle, Name: "POSTROUTING"}}}
	}
	return journey{p, []hook{raw, mangle, {Table: chain.Filter, Name: "FORWARD"}, {Table: chain.Mangle, Name: "POSTROUTING"}}}
}

// travel gives a packet's fate in filter, or that another table drops it, whether its connection is tracked, and by
// which rules it came.
func (s state) travel(t *testing.T, j journey) (have policytest.Fate, tracked bool, trail []string) {
	k := &kernel{TB: t, Chains: s.chains, Sets: s.sets, Groups: s.groups, Local: hosts()}
	p := j.packet
	for _, h := range j.hooks {
		p.Out = j.Out
		if h.Name == "PREROUTING" { // there is no route yet
			p.Out = ""
		}
		switch f := k.Through(&p, h); {
		case f == dropped:
			return dropped, !p.Untracked, k.Trail
		case h.Table == chain.Filter:
			have = f
		}
	}
	return have, !p.Untracked, k.Trail
}
