// SPDX-License-Identifier: Apache-2.0

package index

import (
	"slices"

	"korat/policy/selector"
)

// A tell is given selectors and items, by their rows, that matched before a change or match after it: those that it
// concerns, each pair once. The change has been made already.
type tell func(selectorRow, itemRow uint32, was, is bool)

// itemChange tells of the item of a row that became another. Either may be nil.
func (g *graph) itemChange(row uint32, before, after *item, t tell) {
	was, is := view{item: before}, view{item: after}
	if before == after {
		for s := range g.selecting(is) {
			t(s, row, true, true)
		}
		return
	}
	for s := range g.selecting(was) {
		if !is.matches(g.selectors.rows[s].Selector) {
			t(s, row, true, false)
		}
	}
	for s := range g.selecting(is) {
		t(s, row, was.matches(g.selectors.rows[s].Selector), true)
	}
}

// parentChange tells of the items of a parent that had other labels, those of one selector in order. It tells only of
// matches that began or ceased.
func (g *graph) parentChange(p *parent, before labels, t tell) {
	changed := append(p.labels.without(before), before.without(p.labels)...)
	if len(changed) == 0 || len(p.items) == 0 {
		return
	}
	for _, s := range g.mentioning(p, changed) {
		have := g.selectors.rows[s].Selector
		for _, row := range g.children(p, have, changed) {
			is := g.view(row)
			was := view{is.item, instead{p, before}}
			if a, b := was.matches(have), is.matches(have); a != b {
				t(s, row, a, b)
			}
		}
	}
}

// mentioning gives the selectors that a change of labels of p may concern: those that ask for a value that was there
// or is there now, be it another parent's that shows where p has none.
func (g *graph) mentioning(p *parent, changed labels) []uint32 {
	concerned := map[label]bool{}
	for _, l := range changed {
		concerned[l] = true
	}
	seen := map[*parent]bool{p: true}
	for _, row := range p.items {
		for _, other := range g.items.rows[row].parents {
			if seen[other] {
				continue
			}
			seen[other] = true
			for _, l := range other.labels {
				if changed.has(l.key) {
					concerned[l] = true
				}
			}
		}
	}
	var found []uint32
	for l := range concerned {
		found = slices.AppendSeq(found, g.mentions.asking(l))
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// Up to so many items it is quicker to ask each whether it matches than to look for a shorter list.
const few = 48

// children gives, in order, at least the items of p that s may match before or after some labels of p changed. Requirements
// that concern none of these may narrow it to less than all.
func (g *graph) children(p *parent, s selector.Selector, changed labels) []uint32 {
	if len(p.items) <= few {
		return p.items
	}
	all, ok := narrowest(s, changed, g.population)
	count := 0
	for _, r := range all {
		count += g.population(r)
	}
	if !ok || count >= len(p.items) {
		return p.items
	}
	var found []uint32
	for row := range g.meetingOne(all) {
		if p.items.has(row) {
			found = append(found, row)
		}
	}
	slices.Sort(found)
	return found
}

// selectorChange tells of the selector of a row that became another. Either may be nil.
func (g *graph) selectorChange(row uint32, before, after *selector.Selector, t tell) {
	if before != nil {
		for i := range g.matching(*before) {
			if after == nil || !g.view(i).matches(*after) {
				t(row, i, true, false)
			}
		}
	}
	if after != nil {
		for i := range g.matching(*after) {
			t(row, i, before != nil && g.view(i).matches(*before), true)
		}
	}
}
