// SPDX-License-Identifier: Apache-2.0

package index

import (
	"iter"
	"unique"

	"korat/policy/selector"
)

// postings finds rows by labels: things that have a label, or selectors that ask for one.
type postings map[name]*posting

// A posting is what there is for one key.
type posting struct {
	// any holds selectors that do not depend on a value in a list.
	any    numbers
	values map[name]numbers
	// count is how many there are in values.
	count int
}

func (p postings) add(l label, row uint32) {
	found := p.of(l.key)
	if found.values == nil {
		found.values = map[name]numbers{}
	}
	before := found.values[l.value]
	after := before.with(row)
	found.values[l.value] = after
	found.count += len(after) - len(before)
}

func (p postings) of(key name) *posting {
	found := p[key]
	if found == nil {
		found = &posting{}
		p[key] = found
	}
	return found
}

func (p postings) remove(l label, row uint32) {
	found := p[l.key]
	if found == nil {
		return
	}
	before := found.values[l.value]
	after := before.without(row)
	found.count -= len(before) - len(after)
	if len(after) == 0 {
		delete(found.values, l.value)
	} else {
		found.values[l.value] = after
	}
	p.drop(l.key)
}

// drop forgets a key that nothing is left of.
func (p postings) drop(key name) {
	if found := p[key]; found != nil && len(found.any) == 0 && len(found.values) == 0 {
		delete(p, key)
	}
}

// ask adds a selector: with each value that it requires of the key, or with any.
func (p postings) ask(r selector.Requirement, row uint32) {
	key := unique.Make(r.Key)
	for _, value := range r.Values {
		p.add(label{key, unique.Make(value)}, row)
	}
	if len(r.Values) == 0 {
		found := p.of(key)
		found.any = found.any.with(row)
	}
}

func (p postings) unask(r selector.Requirement, row uint32) {
	key := unique.Make(r.Key)
	for _, value := range r.Values {
		p.remove(label{key, unique.Make(value)}, row)
	}
	if found := p[key]; found != nil && len(r.Values) == 0 {
		found.any = found.any.without(row)
		p.drop(key)
	}
}

// asking gives the selectors that this label is something to. Each is there once.
func (p postings) asking(l label) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		found := p[l.key]
		if found == nil {
			return
		}
		for _, row := range found.any {
			if !yield(row) {
				return
			}
		}
		for _, row := range found.values[l.value] {
			if !yield(row) {
				return
			}
		}
	}
}

// meeting gives the rows of the things whose label meets r.
func (p postings) meeting(r selector.Requirement) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		found := p[unique.Make(r.Key)]
		if found == nil {
			return
		}
		for rows := range found.lists(r.Values) {
			for _, row := range rows {
				if !yield(row) {
					return
				}
			}
		}
	}
}

// lists gives those of some values, or of all if there are none.
func (p *posting) lists(values []string) iter.Seq[numbers] {
	return func(yield func(numbers) bool) {
		for _, value := range values {
			if !yield(p.values[unique.Make(value)]) {
				return
			}
		}
		if len(values) > 0 {
			return
		}
		for _, rows := range p.values {
			if !yield(rows) {
				return
			}
		}
	}
}

// size is how many rows there are for r; of selectors, those with any value too.
func (p postings) size(r selector.Requirement) int {
	found := p[unique.Make(r.Key)]
	if found == nil {
		return 0
	}
	if len(r.Values) == 0 {
		return found.count + len(found.any)
	}
	count := len(found.any)
	for rows := range found.lists(r.Values) {
		count += len(rows)
	}
	return count
}
