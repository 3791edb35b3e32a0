// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"slices"
	"strings"
)

// Requirements are conditions that all labels meet that a selector matches. Labels that meet them
// all may still not match: an index uses them to pass over most endpoints, and asks Matches for the rest.
type Requirements struct {
	// Never means that the selector matches nothing, as far as one can tell without labels.
	Never bool
	// Labels is in order of Key, with one entry for each. It is empty when Never is set.
	Labels []Requirement
}

// Requirement is what must hold for one label.
type Requirement struct {
	Key string
	// Either Present or Absent is set, never both.
	Present, Absent bool
	// Values lists, in order, the only values that can match; it is empty if any can. If it is not
	// empty Present is set.
	Values []string
}

// Requirements derives them: a && b has those of both, a || b those that both have, with the values
// of either.
func (s Selector) Requirements() Requirements {
	if s.root == nil {
		return Requirements{}
	}
	found, possible := s.root.requirements(false)
	if !possible {
		return Requirements{Never: true}
	}
	return inOrder(found)
}

// requirements gives what n requires, or what its negation does, and false if nothing can match.
// The slices of values in it may be the node's own.
func (n *node) requirements(negate bool) (map[string]Requirement, bool) {
	negate = negate != n.negated
	switch n.op {
	case opAll:
		return nil, !negate
	case opGlobal:
		return single(Requirement{Key: NamespaceLabel, Present: negate, Absent: !negate}), true
	case opHas:
		return single(Requirement{Key: n.key, Present: !negate, Absent: negate}), true
	case opAnd, opOr:
		// !(a && b) is !a || !b.
		if (n.op == opAnd) != negate {
			return n.conjunction(negate)
		}
		return n.disjunction(negate)
	default:
		if negate {
			return nil, true
		}
		r := Requirement{Key: n.key, Present: true}
		if n.op == opIn {
			r.Values = n.values
		}
		return single(r), true
	}
}

func single(r Requirement) map[string]Requirement { return map[string]Requirement{r.Key: r} }

func (n *node) conjunction(negate bool) (map[string]Requirement, bool) {
	all := map[string]Requirement{}
	for _, kid := range n.kids {
		found, possible := kid.requirements(negate)
		if !possible {
			return nil, false
		}
		for key, r := range found {
			both, possible := all[key].and(r)
			if !possible {
				return nil, false
			}
			all[key] = both
		}
	}
	return all, true
}

// and gives false if no label meets both.
func (r Requirement) and(other Requirement) (Requirement, bool) {
	both := Requirement{
		Key: other.Key, Present: r.Present || other.Present, Absent: r.Absent || other.Absent, Values: r.Values,
	}
	if both.Present && both.Absent {
		return Requirement{}, false
	}
	if len(r.Values) == 0 {
		both.Values = other.Values
	} else if len(other.Values) > 0 {
		both.Values = intersection(r.Values, other.Values)
		return both, len(both.Values) > 0
	}
	return both, true
}

// intersection gives what is in both of two ordered slices.
func intersection(a, b []string) []string {
	var both []string
	for len(a) > 0 && len(b) > 0 {
		switch order := strings.Compare(a[0], b[0]); {
		case order < 0:
			a = a[1:]
		case order > 0:
			b = b[1:]
		default:
			both = append(both, a[0])
			a, b = a[1:], b[1:]
		}
	}
	return both
}

func (n *node) disjunction(negate bool) (map[string]Requirement, bool) {
	var arms []map[string]Requirement
	for _, kid := range n.kids {
		found, possible := kid.requirements(negate)
		if !possible {
			continue
		}
		if len(found) == 0 {
			return nil, true
		}
		arms = append(arms, found)
	}
	if len(arms) == 0 {
		return nil, false
	}
	either := map[string]Requirement{}
	for key := range arms[0] {
		if r := eitherOf(key, arms); r.Present || r.Absent {
			either[key] = r
		}
	}
	return either, true
}

// eitherOf gives what all arms require of one label. It stops at the first that requires nothing, so
// that the work is bounded by the size of the selector.
func eitherOf(key string, arms []map[string]Requirement) Requirement {
	either := arms[0][key]
	limited := len(either.Values) > 0
	values := slices.Clone(either.Values)
	for _, arm := range arms[1:] {
		r := arm[key]
		either.Present = either.Present && r.Present
		either.Absent = either.Absent && r.Absent
		if !either.Present && !either.Absent {
			return Requirement{}
		}
		limited = limited && len(r.Values) > 0
		values = append(values, r.Values...)
	}
	either.Values = nil
	if limited {
		slices.Sort(values)
		either.Values = slices.Compact(values)
	}
	return either
}
