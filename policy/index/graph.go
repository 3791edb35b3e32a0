// SPDX-License-Identifier: Apache-2.0

package index

import (
	"slices"

	"korat/policy/selector"
)

// A graph is what Matcher and Sets have in common: items, parents and selectors, and ways from one to the other.
// It does not store what matches what: that follows from the labels, and is soon asked again. So there is nothing
// that could go out of step, and it stays small where thousands of selectors match thousands of items each.
type graph struct {
	items     table[item]
	parents   table[parent]
	selectors table[criterion]

	// own and inherited find items and parents by the labels that they themselves have.
	own, inherited postings
	// anchors finds selectors by labels of which they cannot do without one at least, if possible by one
	// only; unanchored are those that match without any. mentions finds them by each label that they ask for.
	anchors, mentions postings
	unanchored        numbers
}

type item struct {
	id      string
	own     labels
	parents []*parent
}

// A parent that is not known is kept while items name it.
type parent struct {
	name   string
	known  bool
	labels labels
	items  numbers
}

// A criterion is a selector with the requirements that it is found by, each of another key.
type criterion struct {
	selector.Selector
	id      string
	anchors []selector.Requirement
}

func newGraph() graph {
	return graph{own: postings{}, inherited: postings{}, anchors: postings{}, mentions: postings{}}
}

func (g *graph) view(row uint32) view { return view{item: g.items.rows[row]} }

// setItem replaces the item of this ID; nil is none. It gives the row, and what was there. It does nothing if that
// had the same labels and parents.
func (g *graph) setItem(id string, own map[string]string, parents []string) (row uint32, before, after *item) {
	row, before = g.items.get(id)
	after = &item{id: id, own: newLabels(own), parents: g.named(parents)}
	if before == nil {
		row = g.items.put(id, after)
		g.file(row, &item{}, after)
		return row, nil, after
	}
	if slices.Equal(before.own, after.own) && slices.Equal(before.parents, after.parents) {
		return row, before, before
	}
	g.items.put(id, after)
	g.file(row, before, after)
	return row, before, after
}

func (g *graph) deleteItem(id string) (row uint32, before *item) {
	row, before = g.items.get(id)
	if before != nil {
		g.items.remove(id)
		g.file(row, before, &item{})
	}
	return row, before
}

// named gives the parents of these names, and makes those that are not there. The caller gives them an item, or none
// was made.
func (g *graph) named(names []string) []*parent {
	all := make([]*parent, 0, len(names))
	for _, name := range names {
		_, p := g.parents.get(name)
		if p == nil {
			p = &parent{name: name}
			g.parents.put(name, p)
		}
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// file lets a row be found by what it has after a change, and no longer by what it had before.
func (g *graph) file(row uint32, before, after *item) {
	for _, l := range before.own.without(after.own) {
		g.own.remove(l, row)
	}
	for _, l := range after.own.without(before.own) {
		g.own.add(l, row)
	}
	for _, p := range after.parents {
		p.items = p.items.with(row)
	}
	for _, p := range before.parents {
		if !slices.Contains(after.parents, p) {
			p.items = p.items.without(row)
			g.dropParent(p)
		}
	}
}

// setParent gives a parent, nil if it is nobody's, and the labels that it had.
func (g *graph) setParent(name string, after labels, known bool) (p *parent, before labels) {
	row, p := g.parents.get(name)
	if p == nil {
		if !known {
			return nil, nil
		}
		p = &parent{name: name}
		row = g.parents.put(name, p)
	}
	before = p.labels
	for _, l := range before.without(after) {
		g.inherited.remove(l, row)
	}
	for _, l := range after.without(before) {
		g.inherited.add(l, row)
	}
	p.labels, p.known = after, known
	g.dropParent(p)
	return p, before
}

// dropParent forgets a parent that nothing is left of.
func (g *graph) dropParent(p *parent) {
	if !p.known && len(p.items) == 0 {
		g.parents.remove(p.name)
	}
}

// setSelector gives the row of this ID, and what was there. It does nothing if that was the same.
func (g *graph) setSelector(id string, s selector.Selector) (row uint32, before *criterion) {
	row, before = g.selectors.get(id)
	if before != nil {
		if before.Equal(s) {
			return row, before
		}
		g.unregister(row, before)
	}
	c := &criterion{Selector: s, id: id}
	row = g.selectors.put(id, c)
	g.register(row, c)
	return row, before
}

func (g *graph) deleteSelector(id string) (row uint32, before *criterion) {
	row, before = g.selectors.get(id)
	if before != nil {
		g.unregister(row, before)
		g.selectors.remove(id)
	}
	return row, before
}

func (g *graph) register(row uint32, c *criterion) {
	for _, r := range mentioned(c.Selector) {
		g.mentions.ask(r, row)
	}
	var anchored bool
	if c.anchors, anchored = narrowest(c.Selector, nil, g.crowd); !anchored {
		g.unanchored = g.unanchored.with(row)
	}
	for _, r := range c.anchors {
		g.anchors.ask(r, row)
	}
}

func (g *graph) unregister(row uint32, c *criterion) {
	for _, r := range mentioned(c.Selector) {
		g.mentions.unask(r, row)
	}
	g.unanchored = g.unanchored.without(row)
	for _, r := range c.anchors {
		g.anchors.unask(r, row)
	}
}

// mentioned gives a requirement for each label that s asks for, even if it is only that there is something
// to ask.
func mentioned(s selector.Selector) []selector.Requirement {
	var all []selector.Requirement
	required := s.Requirements()
	for _, key := range s.Keys() {
		r := selector.Requirement{Key: key}
		for _, have := range required.Labels {
			if have.Key == key {
				r.Values = have.Values
			}
		}
		all = append(all, r)
	}
	return all
}
