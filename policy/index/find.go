// SPDX-License-Identifier: Apache-2.0

package index

import (
	"iter"
	"unique"

	"korat/policy/selector"
)

// best gives the requirement that sets a selector apart from most items, and from most other selectors: there may
// be no items yet. It is the zero value if all labels may be absent.
func (g *graph) best(required selector.Requirements) selector.Requirement {
	var best selector.Requirement
	least := 0
	for _, r := range required.Labels {
		if !r.Present {
			continue
		}
		// One of several values is better than any value.
		size := 2 * (g.population(r) + g.anchors.size(r))
		if len(r.Values) == 0 {
			size++
		}
		if best.Key == "" || size < least {
			best, least = r, size
		}
	}
	return best
}

// population is how many items meet r, or somewhat more.
func (g *graph) population(r selector.Requirement) int {
	count := g.own.size(r)
	for row := range g.inherited.meeting(r) {
		count += len(g.parents.rows[row].items)
	}
	return count
}

// meeting gives the rows of the items that meet r, each once.
func (g *graph) meeting(r selector.Requirement) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for row := range g.own.meeting(r) {
			if !yield(row) {
				return
			}
		}
		key := unique.Make(r.Key)
		for parentRow := range g.inherited.meeting(r) {
			p := g.parents.rows[parentRow]
			for _, row := range p.items {
				if g.view(row).inherits(key, p) && !yield(row) {
					return
				}
			}
		}
	}
}

// candidates gives the rows of all items that s may match, each once.
func (g *graph) candidates(s selector.Selector) iter.Seq[uint32] {
	required := s.Requirements()
	if required.Never {
		return func(func(uint32) bool) {}
	}
	if r, ok := g.narrowest(required, nil); ok {
		return g.meeting(r)
	}
	return g.items.all()
}

// narrowest gives the requirement that the fewest items meet, of those whose keys are not among except; false if
// there is none.
func (g *graph) narrowest(required selector.Requirements, except labels) (selector.Requirement, bool) {
	var narrowest selector.Requirement
	least := 0
	for _, r := range required.Labels {
		if _, excepted := except.get(r.Key); excepted || !r.Present {
			continue
		}
		if count := g.population(r); narrowest.Key == "" || count < least {
			narrowest, least = r, count
		}
	}
	return narrowest, narrowest.Key != ""
}

// matching gives the rows of the items that s matches, each once.
func (g *graph) matching(s selector.Selector) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for row := range g.candidates(s) {
			if g.view(row).matches(s) && !yield(row) {
				return
			}
		}
	}
}

// selecting gives the rows of the selectors that match v, each once.
func (g *graph) selecting(v view) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		if v.item == nil {
			return
		}
		for _, row := range g.unanchored {
			if v.matches(g.selectors.rows[row].Selector) && !yield(row) {
				return
			}
		}
		for l := range v.all() {
			for row := range g.anchors.asking(l) {
				if v.matches(g.selectors.rows[row].Selector) && !yield(row) {
					return
				}
			}
		}
	}
}
