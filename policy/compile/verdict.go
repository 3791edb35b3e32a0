// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/selector"
)

// What is why a packet was reported.
type What uint8

// The reasons.
const (
	// ByRule is a rule of a policy or profile.
	ByRule What = iota
	// ByTier is the end of a tier in which policies apply, none of which decided.
	ByTier
	// ByProfiles is the end of the profiles.
	ByProfiles
	// ByInterface is that no endpoint is known at the packet's interface.
	ByInterface
	// BySource is that the packet's source is none of the endpoint's addresses.
	BySource
	// ByVXLAN and ByIPIP are that an endpoint sends what a tunnel's end would unpack.
	ByVXLAN
	ByIPIP
	// ByService is that it is for a service that nobody knows.
	ByService
	// ByHost is that the host takes nothing from its own endpoints.
	ByHost
	// ByRevocation is that the packet's connection was allowed, and is not any more.
	ByRevocation
)

// Origin is what has made a rule in a chain.
type Origin struct {
	What What
	// Direction is that of the endpoint; of ByRevocation, which is of both, it is empty.
	Direction api.PolicyType
	// Policy and Rule, its index in the direction, are of ByRule; Tier is of ByTier.
	Policy policy.ID
	Rule   int
	Tier   string
}

// verdictLength is how long the IDs in reports are.
const verdictLength = 16

// verdict gives the ID of what is no rule of a policy.
func (o Origin) verdict() string {
	return hash(verdictLength, strconv.Itoa(int(o.What)), string(o.Direction), o.Tier)
}

// verdicts gives IDs to the rules of one direction that packets are reported of, and "" to others: by what they say, and
// not by their numbers, so that a rule which moves keeps its own.
func (s *source) verdicts(d api.PolicyType) []string {
	rules := s.rules(d)
	all := make([]string, len(rules))
	seen := map[string]int{}
	for i := range rules {
		if !s.reports(rules[i].Action) {
			continue
		}
		text := signature(&rules[i])
		all[i] = hash(verdictLength, string(s.id.Kind), s.id.Namespace, s.id.Name, string(d), text, strconv.Itoa(seen[text]))
		seen[text]++
	}
	return all
}

// reports says whether packets are reported that a rule with this action applies to.
func (s *source) reports(a api.Action) bool { return s.staged() || a != api.Allow && a != api.Pass }

// signature writes all of a rule that matters to packets.
func signature(r *policy.Rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %d %d", r.Action, r.Family, r.Protocol, r.NotProtocol)
	for _, t := range []*policy.ICMPType{r.ICMP, r.NotICMP} {
		if t != nil {
			fmt.Fprintf(&b, " icmp %d/%d", t.Type, t.Code)
		}
		b.WriteString(";")
	}
	for _, e := range []*policy.Entity{&r.Source, &r.Destination} {
		fmt.Fprintf(&b, "%v %v %v %v %q %q;", e.Nets, e.NotNets, e.Ports, e.NotPorts, e.NamedPorts, e.NotNamedPorts)
		for _, s := range []*selector.Selector{e.Selector, e.NotSelector} {
			if s != nil {
				fmt.Fprintf(&b, "%q", s)
			}
			b.WriteString(";")
		}
		if e.Service != nil {
			fmt.Fprintf(&b, "%q", *e.Service)
		}
	}
	return b.String()
}

// Rule says what a report's ID stands for, as of the last Update.
func (c *Compiler) Rule(verdict string) (Origin, bool) {
	if o, known := c.verdicts[verdict]; known {
		return o, true
	}
	for _, o := range []Origin{spoofed, vxlan, inIP, loop, hostShut, cut} {
		if o.verdict() == verdict {
			return o, true
		}
	}
	for _, d := range directions() {
		for _, o := range []Origin{{What: ByInterface, Direction: d}, {What: ByProfiles, Direction: d}} {
			if o.verdict() == verdict {
				return o, true
			}
		}
		for _, s := range c.policies {
			if o := (Origin{What: ByTier, Direction: d, Tier: s.policy.Tier}); o.verdict() == verdict {
				return o, true
			}
		}
	}
	return Origin{}, false
}

// Position is where a rule of a policy or profile is in the kernel: the numbers, from 0, of its rules in a chain.
type Position struct {
	Chain chain.Key
	Rules []int
}

// Where gives the positions of a rule. There are none of a rule that can match nothing, of rules that no packet
// reaches, and of policies that allow or pass everything: the chains of endpoints say that themselves.
func (c *Compiler) Where(id policy.ID, d api.PolicyType, index int) []Position {
	s := c.policies[id.String()]
	if id.Kind == policy.KindProfile {
		s = c.profiles[id.Name]
	}
	if s == nil {
		return nil
	}
	var all []Position
	for _, f := range c.options.Families {
		l := s.lists[slot{f, d}]
		if l == nil {
			continue
		}
		var rules []int
		for i, origin := range l.origins {
			if origin == index {
				rules = append(rules, i)
			}
		}
		for _, table := range slices.Sorted(maps.Keys(l.refs)) {
			if len(rules) > 0 {
				all = append(all, Position{chain.Key{Family: f, Table: table, Name: l.name}, rules})
			}
		}
	}
	return all
}
