// SPDX-License-Identifier: Apache-2.0

package felix

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"korat/api"
	"korat/cni-plugin/socket"
	"korat/felix/calc"
	"korat/felix/kernel"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/compile"
)

// Question asks an agent where in its kernel the rules are that decide in some checks.
type Question struct {
	Checks []Check `json:"checks"`
}

// Check is one check of an endpoint, as package explain tells of it, and what decided.
type Check struct {
	// Endpoint and Node are those of explain.Side. An agent knows nothing of other nodes.
	Endpoint  string         `json:"endpoint"`
	Node      string         `json:"node"`
	Direction api.PolicyType `json:"direction"`
	Stage     string         `json:"stage,omitempty"`
	// Family is 4 or 6.
	Family api.Family `json:"family"`
	// Policy and Part are the rule that decided, by its number in the Policy; Tier is that which ended without any; Reason
	// is that of explain.Decision. If none is given the chain alone is asked for.
	Policy *policy.ID `json:"policy,omitempty"`
	Part   int        `json:"part,omitempty"`
	Tier   string     `json:"tier,omitempty"`
	Reason string     `json:"reason,omitempty"`
}

// Located answers a Question.
type Located struct {
	Node string `json:"node"`
	// Rules has one for each check; it has no Chain where there is nothing to tell.
	Rules []LocatedRule `json:"rules"`
}

// LocatedRule is where a rule is, and what it has counted.
type LocatedRule struct {
	Table string `json:"table,omitempty"`
	Chain string `json:"chain,omitempty"`
	// Number is that of the first of the kernel's rules that stand for it, from 1; 0 if the chain alone was asked for.
	Number  int    `json:"number,omitempty"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// locate answers VerbLocate. The loop says where; what was counted the kernel is asked beside it.
func (a *Agent) locate(ctx context.Context, question json.RawMessage) socket.Reply {
	var q Question
	d := json.NewDecoder(bytes.NewReader(question))
	d.DisallowUnknownFields() // what a newer koratctl asks for must not be taken for something else
	if err := d.Decode(&q); err != nil {
		return socket.Reply{Error: &socket.Error{
			Code: socket.CodeDecodingFailure, Message: "question not understood: are koratctl and the agent of one version?", Details: err.Error(),
		}}
	}
	found, err := inquire(ctx, a, func() seats { return a.seats(q) })
	if err != nil {
		return tryAgain("locate rules", err.Error())
	}
	answer := Located{Node: a.Node, Rules: make([]LocatedRule, len(q.Checks))}
	for i, s := range found.seats {
		if answer.Rules[i], err = s.count(ctx, found.counter); err != nil {
			return tryAgain("locate rules", err.Error())
		}
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return socket.Reply{Error: &socket.Error{Code: socket.CodeInternal, Message: "locate rules", Details: err.Error()}}
	}
	return socket.Reply{Status: text}
}

// counts gives the counters of a chain's rules.
type counts func(context.Context, chain.Key) ([]kernel.RuleCounter, error)

// counter is a table of chains that can be asked for what its rules have counted.
type counter interface {
	Counter() func(context.Context, chain.Key) ([]kernel.RuleCounter, error)
}

// seats is what the loop knows of the rules that a Question is about.
type seats struct {
	seats   []seat
	counter counts
}

// seat is where the rules are that decide in a check; without a chain nobody knows.
type seat struct {
	key   chain.Key
	chain *chain.Chain
	rules []int
}

func (a *Agent) seats(q Question) seats {
	all := seats{seats: make([]seat, len(q.Checks))}
	for i, c := range q.Checks {
		all.seats[i] = seatOf(a.memos.filter, a.Node, c)
	}
	if table, ok := a.Tables.Chains.(counter); ok {
		all.counter = table.Counter()
	}
	return all
}

// seatOf finds a check's in the packet filter of a node.
func seatOf(f *calc.Filter, node string, c Check) seat {
	at, o := c.local(node, f), compile.Origin{Direction: c.Direction}
	switch {
	case c.Node != node:
		return seat{}
	case c.Policy != nil:
		o.Policy, o.Rule = *c.Policy, c.Part
	case c.Tier != "":
		o.What, o.Tier = compile.ByTier, c.Tier
	case c.Reason != "":
		var known bool
		if o.What, known = reasons()[c.Reason]; !known {
			return seat{}
		}
	default:
		key, _ := f.ChainAt(at)
		return seat{key: key}
	}
	where, held, ok := f.Locate(at, o)
	if !ok {
		return seat{}
	}
	return seat{where.Chain, held, where.Rules}
}

// reasons gives what explain.Decision's are to the compiler.
func reasons() map[string]compile.What {
	return map[string]compile.What{
		"profiles": compile.ByProfiles, "source": compile.BySource, "vxlan": compile.ByVXLAN, "ipip": compile.ByIPIP,
		"service": compile.ByService, "host": compile.ByHost,
	}
}

// local gives the check as the compiler names it; it has no Local if the endpoint is none of this node's.
func (c Check) local(node string, f *calc.Filter) compile.Check {
	at := compile.Check{Family: c.Family, Direction: c.Direction}
	switch c.Stage {
	case "forward":
		at.Stage = policy.Forward
	case "preDNAT":
		at.Stage = policy.PreDNAT
	case "untracked":
		at.Stage = policy.Untracked
	}
	if c.Node != node {
		return at
	}
	for id, p := range f.Pods() {
		if api.PodName(p.Object) == c.Endpoint {
			at.Local = id
		}
	}
	for _, h := range f.Hosts() {
		if name, is := strings.CutPrefix(c.Endpoint, "host endpoint "); is && name == h.Name {
			at.Local = h.ID
		}
	}
	return at
}

// count sums up what the rules have counted: those that only report count the same packets as those after them.
func (s seat) count(ctx context.Context, counter counts) (LocatedRule, error) {
	r := LocatedRule{Table: string(s.key.Table), Chain: s.key.Name}
	if len(s.rules) == 0 {
		return r, nil
	}
	r.Number = s.rules[0] + 1
	if counter == nil {
		return r, nil
	}
	have, err := counter(ctx, s.key)
	if err != nil {
		return r, err
	}
	for _, i := range s.rules {
		rule := s.chain.Rules[i]
		if i >= len(have) || have[i].ID != rule.ID {
			return r, fmt.Errorf("chain %s is not in the kernel as it is wanted: see koratctl node status", s.key.Name)
		}
		if rule.Action.Verb != chain.Report {
			r.Packets, r.Bytes = r.Packets+have[i].Packets, r.Bytes+have[i].Bytes
		}
	}
	return r, nil
}
