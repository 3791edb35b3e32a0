// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix"
	"korat/policy/explain"
)

// sought is a rule that the kernel has: what decides in a check, or what a staged policy would decide by.
type sought struct {
	check felix.Check
	found **explain.Located
	what  string
}

// rulesOf gives the rules of a verdict, as far as they are in chains.
func rulesOf(v *explain.Verdict, f api.Family) []sought {
	var all []sought
	for i := range v.Sides {
		s := &v.Sides[i]
		at := felix.Check{Endpoint: s.Endpoint, Node: s.Node, Direction: s.Direction, Stage: string(s.Stage), Family: f}
		for t := range s.Tiers {
			for p := range s.Tiers[t].Policies {
				if l := &s.Tiers[t].Policies[p]; l.Staged && l.Action != "" {
					c := at
					c.Policy, c.Part = &l.Policy, l.Part
					all = append(all, sought{c, &l.Located, "what " + l.Policy.String() + " would decide by"})
				}
			}
		}
		by := s.Decided
		if by.Policy == nil && by.Tier == "" && by.Reason == "" {
			continue // no rule
		}
		at.Policy, at.Part, at.Tier, at.Reason = by.Policy, by.Part, by.Tier, string(by.Reason)
		all = append(all, sought{at, &s.Decided.Located, "what decides"})
	}
	return all
}

// locate adds where in the kernel rules are: the agent on this host knows its own, and of others it is computed.
// It says where to ask for what those have counted.
func (c *ctl) locate(ctx context.Context, v *explain.Verdict, f api.Family, snap api.Snapshot) {
	rules := rulesOf(v, f)
	if len(rules) == 0 {
		return
	}
	var q felix.Question
	for _, r := range rules {
		q.Checks = append(q.Checks, r.check)
	}
	answer, err := c.askWhere(ctx, q)
	expected := felix.Expect(snap, q)
	var elsewhere []string
	for i, r := range rules {
		switch {
		case err == nil && answer.Rules[i].Number > 0:
			at := answer.Rules[i]
			*r.found = &explain.Located{
				Table: at.Table, Chain: at.Chain, Number: at.Number, Counted: &explain.Counted{Packets: at.Packets, Bytes: at.Bytes},
			}
		case err != nil || r.check.Node != answer.Node:
			elsewhere = append(elsewhere, r.check.Node)
			if at := expected[i]; at.Number > 0 {
				*r.found = &explain.Located{Table: at.Table, Chain: at.Chain, Number: at.Number, Expected: true}
			}
		default:
			v.Notes = append(v.Notes, fmt.Sprintf("the kernel of %s has no rule yet for %s on %s of %s",
				r.check.Node, r.what, r.check.Direction, r.check.Endpoint))
		}
	}
	v.Notes = append(v.Notes, ask(err, elsewhere)...)
}

// ask says where somebody knows more.
func ask(err error, nodes []string) []string {
	slices.Sort(nodes)
	nodes = slices.Compact(nodes)
	var notes []string
	var refused *socket.Error
	if err != nil && !absent(err) {
		notes = []string{"the agent here does not say where the rules are in the kernel: " + err.Error()}
		if errors.As(err, &refused) && strings.Contains(refused.Details, string(socket.VerbLocate)) {
			notes = []string{"the agent here is of an older version, and does not say where the rules are in the kernel"}
		}
	}
	if len(nodes) == 0 {
		return notes
	}
	where := "rules in the kernel and their counters are shown on the node itself: run this on " + strings.Join(nodes, " and on ")
	if absent(err) {
		where += " (no agent answers here)"
	}
	return append(notes, where)
}

// absent says whether there is no agent here at all.
func absent(err error) bool {
	var gone *noAgentError
	return errors.As(err, &gone)
}

// noAgentError is that no agent answers.
type noAgentError struct{ error }

// askWhere asks the agent on this host. It does not wait for one.
func (c *ctl) askWhere(ctx context.Context, q felix.Question) (felix.Located, error) {
	var answer felix.Located
	conn, err := socket.DialOnce(c.socket)
	var nobody *socket.Error
	if errors.As(err, &nobody) {
		return answer, &noAgentError{err}
	}
	if err != nil { // somebody, who does not speak with us
		return answer, err
	}
	defer func() { _ = conn.Close() }() // nothing depends on the goodbye
	text, err := json.Marshal(q)
	if err != nil {
		return answer, err
	}
	reply, err := conn.Call(ctx, socket.Request{Verb: socket.VerbLocate, Query: socket.Query{Question: text}})
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(reply.Status, &answer); err != nil || len(answer.Rules) != len(q.Checks) {
		return answer, errors.New("its answer is not understood: are koratctl and the agent of one version?")
	}
	return answer, nil
}

// locateOrders adds the chains in the kernel of the endpoints that are on this host.
func (c *ctl) locateOrders(ctx context.Context, orders []explain.Order) {
	ctx, cancel, err := c.limited(ctx)
	if err != nil {
		return
	}
	defer cancel()
	var q felix.Question
	for _, o := range orders {
		for _, d := range []api.PolicyType{api.Ingress, api.Egress} {
			for _, f := range api.Families() {
				q.Checks = append(q.Checks, felix.Check{Endpoint: o.Endpoint, Node: o.Node, Direction: d, Family: f})
			}
		}
	}
	answer, err := c.askWhere(ctx, q)
	if err != nil {
		return
	}
	for i, at := range answer.Rules {
		o := &orders[i/4]
		if at.Chain != "" && !slices.Contains(o.Chains, at.Chain) {
			o.Chains = append(o.Chains, at.Chain)
		}
	}
}
