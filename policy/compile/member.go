// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"iter"
	"slices"

	"korat/api"
	"korat/policy"
	"korat/policy/index"
)

// SetChange is what became of a set.
type SetChange struct {
	// New says that the set has just come to be: Added is all that is in it. Gone says that no chain names it any more.
	New, Gone      bool
	Added, Removed []policy.Member
	// Order is for sets that are neither.
	Order policy.SetOrder
}

// members keeps the sets that chains name, and who is in them.
type members struct {
	index    *index.Sets
	services map[policy.Service][]policy.Member
	// former are the members of services before the changes since the last update.
	former map[policy.Service][]policy.Member
	sets   map[policy.SetKey]*heldSet
	// queries are the sets that are filled by each.
	queries map[string][]policy.SetKey
	touched map[policy.SetKey]struct{}
	// size is how many members all sets have.
	size int
	// altered says that something which was there at the last update has other labels, addresses or ports.
	altered bool
}

// heldSet is a set that chains name, or did before the last update.
type heldSet struct {
	set
	// refs is how many use it. Of those narrowing deny some of what comes to be in it, and widening allow some.
	refs, narrowing, widening int
	// was is what they did at the last update.
	was  effect
	live bool
	wide wide
	// size is how many members it has.
	size int
}

// wide says which prefixes that cover everything, or half of it, something has put into a set.
type wide struct{ all, low, high bool }

// halves says which halves must be in the set.
func (w wide) halves() [2]bool { return [2]bool{w.all || w.low, w.all || w.high} }

// note notes one of them, and says whether it is one.
func (w *wide) note(m policy.Member, f api.Family, is bool) bool {
	h := halves(f)
	switch {
	case m.Prefix.Bits() == 0:
		w.all = is
	case m.Prefix == h[0]:
		w.low = is
	case m.Prefix == h[1]:
		w.high = is
	default:
		return false
	}
	return true
}

func newMembers() *members {
	return &members{
		index: index.NewSets(), services: map[policy.Service][]policy.Member{}, former: map[policy.Service][]policy.Member{},
		sets: map[policy.SetKey]*heldSet{}, queries: map[string][]policy.SetKey{}, touched: map[policy.SetKey]struct{}{},
	}
}

// hold counts one more user of the set, and release one less.
func (m *members) hold(u use) {
	h := m.sets[u.key]
	if h == nil {
		h = &heldSet{set: u.set}
		m.sets[u.key] = h
	}
	h.count(u, 1)
	m.touched[u.key] = struct{}{}
}

func (m *members) release(u use) {
	m.sets[u.key].count(u, -1)
	m.touched[u.key] = struct{}{}
}

// setService replaces what is behind a service.
func (m *members) setService(s policy.Service, now []policy.Member) {
	m.altered = m.altered || len(m.services[s]) > 0
	if _, noted := m.former[s]; !noted {
		m.former[s] = m.services[s]
	}
	if len(now) == 0 {
		delete(m.services, s)
		return
	}
	m.services[s] = slices.Clone(now)
}

// update gives what has changed since the last one. moved says that endpoints which were there have other chains.
func (m *members) update(moved bool) map[policy.SetKey]SetChange {
	changes := map[policy.SetKey]SetChange{}
	for key := range m.touched {
		h := m.sets[key]
		switch {
		case h.refs == 0:
			delete(m.sets, key)
			if h.live {
				m.unquery(h)
				m.size -= h.size
				changes[key] = SetChange{Gone: true}
			}
		case !h.live:
			m.query(h)
			changes[key] = SetChange{New: true}
		}
	}
	m.queried(changes)
	m.served(changes)
	for key, c := range changes {
		if c.New {
			h := m.sets[key]
			h.live = true
			c.Added, h.wide = m.filled(h)
			changes[key] = c
		}
		if h := m.sets[key]; h != nil {
			h.size += len(c.Added) - len(c.Removed)
			m.size += len(c.Added) - len(c.Removed)
		}
	}
	m.order(changes, moved)
	return changes
}

func (m *members) query(h *heldSet) {
	if h.queryID == "" {
		return
	}
	if len(m.queries[h.queryID]) == 0 {
		m.index.SetQuery(h.queryID, h.set.query)
	}
	m.queries[h.queryID] = append(m.queries[h.queryID], h.key)
}

func (m *members) unquery(h *heldSet) {
	if h.queryID == "" {
		return
	}
	rest := slices.DeleteFunc(m.queries[h.queryID], func(k policy.SetKey) bool { return k == h.key })
	if m.queries[h.queryID] = rest; len(rest) == 0 {
		m.index.DeleteQuery(h.queryID)
		delete(m.queries, h.queryID)
	}
}

// queried adds what the index has changed.
func (m *members) queried(changes map[policy.SetKey]SetChange) {
	for id, delta := range m.index.Changes() {
		for _, key := range m.queries[id] {
			h := m.sets[key]
			if !h.live {
				continue
			}
			c := SetChange{Added: ofFamily(delta.Added, h), Removed: ofFamily(delta.Removed, h)}
			was := h.wide.halves()
			c.Removed = slices.DeleteFunc(c.Removed, func(p policy.Member) bool { return h.wide.note(p, key.Family, false) })
			c.Added = slices.DeleteFunc(c.Added, func(p policy.Member) bool { return h.wide.note(p, key.Family, true) })
			is := h.wide.halves()
			for i, half := range halves(key.Family) {
				switch {
				case is[i] && !was[i]:
					c.Added = append(c.Added, policy.Member{Prefix: half})
				case was[i] && !is[i]:
					c.Removed = append(c.Removed, policy.Member{Prefix: half})
				}
			}
			c.note(changes, key)
		}
	}
}

// served adds what has become of services.
func (m *members) served(changes map[policy.SetKey]SetChange) {
	for service, former := range m.former {
		for _, f := range api.Families() {
			for _, ports := range []bool{false, true} {
				key := serviceSet(f, service, ports).key
				if h := m.sets[key]; h != nil && h.live {
					was, is := h.behind(former), h.behind(m.services[service])
					SetChange{Added: without(is, was), Removed: without(was, is)}.note(changes, key)
				}
			}
		}
	}
	clear(m.former)
}

// note adds the change if it is one.
func (c SetChange) note(changes map[policy.SetKey]SetChange, key policy.SetKey) {
	if len(c.Added)+len(c.Removed) > 0 {
		slices.SortFunc(c.Added, policy.Member.Compare)
		slices.SortFunc(c.Removed, policy.Member.Compare)
		changes[key] = c
	}
}

// ofFamily gives the members that are of the set's family.
func ofFamily(all []policy.Member, h *heldSet) []policy.Member {
	var own []policy.Member
	for _, m := range all {
		if h.key.Family.Has(m.Prefix.Addr()) {
			own = append(own, m)
		}
	}
	return own
}

// without gives those of a that are not in b; both are in order.
func without(a, b []policy.Member) []policy.Member {
	var rest []policy.Member
	for _, m := range a {
		if _, found := slices.BinarySearchFunc(b, m, policy.Member.Compare); !found {
			rest = append(rest, m)
		}
	}
	return rest
}

// behind gives what a service puts into the set, in order and each once.
func (h *heldSet) behind(endpoints []policy.Member) []policy.Member {
	own := ofFamily(endpoints, h)
	if h.key.Kind == policy.Prefixes {
		for i := range own {
			own[i] = policy.Member{Prefix: own[i].Prefix}
		}
	} else {
		own = slices.DeleteFunc(own, func(m policy.Member) bool { return m.Protocol == 0 })
	}
	slices.SortFunc(own, policy.Member.Compare)
	return slices.Compact(own)
}

// list gives all members in order.
func (m *members) list(h *heldSet) []policy.Member {
	all, _ := m.filled(h)
	return all
}

// filled gives all members in order, and which of them cover everything or half of it.
func (m *members) filled(h *heldSet) ([]policy.Member, wide) {
	var all []policy.Member
	var w wide
	for member := range m.raw(h) {
		if h.queryID == "" || h.key.Kind != policy.Prefixes || !w.note(member, h.key.Family, true) {
			all = append(all, member)
		}
	}
	for i, in := range w.halves() {
		if in {
			all = append(all, policy.Member{Prefix: halves(h.key.Family)[i]})
		}
	}
	slices.SortFunc(all, policy.Member.Compare)
	return all, w
}

// raw gives the members as they come.
func (m *members) raw(h *heldSet) iter.Seq[policy.Member] {
	switch {
	case h.service != nil:
		return slices.Values(h.behind(m.services[*h.service]))
	case h.queryID == "":
		return slices.Values(h.fixed)
	}
	return func(yield func(policy.Member) bool) {
		for member := range m.index.Members(h.queryID) {
			if h.key.Family.Has(member.Prefix.Addr()) && !yield(member) {
				return
			}
		}
	}
}
