// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"slices"
	"strings"
	"testing"

	"korat/api"
	"korat/policy"
	"korat/policy/compile"
	"korat/policy/explain"
)

// TestLocate sends random packets, and wants what decides by package explain to be found in the chains, and to be among
// the rules that the packet has met there.
func TestLocate(t *testing.T) {
	seed := seedOf(t)
	found := map[string]int{}
	for round := range 100 {
		w := newWalk(seed + uint64(round))
		j := w.judgement(t)
		for range 60 {
			v6 := w.IntN(2)
			from, to := j.pods[w.IntN(6)], j.pods[w.IntN(6)]
			if from.Interface == to.Interface {
				continue
			}
			end := func(p explain.Endpoint) explain.End {
				return explain.End{Node: p.Node, Interface: p.Interface, Address: p.Prefixes[v6].Addr()}
			}
			f := explain.Flow{
				From: end(from), To: end(to), Protocol: pick(w, policy.TCP, policy.UDP, policy.UDP, 4), SourcePort: j.port(w), DestinationPort: j.port(w),
			}
			switch w.IntN(20) {
			case 0:
				f.From.Address = f.To.Address
			case 1:
				f.To = explain.End{Node: from.Node, Address: hosts()[v6]}
			case 2:
				f.To, f.Leaves = explain.End{Address: prefixes("10.1.5.9/32", "fd00:5::9/128")[v6].Addr()}, "eth0"
			}
			j.locate(f, found)
			if t.Failed() {
				t.Fatalf("COMPILE_SEED=%d", seed+uint64(round))
			}
		}
	}
	for _, what := range []string{
		"a policy", "a profile", "a tier", "no profile", "a policy that allows all", "source", "vxlan", "ipip", "service", "host",
	} {
		if found[what] < 5 {
			t.Errorf("%s decided %d times, that proves little: %v", what, found[what], found)
		}
	}
}

// locate finds what decides about a flow.
func (j *judgement) locate(f explain.Flow, found map[string]int) {
	j.kernel.Trail = nil
	j.travel(&packet{
		In: f.From.Interface, Out: f.To.Interface, Source: f.From.Address, Destination: f.To.Address, Protocol: f.Protocol,
		SourcePort: f.SourcePort, DestinationPort: f.DestinationPort, Spoofed: f.From.Address == f.To.Address,
	}, f)
	for _, s := range j.world.Explain(f).Sides {
		if s.Stage != explain.Local && s.Allowed && s.Decided.Policy == nil {
			continue // what is forwarded is allowed without a rule for that
		}
		o, what := originOf(s)
		at := compile.Check{Family: api.FamilyOf(f.From.Address), Direction: s.Direction}
		if s.Stage == explain.Forwarded {
			at.Stage = policy.Forward
		}
		for _, p := range j.pods {
			if p.String() == s.Endpoint {
				at.Local = p.Name
			}
		}
		where, ok := j.compiler.Locate(at, o)
		if !ok {
			j.Errorf("%+v of %+v is nowhere", o, at)
			return
		}
		if own, _ := j.compiler.ChainAt(at); own == where.Chain && s.Decided.Policy != nil {
			what += " that allows all"
		}
		found[what]++
		rules := j.kernel.Chains[where.Chain].Rules
		if !slices.ContainsFunc(where.Rules, func(i int) bool {
			return slices.Contains(j.kernel.Trail, where.Chain.Name+": "+rules[i].String())
		}) {
			j.Errorf("%+v of %+v is said to be %v, which %v has not met:\n%s", o, at, where, f, strings.Join(j.kernel.Trail, "\n"))
		}
		if !s.Allowed {
			return
		}
	}
}

// originOf says what decided, as the compiler names it.
func originOf(s explain.Side) (o compile.Origin, what string) {
	o.Direction = s.Direction
	switch by := s.Decided; {
	case by.Policy != nil:
		o.Policy, o.Rule = *by.Policy, by.Part
		if by.Policy.Kind == policy.KindProfile {
			return o, "a profile"
		}
		return o, "a policy"
	case by.Reason == explain.ByProfiles:
		o.What = compile.ByProfiles
		return o, "no profile"
	case by.Reason != "":
		o.What = map[explain.Reason]compile.What{
			explain.BySource: compile.BySource, explain.ByVXLAN: compile.ByVXLAN, explain.ByIPIP: compile.ByIPIP,
			explain.ByService: compile.ByService, explain.ByHost: compile.ByHost,
		}[by.Reason]
		return o, string(by.Reason)
	default:
		o.What, o.Tier = compile.ByTier, by.Tier
		return o, "a tier"
	}
}
