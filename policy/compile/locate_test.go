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
			j.locate(explain.Flow{
				From: end(from), To: end(to), Protocol: pick(w, policy.TCP, policy.UDP), SourcePort: j.port(w), DestinationPort: j.port(w),
			}, found)
			if t.Failed() {
				t.Fatalf("COMPILE_SEED=%d", seed+uint64(round))
			}
		}
	}
	for _, what := range []string{"a policy", "a profile", "a tier", "no profile", "a policy that allows all"} {
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
		SourcePort: f.SourcePort, DestinationPort: f.DestinationPort,
	}, f)
	for _, s := range j.world.Explain(f).Sides {
		if s.Decided.Policy == nil && s.Decided.Tier == "" && !s.Decided.Unprofiled {
			return // a tunnel's packet, or one for a service that is not known
		}
		pod := j.pods[slices.IndexFunc(j.pods, func(p explain.Endpoint) bool { return p.String() == s.Endpoint })]
		o, what := originOf(s)
		at := compile.Check{Local: pod.Name, Family: api.FamilyOf(f.From.Address), Direction: s.Direction}
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
	case by.Unprofiled:
		o.What = compile.ByProfiles
		return o, "no profile"
	default:
		o.What, o.Tier = compile.ByTier, by.Tier
		return o, "a tier"
	}
}
