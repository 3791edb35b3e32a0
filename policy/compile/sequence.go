// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"korat/api"
	"korat/policy"
	"korat/policy/chain"
)

// stride is after how many jumps a packet is let out that has been accepted already.
const stride = 5

// ipip is the protocol number of IPv4 in IP (RFC 2003).
const ipip policy.Protocol = 4

// sequence is the chain of endpoints in the making. Packets come to its tiers with neither of the marks.
type sequence struct {
	place
	// deny, leave and allow are what is done with packets that are denied, that have been accepted, and that are
	// accepted here.
	deny, leave, allow chain.Action

	rules []chain.Rule
	uses  []*list
	// allows and passes say which marks a packet may have that this tier has given it, and stale that it may have
	// been passed by an earlier one.
	allows, passes, stale bool
	// over says that all packets that get further have been passed, and done that none does.
	over, done bool
	// note is the comment of the next rule.
	note string
}

// add adds a rule. The first one of what ends a part has a comment: those on the way to policies go without, as a comment
// costs each packet that its rule applies to.
func (q *sequence) add(a chain.Action, conds ...chain.Condition) {
	q.rules = append(q.rules, chain.NewRule(q.note, a, conds...))
	q.note = ""
}

// noTunnels drops packets that a tunnel's end of this cluster would unpack.
func (q *sequence) noTunnels(vxlanPort uint16) {
	q.add(gotoChain(dropVXLAN), chain.Proto{Number: policy.UDP},
		chain.Ports{Side: chain.Destination, Ranges: []policy.PortRange{{First: vxlanPort, Last: vxlanPort}}})
	q.add(gotoChain(dropIPIP), chain.Proto{Number: ipip})
}

// tier adds what becomes of a packet in a tier. It gets past it only if it has been passed.
func (q *sequence) tier(t policy.Tier, policies []*source) {
	if q.done {
		return
	}
	q.stale, q.passes = q.stale || q.passes, false
	enforced := false
	var lists []*list
	for _, s := range policies {
		enforced = enforced || !s.staged()
		if l := s.lists[q.slot]; !l.empty {
			lists = append(lists, l)
		}
	}
	for i, l := range lists {
		if i > 0 && i%stride == 0 && q.allows {
			q.add(q.leave, accepted)
		}
		if !q.list(l) {
			break
		}
	}
	q.end(t, enforced)
	q.over = false
}

// list lets a policy decide, and says whether anything gets past it.
func (q *sequence) list(l *list) bool {
	switch {
	case l.decides == api.Pass:
		q.over = true
		return false
	case l.decides == api.Allow && q.passes:
		q.add(q.allow, notPassed)
		q.allows, q.over = false, true
		return false
	case l.decides == api.Allow:
		q.add(q.allow)
		q.done = true
		return false
	case q.allows || q.passes:
		q.add(jump(l.name), undecided)
	case q.stale:
		q.add(setMark(0, passMark))
		q.stale = false
		fallthrough
	default:
		q.add(jump(l.name))
	}
	q.uses = append(q.uses, l)
	q.allows = q.allows || l.allows
	q.passes = q.passes || l.passes
	return !l.ends
}

// end adds what becomes of a packet after the last policy of a tier. The tier's default counts if there is a policy
// that is more than staged, and no later stage. It is there, too, if the policies decide on everything: a chain in the kernel
// may lag behind.
func (q *sequence) end(t policy.Tier, enforced bool) {
	if q.done {
		return
	}
	if q.allows {
		q.add(q.leave, accepted)
		q.allows = false
	}
	if q.over || !enforced || t.Default == api.Pass || q.stage == preDNAT || q.stage == untracked {
		return
	}
	q.note = "end of tier " + t.Name
	why := Origin{What: ByTier, Direction: q.direction, Tier: t.Name}
	if q.passes {
		q.refuse(why, notPassed)
		return
	}
	q.refuse(why)
	q.done = true
}

// finish adds what becomes of a packet that no tier has decided: profiles decide on what an endpoint itself sends and
// receives, what is forwarded is allowed, and else a later stage decides.
func (q *sequence) finish(profiles []*source) {
	switch {
	case q.done:
	case q.stage == local:
		q.profiles(profiles)
	case q.stage == forwarded:
		q.add(q.allow)
	}
}

func (q *sequence) profiles(profiles []*source) {
	for _, s := range profiles {
		l := s.lists[q.slot]
		if l.decides == api.Allow {
			q.add(q.allow)
			return
		}
		if l.empty || l.decides == api.Pass {
			continue
		}
		q.add(jump(l.name))
		q.uses = append(q.uses, l)
		if l.allows {
			q.add(q.leave, accepted)
		}
		if l.ends && !l.passes {
			break
		}
	}
	q.note = "no profile allows it"
	q.refuse(Origin{What: ByProfiles, Direction: q.direction})
}

// refuse reports and denies.
func (q *sequence) refuse(why Origin, conds ...chain.Condition) {
	q.add(report(denied, why.verdict()), conds...)
	q.add(q.deny, conds...)
}
