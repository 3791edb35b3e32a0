// SPDX-License-Identifier: Apache-2.0

package show

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"korat/api"
	"korat/policy"
	"korat/policy/chain"
	"korat/policy/explain"
)

// Explained is a flow and what becomes of it.
type Explained struct {
	From            Party           `json:"from"`
	To              Party           `json:"to"`
	Protocol        string          `json:"protocol"`
	SourcePort      uint16          `json:"sourcePort,omitempty"`
	DestinationPort uint16          `json:"destinationPort,omitempty"`
	ICMP            *ICMPMessage    `json:"icmp,omitempty"`
	Verdict         explain.Verdict `json:"verdict"`
}

// Party is one end of a flow. Name and Node are empty outside of the cluster.
type Party struct {
	Name    string     `json:"name,omitempty"`
	Node    string     `json:"node,omitempty"`
	Address netip.Addr `json:"address"`
}

// ICMPMessage is a type of ICMP messages and its code.
type ICMPMessage struct {
	Type uint8 `json:"type"`
	Code int16 `json:"code"`
}

// Explain asks the World about a flow.
func Explain(w *explain.World, f explain.Flow) Explained {
	e := Explained{
		From: party(w, f.From), To: party(w, f.To), Protocol: f.Protocol.String(),
		SourcePort: f.SourcePort, DestinationPort: f.DestinationPort, Verdict: w.Explain(f),
	}
	if f.Protocol == policy.ICMP || f.Protocol == policy.ICMPv6 {
		e.ICMP = &ICMPMessage{f.ICMP.Type, f.ICMP.Code}
	}
	return e
}

func party(w *explain.World, e explain.End) Party { return Party{w.Describe(e), e.Node, e.Address} }

// String gives "default/web (10.0.0.1, node a)".
func (p Party) String() string {
	switch p.Name {
	case "":
		return p.Address.String()
	case "node " + p.Node:
		return p.Name + " (" + p.Address.String() + ")"
	}
	return p.Name + " (" + p.Address.String() + ", node " + p.Node + ")"
}

// Explanation prints the flow, the verdict, and for each check on the way all that was looked at.
func Explanation(w io.Writer, f Format, e Explained) error {
	if f != Table {
		return Value(w, f, e)
	}
	t := &textWriter{w: w}
	what := e.Protocol
	if strings.Trim(what, "0123456789") == "" {
		what = "protocol " + what
	}
	if e.ICMP != nil {
		what += fmt.Sprintf(" type %d, code %d", e.ICMP.Type, e.ICMP.Code)
	}
	to := e.To.String()
	if e.DestinationPort != 0 {
		to += fmt.Sprintf(" port %d", e.DestinationPort)
	}
	t.line(0, "%s: %s from %s to %s", verdict(e.Verdict.Allowed, true), what, e.From, to)
	for i := range e.Verdict.Sides {
		t.line(0, "")
		t.side(&e.Verdict.Sides[i])
	}
	for i, note := range e.Verdict.Notes {
		if i == 0 {
			t.line(0, "")
		}
		t.line(0, "Note: %s", note)
	}
	return t.err
}

func verdict(allowed, loud bool) string {
	word := "denied"
	if allowed {
		word = "allowed"
	}
	if loud {
		return strings.ToUpper(word)
	}
	return word
}

// textWriter writes indented lines until one fails.
type textWriter struct {
	w   io.Writer
	err error
}

func (t *textWriter) line(depth int, format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, strings.Repeat("  ", depth)+format+"\n", args...)
	}
}

// side prints one check.
func (t *textWriter) side(s *explain.Side) {
	stage := ""
	if s.Stage != explain.Local {
		stage = " (" + string(s.Stage) + ")"
	}
	t.line(0, "%s of %s%s on %s: %s %s", s.Direction, s.Endpoint, stage, s.Node, verdict(s.Allowed, false), decision(s))
	t.located(1, s.Decided.Located)
	for _, tier := range s.Tiers {
		t.line(1, "tier %s", tier.Tier)
		for i := range tier.Policies {
			t.list(2, s.Direction, &tier.Policies[i])
		}
		if tier.End != "" {
			t.line(2, "end of the tier: %s", tier.End)
		}
	}
	for i := range s.Profiles {
		t.list(1, s.Direction, &s.Profiles[i])
	}
}

// located prints where the kernel has a rule.
func (t *textWriter) located(depth int, at *explain.Located) {
	if at == nil {
		return
	}
	table := ""
	if at.Table != string(chain.Filter) {
		table = " of table " + at.Table
	}
	if at.Counted == nil {
		t.line(depth, "in the kernel, by the datastore: rule %d of chain %s%s", at.Number, at.Chain, table)
		return
	}
	t.line(depth, "in the kernel: rule %d of chain %s%s, %d packets, %d bytes", at.Number, at.Chain, table, at.Packets, at.Bytes)
}

// decision says what decided.
func decision(s *explain.Side) string {
	by := s.Decided
	if by.Policy == nil {
		return "as " + by.Why
	}
	in := ""
	if by.Tier != "" {
		in = " in tier " + by.Tier
	}
	return "by " + ruleName(s.Direction, by.Rule, by.Name) + " of " + listName(*by.Policy) + in
}

// ruleName gives a rule as its object has it: "ingress[0]", and what it is called there.
func ruleName(d api.PolicyType, index int, name string) string {
	text := fmt.Sprintf("%s[%d]", strings.ToLower(string(d)), index)
	if name != "" {
		text += " (" + name + ")"
	}
	return text
}

func listName(id policy.ID) string {
	if id.Kind == policy.KindProfile {
		return "profile " + id.String()
	}
	return id.String()
}

// list prints a policy or profile with its rules.
func (t *textWriter) list(depth int, d api.PolicyType, l *explain.ListCheck) {
	suffix := ""
	switch {
	case l.Staged && l.Action == "":
		suffix = " (staged: no rule matches)"
	case l.Staged:
		suffix = fmt.Sprintf(" (staged: would decide %s)", l.Action)
	case len(l.Rules) == 0:
		suffix = ": no rules"
	}
	t.line(depth, "%s%s", listName(l.Policy), suffix)
	t.located(depth+1, l.Located)
	for _, r := range l.Rules {
		why := r.Why
		if r.Matched {
			why = "matches"
		}
		t.line(depth+1, "%s %s: %s", ruleName(d, r.Index, r.Name), r.Action, why)
	}
}
