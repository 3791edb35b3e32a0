// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"

	"korat/api"
	"korat/policy/chain"
)

// The chains that report and drop, each for one reason. What matches goes there by one rule: what passes meets no
// more rules than if it were dropped at once, and a reason that many chains have is told in one place.
const (
	dropSpoofed = "cali-drop-spoofed"
	dropVXLAN   = "cali-drop-vxlan"
	dropIPIP    = "cali-drop-ipip"
	dropService = "cali-drop-service"
	// dropTracked is of what is not new and not accepted.
	dropTracked = "cali-drop-tracked"
)

// The Origins of what no policy and no profile decides.
var (
	spoofed  = Origin{What: BySource, Direction: api.Egress}
	vxlan    = Origin{What: ByVXLAN, Direction: api.Egress}
	inIP     = Origin{What: ByIPIP, Direction: api.Egress}
	loop     = Origin{What: ByService, Direction: api.Egress}
	hostShut = Origin{What: ByHost, Direction: api.Ingress}
	cut      = Origin{What: ByRevocation}
)

// refusals gives the chains that report and drop in a family, by table.
func refusals(o Options, f api.Family) map[chain.Table]map[string][]chain.Rule {
	all := map[chain.Table]map[string][]chain.Rule{
		chain.Raw: {dropSpoofed: refuse("spoofed source", spoofed, drop)},
		chain.Filter: {
			dropVXLAN: refuse("VXLAN from workloads", vxlan, drop),
			dropIPIP:  refuse("IPIP from workloads", inIP, drop),
			// What is INVALID is no news: strays of connections that have ended, for the most part.
			dropTracked: {chain.NewRule("revoked", report(denied, cut.verdict()), revoked), rule(drop)},
		},
	}
	if len(loops(o, f)) > 0 {
		deny := drop
		if o.RejectLoops {
			deny.Verb = chain.Reject
		}
		all[chain.Filter][dropService] = refuse("service that is not known", loop, deny)
	}
	return all
}

// refuse reports and denies.
func refuse(comment string, why Origin, deny chain.Action, conditions ...chain.Condition) []chain.Rule {
	return []chain.Rule{
		chain.NewRule(comment, report(denied, why.verdict()), conditions...),
		rule(deny, conditions...),
	}
}

// at gives the chain that is always there, in which a reason decides; of others it is that of an endpoint.
func (w What) at() (t chain.Table, name string, fixed bool) {
	switch w {
	case BySource:
		return chain.Raw, earlyChain, true
	case ByService:
		return chain.Filter, serviceLoops, true
	case ByHost:
		return chain.Filter, workloadToHost, true
	default:
		return "", "", false
	}
}

// reporting finds the rules of a chain that report with an ID, and what each does then, and those that go to a chain
// that does.
func (c *Compiler) reporting(key chain.Key, verdict string) []int {
	reports := func(r chain.Rule) bool {
		return r.Action.Verb == chain.Report && r.Action.Text == denied+"|"+verdict
	}
	in := c.board.chains[key]
	if in == nil {
		return nil
	}
	var all []int
	for i, r := range in.Rules {
		if reports(r) {
			all = append(all, i, i+1)
		}
		if r.Action.Verb != chain.Goto {
			continue
		}
		key.Name = r.Action.Text
		if to := c.board.chains[key]; to != nil && slices.ContainsFunc(to.Rules, reports) {
			all = append(all, i)
		}
	}
	return all
}
