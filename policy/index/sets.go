// SPDX-License-Identifier: Apache-2.0

package index

import (
	"net/netip"
	"slices"

	"korat/policy"
	"korat/policy/selector"
)

// Query says what a set holds: the prefixes of the items that Selector matches; or, if Port is set, the addresses of
// those that have a named port of this name and protocol, with its number.
type Query struct {
	Selector selector.Selector
	Port     string
	// Protocol is only for Port; 0 is any.
	Protocol policy.Protocol
}

func (q Query) equal(other Query) bool {
	return q.Port == other.Port && q.Protocol == other.Protocol && q.Selector.Equal(other.Selector)
}

func (q Query) names(port policy.NamedPort) bool {
	return port.Name == q.Port && (q.Protocol == 0 || q.Protocol == port.Protocol)
}

// Sets knows the members of sets, each given by a Query. An address that several items have is a member as long as one
// of them is selected. It is not safe for concurrent use.
//
// It does not store members: those of a Query follow from the items that it selects. What it keeps is what has changed
// since the last look.
type Sets struct {
	graph graph
	// contents and queries are by the rows of graph's items and selectors.
	contents []content
	queries  []*query
	// owners are the items that have a prefix.
	owners map[netip.Prefix]numbers
	// changed is true for what has become a member since the last look, false for what no longer is one.
	changed map[entry]bool
	// unseen are the queries that are new or gone since the last look.
	unseen numbers
}

type query struct {
	Query
	id string
	// A query that is gone is kept up to date until the next look, in case it comes again.
	fresh, gone bool
	// size is how many members it has, or unknown.
	size int
}

const unknown = -1

type entry struct {
	query  uint32
	member policy.Member
}

// NewSets makes an empty one.
func NewSets() *Sets {
	return &Sets{graph: newGraph(), owners: map[netip.Prefix]numbers{}, changed: map[entry]bool{}}
}

// SetItem adds an item or replaces it, and says whether one that was there is another now. Prefixes that are not valid
// are left out. It keeps nothing that it is given.
func (s *Sets) SetItem(id string, it policy.Item) (altered bool) {
	row, before, after := s.graph.setItem(id, it.Labels, it.Parents)
	s.contents = reaching(s.contents, row)
	old, filled := s.contents[row], newContent(it)
	if before == after && old.equal(filled) {
		return false
	}
	s.contents[row] = filled
	s.own(row, old, filled)
	s.graph.itemChange(row, before, after, s.itemChange(old, filled))
	return before != nil
}

// DeleteItem removes an item, if it is there.
func (s *Sets) DeleteItem(id string) {
	row, before := s.graph.deleteItem(id)
	if before == nil {
		return
	}
	old := s.contents[row]
	s.contents[row] = content{}
	if s.graph.items.empty() {
		s.contents = nil
	}
	s.own(row, old, content{})
	s.graph.itemChange(row, before, nil, s.itemChange(old, content{}))
}

// own keeps owners.
func (s *Sets) own(row uint32, before, after content) {
	for _, prefix := range after.prefixes {
		s.owners[prefix] = s.owners[prefix].with(row)
	}
	for _, prefix := range before.prefixes {
		if after.has(prefix) {
			continue
		}
		if rest := s.owners[prefix].without(row); len(rest) > 0 {
			s.owners[prefix] = rest
		} else {
			delete(s.owners, prefix)
		}
	}
}

// itemChange notes what an item that had other content gives no longer, and what it gives now. Most queries want the
// same of it, which is found out once.
func (s *Sets) itemChange(before, after content) tell {
	type want struct {
		port     string
		protocol policy.Protocol
		was, is  bool
	}
	found := map[want][2][]policy.Member{}
	return func(queryRow, itemRow uint32, was, is bool) {
		q := s.queries[queryRow]
		if q.fresh {
			return
		}
		key := want{q.Port, q.Protocol, was, is}
		difference, ok := found[key]
		if !ok {
			var old, now content
			if was {
				old = before
			}
			if is {
				now = after
			}
			difference = [2][]policy.Member{old.only(now, q.Query), now.only(old, q.Query)}
			found[key] = difference
		}
		for i, members := range difference {
			for _, m := range members {
				s.note(entry{queryRow, m}, itemRow, instead{}, i == 1)
			}
		}
	}
}

// SetParent gives a parent its labels, and says whether there are items that now have others.
func (s *Sets) SetParent(name string, inherited map[string]string) (altered bool) {
	return s.setParent(name, newLabels(inherited), true)
}

// DeleteParent leaves a parent without labels, and says the same.
func (s *Sets) DeleteParent(name string) (altered bool) { return s.setParent(name, nil, false) }

// setParent sees the items change one after the other, in order of row: those before one have the new labels
// already, those behind it not yet.
func (s *Sets) setParent(name string, after labels, known bool) (altered bool) {
	p, before := s.graph.setParent(name, after, known)
	if p == nil {
		return false
	}
	s.graph.parentChange(p, before, func(queryRow, itemRow uint32, _, is bool) {
		if s.queries[queryRow].fresh {
			return
		}
		for _, m := range s.contents[itemRow].only(content{}, s.queries[queryRow].Query) {
			s.note(entry{queryRow, m}, itemRow, instead{p, before}, is)
		}
	})
	return len(p.items) > 0 && !slices.Equal(before, p.labels)
}

// note notes that an item gives a query a member or gives it no longer, unless another item does so before and after.
func (s *Sets) note(e entry, itemRow uint32, behind instead, is bool) {
	if s.given(e, itemRow, behind) {
		return
	}
	s.toggle(e, is)
}

func (s *Sets) toggle(e entry, is bool) {
	if _, back := s.changed[e]; back {
		delete(s.changed, e)
	} else {
		s.changed[e] = is
	}
	switch q := s.queries[e.query]; {
	case q.size == unknown:
	case is:
		q.size++
	default:
		q.size--
	}
}

// given says whether an item other than one gives a query this member. Items behind that one have other labels.
func (s *Sets) given(e entry, except uint32, behind instead) bool {
	q := s.queries[e.query]
	for _, row := range s.owners[e.member.Prefix] {
		if row == except || !s.contents[row].gives(q.Query, e.member) {
			continue
		}
		v := s.graph.view(row)
		if row > except {
			v.instead = behind
		}
		if v.matches(q.Selector) {
			return true
		}
	}
	return false
}
