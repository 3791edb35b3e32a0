// SPDX-License-Identifier: Apache-2.0

package index

import (
	"slices"

	"korat/policy/selector"
)

// Matcher knows which of its selectors match which of its items, and tells what begins and ceases to match. It is not
// safe for concurrent use.
type Matcher struct {
	graph            graph
	started, stopped func(selectorID, itemID string)
}

// NewMatcher makes an empty one. started and stopped are called after each change, once for each selector and item
// that it made or unmade a match, in no particular order; they may ask the Matcher, but not change it.
func NewMatcher(started, stopped func(selectorID, itemID string)) *Matcher {
	return &Matcher{graph: newGraph(), started: started, stopped: stopped}
}

// SetItem adds an item or replaces it. It has its own labels, and of each other that of the first of its parents
// which has it. Parents need not be known yet.
func (m *Matcher) SetItem(id string, own map[string]string, parents []string) {
	row, before, after := m.graph.setItem(id, own, parents)
	if before != after {
		m.graph.itemChange(row, before, after, m.ofItem(id))
	}
}

// DeleteItem removes an item, if it is there.
func (m *Matcher) DeleteItem(id string) {
	row, before := m.graph.deleteItem(id)
	m.graph.itemChange(row, before, nil, m.ofItem(id))
}

func (m *Matcher) ofItem(id string) tell {
	return func(s, _ uint32, was, is bool) { m.call(m.graph.selectors.rows[s].id, id, was, is) }
}

// SetParent gives a parent its labels.
func (m *Matcher) SetParent(name string, inherited map[string]string) {
	m.setParent(name, newLabels(inherited), true)
}

// DeleteParent leaves a parent without labels.
func (m *Matcher) DeleteParent(name string) { m.setParent(name, nil, false) }

func (m *Matcher) setParent(name string, after labels, known bool) {
	p, before := m.graph.setParent(name, after, known)
	if p == nil {
		return
	}
	m.graph.parentChange(p, before, func(s, i uint32, was, is bool) {
		m.call(m.graph.selectors.rows[s].id, m.graph.items.rows[i].id, was, is)
	})
}

// SetSelector adds a selector or replaces it.
func (m *Matcher) SetSelector(id string, s selector.Selector) {
	row, before := m.graph.setSelector(id, s)
	if before == nil {
		m.graph.selectorChange(row, nil, &s, m.ofSelector(id))
	} else if !before.Equal(s) {
		m.graph.selectorChange(row, &before.Selector, &s, m.ofSelector(id))
	}
}

// DeleteSelector removes a selector, if it is there.
func (m *Matcher) DeleteSelector(id string) {
	if row, before := m.graph.deleteSelector(id); before != nil {
		m.graph.selectorChange(row, &before.Selector, nil, m.ofSelector(id))
	}
}

func (m *Matcher) ofSelector(id string) tell {
	return func(_, i uint32, was, is bool) { m.call(id, m.graph.items.rows[i].id, was, is) }
}

func (m *Matcher) call(selectorID, itemID string, was, is bool) {
	switch {
	case is && !was:
		m.started(selectorID, itemID)
	case was && !is:
		m.stopped(selectorID, itemID)
	}
}

// Items gives the items that a selector matches, in order.
func (m *Matcher) Items(selectorID string) []string {
	_, c := m.graph.selectors.get(selectorID)
	if c == nil {
		return nil
	}
	var ids []string
	for i := range m.graph.matching(c.Selector) {
		ids = append(ids, m.graph.items.rows[i].id)
	}
	slices.Sort(ids)
	return ids
}

// Selectors gives the selectors that match an item, in order.
func (m *Matcher) Selectors(itemID string) []string {
	_, it := m.graph.items.get(itemID)
	var ids []string
	for s := range m.graph.selecting(view{item: it}) {
		ids = append(ids, m.graph.selectors.rows[s].id)
	}
	slices.Sort(ids)
	return ids
}
