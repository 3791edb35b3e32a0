// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"korat/api"
	"korat/policy/chain"
)

// Where there are policies in raw or mangle, unmark takes off marks of ours that are somebody else's, and
// acceptedBefore and unpass are for those that these policies have given: of what is forwarded the mark that it was passed
// means nothing any more. Without such policies undecide takes both off.
var (
	unmark         = rule(setMark(0, bothMarks))
	acceptedBefore = chain.NewRule("accepted before", accept, accepted)
	unpass         = rule(setMark(0, passMark), passed)
	undecide       = rule(setMark(0, bothMarks), decided)
)

// input is the way of what comes to this node itself.
func input(o Options, d doors) []chain.Rule {
	rules := []chain.Rule{rule(gotoChain(workloadToHost), o.workloads(api.Egress))}
	if d.early() {
		rules = append(rules, acceptedBefore)
	}
	if d.open(chain.Filter, api.Ingress, local) {
		rules = append(rules, rule(jump(fromHost)))
	}
	return rules
}

// prerouting is the way of everything that comes in, before connection tracking. Marks of ours that it has are
// somebody else's: from here on those of early policies count.
func prerouting(o Options, d doors) []chain.Rule {
	rules := []chain.Rule{rule(gotoChain(dropSpoofed), o.workloads(api.Egress), chain.Spoofed{})}
	if d.early() {
		rules = append(rules, unmark)
	}
	if d.open(chain.Raw, api.Ingress, untracked) {
		rules = append(rules, rule(jump(fromHost)), rule(chain.Action{Verb: chain.NoTrack}, accepted))
	}
	return rules
}

// hostFrame adds the chains that are there for host endpoints alone. In raw and mangle nothing is accepted for good:
// others have rules there, too.
func hostFrame(o Options, f api.Family, d doors, all map[chain.Key]*chain.Chain) {
	add := func(t chain.Table, name string, rules ...chain.Rule) {
		all[chain.Key{Family: f, Table: t, Name: name}] = &chain.Chain{Rules: rules}
	}
	link := func(t chain.Table, kernel string, rules ...chain.Rule) {
		add(t, kernel, rule(jump("cali-"+kernel)))
		add(t, "cali-"+kernel, rules...)
	}
	for p := range d {
		if p.table != chain.Filter {
			add(p.table, allowChain, rule(setMark(acceptMark, acceptMark)))
			add(p.table, passChain, rule(setMark(passMark, passMark)))
		}
		if p.stage != forwarded {
			add(p.table, failsafeChain(p.direction), o.failsafes(f, p.table, p.direction)...)
		}
	}
	if d.open(chain.Filter, api.Egress, local) {
		link(chain.Filter, "OUTPUT", output(d)...)
	}
	if d.open(chain.Mangle, api.Ingress, preDNAT) {
		link(chain.Mangle, "PREROUTING", rule(jump(fromHost), notAccepted, notTracked))
	}
	if d.open(chain.Mangle, api.Egress, local) {
		link(chain.Mangle, "POSTROUTING",
			rule(jump(toHost), newConnection, translated, chain.AddrType{Side: chain.Source, Type: "LOCAL"}))
	}
	if d.open(chain.Raw, api.Egress, untracked) {
		link(chain.Raw, "OUTPUT", unmark, rule(jump(toHost)), rule(chain.Action{Verb: chain.NoTrack}, accepted))
	}
}

// output is the way of what this node itself sends. A packet to a service goes to mangle POSTROUTING's chains: here it
// has the interface that it would have left by.
func output(d doors) []chain.Rule {
	var rules []chain.Rule
	if d.open(chain.Raw, api.Egress, untracked) {
		rules = append(rules, acceptedBefore)
	}
	return append(rules, rule(jump(toHost), notTranslated))
}
