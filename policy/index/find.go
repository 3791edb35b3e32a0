// SPDX-License-Identifier: Apache-2.0

package index

import (
	"iter"
	"maps"
	"slices"
	"unique"

	"korat/policy/selector"
)

// narrowest gives requirements of which all that s matches meets one at least, each of another key: of each alternative
// of s that of the least size, but none whose key is among except. It gives false if there is no such.
func narrowest(s selector.Selector, except labels, size func(selector.Requirement) int) ([]selector.Requirement, bool) {
	byKey := map[string]selector.Requirement{}
	for _, alternative := range s.Alternatives() {
		least := smallest(alternative.Labels, except, size)
		if least.Key == "" {
			return nil, false
		}
		if same, twice := byKey[least.Key]; twice {
			least = either(same, least)
		}
		byKey[least.Key] = least
	}
	found := make([]selector.Requirement, 0, len(byKey))
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		found = append(found, byKey[key])
	}
	return found, true
}

// smallest gives the requirement of the least size that asks for a label, none if there is no such.
func smallest(all []selector.Requirement, except labels, size func(selector.Requirement) int) (least selector.Requirement) {
	for _, r := range all {
		if _, excepted := except.get(r.Key); excepted || !r.Present {
			continue
		}
		if least.Key == "" || size(r) < size(least) {
			least = r
		}
	}
	return least
}

// either is met by what meets one of two requirements of a key.
func either(a, b selector.Requirement) selector.Requirement {
	if len(a.Values) == 0 || len(b.Values) == 0 {
		a.Values = nil
		return a
	}
	a.Values = slices.Compact(slices.Sorted(slices.Values(slices.Concat(a.Values, b.Values))))
	return a
}

// crowd is how little r sets a selector apart: from most items, or from most other selectors, as there may be no items yet.
func (g *graph) crowd(r selector.Requirement) int {
	size := 2 * (g.population(r) + g.anchors.size(r))
	if len(r.Values) == 0 {
		size++ // one of several values is better than any
	}
	return size
}

// population is how many items meet r, or somewhat more.
func (g *graph) population(r selector.Requirement) int {
	count := g.own.size(r)
	for row := range g.inherited.meeting(r) {
		count += len(g.parents.rows[row].items)
	}
	return count
}

// meetingOne gives the rows of the items that meet one at least of several requirements, each once.
func (g *graph) meetingOne(all []selector.Requirement) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i, r := range all {
			for row := range g.meeting(r) {
				if !g.view(row).meetsOne(all[:i]) && !yield(row) {
					return
				}
			}
		}
	}
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
	if all, ok := narrowest(s, nil, g.population); ok {
		return g.meetingOne(all)
	}
	return g.items.all()
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
			if !g.anchored(v, l, yield) {
				return
			}
		}
	}
}

// anchored yields the selectors that match v and of whose anchors l is the first that v meets.
func (g *graph) anchored(v view, l label, yield func(uint32) bool) bool {
	for row := range g.anchors.asking(l) {
		if c := g.selectors.rows[row]; c.first(l.key, v) && v.matches(c.Selector) && !yield(row) {
			return false
		}
	}
	return true
}

// first says whether v meets none of the anchors before the one of this key.
func (c *criterion) first(key name, v view) bool {
	if len(c.anchors) == 1 {
		return true
	}
	i := slices.IndexFunc(c.anchors, func(r selector.Requirement) bool { return r.Key == key.Value() })
	return !v.meetsOne(c.anchors[:i])
}
