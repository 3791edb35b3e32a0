// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"net/netip"

	"korat/policy"
)

// effect is what something can do to verdicts.
type effect struct{ widens, narrows bool }

func (e effect) or(o effect) effect { return effect{e.widens || o.widens, e.narrows || o.narrows} }

func (e effect) opposite() effect { return effect{e.narrows, e.widens} }

// both says that it is not known which way it goes.
func (e effect) both() bool { return e.widens && e.narrows }

// count counts a use more, or less.
func (h *heldSet) count(u use, n int) {
	h.refs += n
	if u.narrows {
		h.narrowing += n
	}
	if u.widens {
		h.widening += n
	}
}

// gaining is the effect of a member that the set gains.
func (h *heldSet) gaining() effect { return effect{h.widening > 0, h.narrowing > 0} }

// note notes whether something that was there before has other labels, addresses or ports.
func (m *members) note(altered bool) { m.altered = m.altered || altered }

// order says of each changed set when its members come and go, seen from the chains, of which moved says whether those
// of endpoints that were there are others.
//
// The kernel changes all chains of a table at once, but each set by itself, member by member. So a packet may meet one
// set as it was and another as it will be, and be allowed though neither the old policies nor the new ones allow it; or be
// denied though both allow it. That can't be if all that changes goes one way: a verdict that only can get wider is, at
// every moment, between the old one and the new one. Nor does it matter where things that have nothing to do
// with each other are concerned, as are endpoints that come and others that go: each could have changed alone. Else the
// sets change with the chains, at once. Where that would cost too much, what narrows comes first and what widens last:
// nothing is wider then than before or after.
func (m *members) order(changes map[policy.SetKey]SetChange, moved bool) {
	come, gone, size := m.effects(changes)
	apart := !m.altered && !come.both() && !gone.both() && !meet(changes)
	oneWay := !moved && !come.or(gone).both()
	if !apart && !oneWay {
		for key, c := range changes {
			if !c.New && !c.Gone {
				c.Order = m.sets[key].order(size <= policy.MaxCopied)
				changes[key] = c
			}
		}
	}
	m.altered = false
	for key := range m.touched {
		if h := m.sets[key]; h != nil {
			h.was = h.gaining()
		}
	}
	clear(m.touched)
}

// effects says what members that come can do, and those that go, and how many there are in the sets that they concern.
func (m *members) effects(changes map[policy.SetKey]SetChange) (come, gone effect, size int) {
	for key, c := range changes {
		h := m.sets[key]
		if c.New || c.Gone {
			continue
		}
		e := h.gaining().or(h.was)
		if len(c.Added) > 0 {
			come = come.or(e)
		}
		if len(c.Removed) > 0 {
			gone = gone.or(e.opposite())
		}
		size += h.size
	}
	return come, gone, size
}

// order is that of a set where it matters.
func (h *heldSet) order(affordable bool) policy.SetOrder {
	switch e := h.gaining().or(h.was); {
	case e == effect{}:
		return policy.AddedFirst
	case affordable, e.both():
		return policy.AtOnce
	case e.widens:
		return policy.RemovedFirst
	}
	return policy.AddedFirst
}

// meet says whether something comes to one set where something goes from another: prefixes of which one is in the other.
func meet(changes map[policy.SetKey]SetChange) bool {
	come, gone := map[netip.Prefix]struct{}{}, map[netip.Prefix]struct{}{}
	for _, c := range changes {
		if c.New || c.Gone {
			continue
		}
		for _, m := range c.Added {
			come[m.Prefix] = struct{}{}
		}
		for _, m := range c.Removed {
			gone[m.Prefix] = struct{}{}
		}
	}
	return len(come) > 0 && len(gone) > 0 && (covered(come, gone) || covered(gone, come))
}

// covered says whether one of the prefixes lies in one of the others.
func covered(prefixes, others map[netip.Prefix]struct{}) bool {
	lengths := map[int]struct{}{}
	for p := range others {
		lengths[p.Bits()] = struct{}{}
	}
	for p := range prefixes {
		for bits := range lengths {
			if bits > p.Bits() {
				continue
			}
			outer, err := p.Addr().Prefix(bits)
			if _, there := others[outer]; err == nil && there {
				return true
			}
		}
	}
	return false
}
