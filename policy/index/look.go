// SPDX-License-Identifier: Apache-2.0

package index

import (
	"iter"
	"slices"

	"korat/policy"
)

// Delta is what has become of a set since the last look. What came and went in between is not in it.
type Delta struct {
	// Added and Removed are in order.
	Added, Removed []policy.Member
	// New is a set that was not there: Added is empty, and Members has all that it holds. Gone is one that is
	// no longer there; what it held is not listed.
	New, Gone bool
}

// SetQuery adds a set or makes it another.
func (s *Sets) SetQuery(id string, wanted Query) {
	row, before := s.graph.setSelector(id, wanted.Selector)
	if before == nil {
		s.queries = reaching(s.queries, row)
		s.queries[row] = &query{Query: wanted, id: id, fresh: true, size: unknown}
		s.unseen = s.unseen.with(row)
		return
	}
	q := s.queries[row]
	if q.gone {
		q.gone = false
		s.unseen = s.unseen.without(row)
	}
	if !q.fresh && !q.equal(wanted) {
		s.replace(row, s.list(q.Query), s.list(wanted))
	}
	q.Query = wanted
}

// replace notes the difference of two lists of members, both in order.
func (s *Sets) replace(row uint32, before, after []policy.Member) {
	for _, m := range before {
		if _, stays := slices.BinarySearchFunc(after, m, policy.Member.Compare); !stays {
			s.toggle(entry{row, m}, false)
		}
	}
	for _, m := range after {
		if _, was := slices.BinarySearchFunc(before, m, policy.Member.Compare); !was {
			s.toggle(entry{row, m}, true)
		}
	}
}

// DeleteQuery removes a set, if it is there.
func (s *Sets) DeleteQuery(id string) {
	row, q := s.find(id)
	switch {
	case q == nil:
	case q.fresh:
		s.unseen = s.unseen.without(row)
		s.remove(row)
	default:
		q.gone = true
		s.unseen = s.unseen.with(row)
	}
}

func (s *Sets) remove(row uint32) {
	s.graph.deleteSelector(s.queries[row].id)
	s.queries[row] = nil
	if s.graph.selectors.empty() {
		s.queries = nil
	}
}

// find gives nil if there is no such set.
func (s *Sets) find(id string) (uint32, *query) {
	row, c := s.graph.selectors.get(id)
	if c == nil || s.queries[row].gone {
		return 0, nil
	}
	return row, s.queries[row]
}

// Members gives what a set holds, in order. It finds that out anew each time.
func (s *Sets) Members(id string) iter.Seq[policy.Member] {
	_, q := s.find(id)
	if q == nil {
		return slices.Values[[]policy.Member](nil)
	}
	return slices.Values(s.list(q.Query))
}

func (s *Sets) list(q Query) []policy.Member {
	var all []policy.Member
	for row := range s.graph.matching(q.Selector) {
		all = slices.AppendSeq(all, s.contents[row].members(q))
	}
	return sorted(all)
}

// Len is how many members a set has: counted when it is first asked after a look, and kept from then on.
func (s *Sets) Len(id string) int {
	_, q := s.find(id)
	switch {
	case q == nil:
		return 0
	case q.fresh:
		return len(s.list(q.Query)) // changes are not counted yet
	case q.size == unknown:
		q.size = len(s.list(q.Query))
	}
	return q.size
}

// Has says whether something is a member of a set.
func (s *Sets) Has(id string, m policy.Member) bool {
	row, q := s.find(id)
	return q != nil && s.given(entry{row, m}, none, instead{})
}

// Changes gives what has become of the sets since it was asked last, by ID. A set that is not in it is as it was.
func (s *Sets) Changes() map[string]Delta {
	all := map[string]Delta{}
	for _, row := range s.unseen {
		q := s.queries[row]
		all[q.id] = Delta{New: q.fresh, Gone: q.gone}
		q.fresh = false
	}
	for e, added := range s.changed {
		q := s.queries[e.query]
		if q.gone {
			continue
		}
		d := all[q.id]
		if added {
			d.Added = append(d.Added, e.member)
		} else {
			d.Removed = append(d.Removed, e.member)
		}
		all[q.id] = d
	}
	for _, d := range all {
		slices.SortFunc(d.Added, policy.Member.Compare)
		slices.SortFunc(d.Removed, policy.Member.Compare)
	}
	for _, row := range s.unseen {
		if s.queries[row].gone {
			s.remove(row)
		}
	}
	s.changed, s.unseen = map[entry]bool{}, nil
	return all
}
