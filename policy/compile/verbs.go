// SPDX-License-Identifier: Apache-2.0

package compile

import "korat/policy/chain"

func jump(to string) chain.Action      { return chain.Action{Verb: chain.Jump, Text: to} }
func gotoChain(to string) chain.Action { return chain.Action{Verb: chain.Goto, Text: to} }

// setMark makes the bits of mask those of value.
func setMark(value, mask uint32) chain.Action {
	return chain.Action{Verb: chain.SetMark, Value: value, Mask: mask}
}

// report sends packets to the agent with what became of them and the ID of what decided it.
func report(verdict, id string) chain.Action {
	return chain.Action{Verb: chain.Report, Group: ReportGroup, Text: verdict + "|" + id}
}

// The verdicts of reports.
const (
	denied = "D"
	logged = "L"
	staged = "S"
)

var (
	drop   = chain.Action{Verb: chain.Drop}
	accept = chain.Action{Verb: chain.Accept}
	back   = chain.Action{Verb: chain.Return}
)

// accepted is true of a packet that a policy or profile has allowed, passed of one that a policy has passed to the
// next tier; notPassed, undecided and notAccepted say what it has not, and decided that it has
// either.
var (
	accepted      = chain.Mark{Value: acceptMark, Mask: acceptMark}
	passed        = chain.Mark{Value: passMark, Mask: passMark}
	undecided     = chain.Mark{Value: 0, Mask: bothMarks}
	notPassed     = chain.Mark{Value: 0, Mask: passMark}
	notAccepted   = chain.Mark{Value: 0, Mask: acceptMark}
	decided       = chain.Mark{Not: true, Value: 0, Mask: bothMarks}
	tracked       = chain.CTState{States: "RELATED,ESTABLISHED"}
	notTracked    = chain.CTState{Not: true, States: "RELATED,ESTABLISHED"}
	newConnection = chain.CTState{States: "NEW"}
	translated    = chain.CTState{States: "DNAT"}
	notTranslated = chain.CTState{Not: true, States: "DNAT"}
	// Packets of known connections leave at a chain's first rules, unless the connection has been revoked: what is not
	// new gets no further than to the next ones.
	kept = chain.ConnMark{Not: true, Value: RevokedMark, Mask: RevokedMask}
	// revoked is true of the others: what is INVALID has no connection, and no mark of one.
	revoked = chain.ConnMark{Value: RevokedMark, Mask: RevokedMask}
	notNew  = chain.CTState{States: "INVALID,RELATED,ESTABLISHED"}
)

func rule(a chain.Action, conditions ...chain.Condition) chain.Rule {
	return chain.NewRule("", a, conditions...)
}
