// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
	"korat/policy/policytest"
	"korat/policy/selector"
)

// TestAffected makes random changes, and wants each packet that was let through before and is dropped after to be among
// those that are said to be affected.
func TestAffected(t *testing.T) {
	w := newWalk(seedOf(t))
	for range 60 {
		w.change()
	}
	w.follow(w.have.Update())
	w.have.TakeAffected()
	cut := 0
	for step := range 500 {
		w.settle()
		w.have.TakeAffected()
		before, locals := w.frozen(t), maps.Clone(w.locals)
		did := pick(w, w.change, w.changePeer, w.changeRules)()
		changes := w.have.Update()
		w.follow(changes)
		affected, after := w.have.TakeAffected(), w.frozen(t)
		for range 300 {
			p, ids := w.packet(locals)
			w.concern(&p, changes)
			was, is := p, p
			if forwarded(before, &was) == dropped || forwarded(after, &is) != dropped {
				continue
			}
			cut++
			if !affected.All && !w.covered(affected, p) && w.same(locals, ids) {
				t.Fatalf("step %d: %s\n%s of %v is cut, and not said to be affected: %+v", step, did, p, ids, affected)
			}
		}
	}
	if cut < 50 {
		t.Errorf("%d packets were cut: that proves little", cut)
	}
}

// frozen gives a kernel with what there is now.
func (w *walk) frozen(t *testing.T) *kernel {
	k := &kernel{TB: t, Chains: maps.Clone(w.chains), Sets: map[string][]policy.Member{}, Groups: maps.Clone(w.groups)}
	for key, members := range w.sets {
		k.Sets[key.Name] = slices.Collect(maps.Keys(members))
	}
	return k
}

// forwarded passes a packet through the hooks of what is forwarded, or of what is for the host.
func forwarded(k *kernel, p *packet) policytest.Fate {
	if p.Out == "" {
		return k.Through(p, hook{Table: chain.Raw, Name: "PREROUTING"}, hook{Table: chain.Mangle, Name: "PREROUTING"}, hook{Table: chain.Filter, Name: "INPUT"})
	}
	return k.Through(p, hook{Table: chain.Raw, Name: "PREROUTING"}, hook{Table: chain.Mangle, Name: "PREROUTING"}, hook{Table: chain.Filter, Name: "FORWARD"})
}

// packet gives one of a pod of this node, and the IDs of the endpoints that it meets.
func (w *walk) packet(locals map[string]compile.Local) (packet, []string) {
	p := packet{
		In: "eth0", Out: pick(w, "eth0", ""), Protocol: pick(w, policy.TCP, policy.UDP), SourcePort: uint16(w.IntN(60000)),
		DestinationPort: pick[uint16](w, 80, 53, 1005, uint16(w.IntN(60000))),
	}
	address := func(v6 bool) netip.Addr {
		if v6 {
			return netip.MustParseAddr(fmt.Sprintf("fd00::%x", w.IntN(6)))
		}
		return netip.MustParseAddr(fmt.Sprintf("10.1.%d.%d", w.IntN(6), w.IntN(6)))
	}
	v6 := w.IntN(2) == 0
	p.Source, p.Destination = address(v6), address(v6)
	pods := slices.Sorted(maps.Keys(locals))
	pods = slices.DeleteFunc(pods, func(id string) bool { return locals[id].Host })
	var ids []string
	if w.IntN(3) > 0 && len(pods) > 0 {
		ids = append(ids, pick(w, pods...))
		p.In = locals[ids[0]].Interface
	}
	if w.IntN(3) > 0 && len(pods) > 0 {
		ids = append(ids, pick(w, pods...))
		p.Out = locals[ids[len(ids)-1]].Interface
	}
	// Several may claim an interface.
	for _, id := range pods {
		if device := locals[id].Interface; (device == p.In || device == p.Out) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return p, ids
}

// same says whether the endpoints are still there and at their interfaces.
func (w *walk) same(before map[string]compile.Local, ids []string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool {
		now, exists := w.locals[id]
		return !exists || now.Interface != before[id].Interface
	})
}

// changeRules gives a policy other rules, and nothing else.
func (w *walk) changeRules() string {
	ids := slices.SortedFunc(maps.Keys(w.policies), policy.ID.Compare)
	if len(ids) == 0 {
		return "nothing"
	}
	p := *w.policies[pick(w, ids...)]
	p.Ingress, p.Egress = w.rules(), w.rules()
	w.policies[p.ID] = &p
	w.have.SetPolicy(&p)
	return fmt.Sprintf("rules of %+v", p)
}

// concern gives the packet, if it can be, an address that a set has gained or lost.
func (w *walk) concern(p *packet, changes compile.Changes) {
	for key, c := range changes.Sets {
		for _, m := range slices.Concat(c.Added, c.Removed) {
			if m.Prefix.IsValid() && key.Family == api.FamilyOf(p.Source) && w.IntN(3) == 0 {
				p.Source = m.Prefix.Addr()
			} else if m.Prefix.IsValid() && key.Family == api.FamilyOf(p.Source) && w.IntN(3) == 0 {
				p.Destination = m.Prefix.Addr()
			}
		}
	}
}

func (w *walk) covered(a compile.Affected, p packet) bool {
	for id := range a.Locals {
		// A host endpoint may be that for all interfaces.
		if l := w.locals[id]; l.Host || l.Interface == p.In || l.Interface == p.Out {
			return true
		}
	}
	for prefix := range a.Narrowed {
		if prefix.Contains(p.Source) || prefix.Contains(p.Destination) {
			return true
		}
	}
	return false
}

// TestAffectedIsLittle holds what single changes affect, and that no more is said.
func TestAffectedIsLittle(t *testing.T) {
	label := func(text string) *selector.Selector {
		s := must(selector.Parse(text))
		return &s
	}
	local := func(name string, labels ...string) compile.Local {
		l := compile.Local{Interface: "cali" + name, Profiles: []string{"kns.a"}, Labels: map[string]string{}}
		for _, key := range labels {
			l.Labels[key] = "x"
		}
		return l
	}
	item := func(address string, labels ...string) policy.Item {
		return policy.Item{Prefixes: prefixes(address), Labels: local("", labels...).Labels}
	}
	web := func(action api.Action, negated bool) *policy.Policy {
		p := ruled("web", policy.Rule{Action: action})
		p.Selector = *label("has(web)")
		p.Ingress[0].Source.Selector = label("has(peer)")
		if negated {
			p.Ingress[0].Source.Selector, p.Ingress[0].Source.NotSelector = nil, label("has(peer)")
		}
		return p
	}
	for name, c := range map[string]struct {
		before, change func(c *compile.Compiler)
		want           string
	}{
		"nothing":     {change: func(*compile.Compiler) {}},
		"a pod comes": {change: func(c *compile.Compiler) { c.SetLocal("new", local("new", "web")) }},
		"a pod goes":  {change: func(c *compile.Compiler) { c.DeleteLocal("web1") }},
		"a pod has another policy": {
			change: func(c *compile.Compiler) { c.SetLocal("other", local("other", "web")) }, want: "other",
		},
		"a policy has other rules": {
			change: func(c *compile.Compiler) { c.SetPolicy(web(api.Deny, false)) }, want: "web1 web2",
		},
		"a policy goes":       {change: func(c *compile.Compiler) { c.DeletePolicy(web(api.Allow, false).ID) }, want: "web1 web2"},
		"a tier denies":       {change: func(c *compile.Compiler) { c.SetTier(policy.Tier{Name: policy.TierDefault, Default: api.Pass}) }, want: "web1 web2"},
		"a peer comes":        {change: func(c *compile.Compiler) { c.SetPeer("p2", item("10.0.0.2/32", "peer")) }, want: "wider 10.0.0.2/32"},
		"a peer goes":         {change: func(c *compile.Compiler) { c.DeletePeer("p1") }, want: "narrower 10.0.0.1/32"},
		"nobody's peer comes": {change: func(c *compile.Compiler) { c.SetPeer("p2", item("10.0.0.2/32")) }},
		"a peer comes that is denied": {
			before: func(c *compile.Compiler) { c.SetPolicy(web(api.Deny, false)) },
			change: func(c *compile.Compiler) { c.SetPeer("p2", item("10.0.0.2/32", "peer")) }, want: "narrower 10.0.0.2/32",
		},
		"a peer comes that is an exception": {
			before: func(c *compile.Compiler) { c.SetPolicy(web(api.Allow, true)) },
			change: func(c *compile.Compiler) { c.SetPeer("p2", item("10.0.0.2/32", "peer")) }, want: "narrower 10.0.0.2/32",
		},
		"a peer comes again that is allowed": {
			before: func(c *compile.Compiler) {
				c.SetPolicy(web(api.Deny, false))
				c.Update()
				c.SetPolicy(web(api.Allow, false))
			},
			change: func(c *compile.Compiler) { c.SetPeer("p2", item("10.0.0.2/32", "peer")) }, want: "wider 10.0.0.2/32",
		},
		"options": {change: func(c *compile.Compiler) { c.SetOptions(compile.Options{Families: api.Families()}) }, want: "all"},
		"a host endpoint": {
			change: func(c *compile.Compiler) { c.SetLocal("host", compile.Local{Host: true, Interface: "eth0"}) }, want: "all",
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := compile.New(compile.Options{Families: []api.Family{api.IPv4}})
			k.SetProfile(policy.Implied("kns.a"))
			for _, name := range []string{"web1", "web2"} {
				k.SetLocal(name, local(name, "web"))
			}
			k.SetLocal("other", local("other"))
			k.SetPolicy(web(api.Allow, false))
			k.SetPeer("p1", item("10.0.0.1/32", "peer"))
			if c.before != nil {
				c.before(k)
			}
			k.Update()
			k.TakeAffected()
			c.change(k)
			k.Update()
			a := k.TakeAffected()
			if diff := cmp.Diff(c.want, a.String()); diff != "" {
				t.Errorf("have (+) is not want (-):\n%s", diff)
			}
			if again := k.TakeAffected(); !again.Empty() || a.Empty() != (c.want == "") {
				t.Errorf("taken twice: %v", again)
			}
		})
	}
}

// TestSizeCounted counts by the chains and sets.
func TestSizeCounted(t *testing.T) {
	w := newWalk(seedOf(t))
	var most compile.Size
	for range 300 {
		w.change()
		w.follow(w.have.Update())
		want := compile.Size{Chains: len(w.chains), Sets: len(w.sets)}
		for _, c := range w.chains {
			want.Rules += len(c.Rules) + len(c.Last)
		}
		for _, s := range w.sets {
			want.Members += len(s)
		}
		active := map[policy.ID]bool{}
		for id := range w.locals {
			applied, _ := w.have.Applied(id)
			for _, tier := range applied.Tiers {
				for _, p := range tier.Policies {
					active[p.ID] = true
				}
			}
		}
		want.Policies = len(active)
		if have := w.have.Size(); have != want {
			t.Fatalf("have %+v, want %+v", have, want)
		}
		most.Policies, most.Members = max(most.Policies, want.Policies), max(most.Members, want.Members)
	}
	if most.Policies == 0 || most.Members == 0 {
		t.Errorf("there was little to count: %+v", most)
	}
}
