// SPDX-License-Identifier: Apache-2.0

package index

import (
	"iter"
	"slices"
	"strings"
	"unique"

	"korat/policy/selector"
)

// A name is a label's key or value. Equal ones share their text, which goes with the last of them.
type name = unique.Handle[string]

type label struct{ key, value name }

// labels are in order of key, each key once. 100,000 maps would take several times their memory.
type labels []label

func newLabels(from map[string]string) labels {
	if len(from) == 0 {
		return nil
	}
	l := make(labels, 0, len(from))
	for key, value := range from {
		l = append(l, label{unique.Make(key), unique.Make(value)})
	}
	slices.SortFunc(l, func(a, b label) int { return strings.Compare(a.key.Value(), b.key.Value()) })
	return l
}

func (l labels) get(key string) (string, bool) {
	for i := range l {
		if l[i].key.Value() == key {
			return l[i].value.Value(), true
		}
	}
	return "", false
}

func (l labels) has(key name) bool {
	return slices.ContainsFunc(l, func(have label) bool { return have.key == key })
}

// without gives those that are not in other.
func (l labels) without(other labels) labels {
	var rest labels
	for _, have := range l {
		if !slices.Contains(other, have) {
			rest = append(rest, have)
		}
	}
	return rest
}

// A view is an item with all its labels as they are, or as they would be if one parent had others.
type view struct {
	*item
	instead
}

// instead gives a parent other labels.
type instead struct {
	parent *parent
	labels labels
}

func (i instead) labelsOf(p *parent) labels {
	if p == i.parent {
		return i.labels
	}
	return p.labels
}

// matches is false if there is no item.
func (v view) matches(s selector.Selector) bool { return v.item != nil && s.MatchesFunc(v.lookup) }

func (v view) lookup(key string) (string, bool) {
	if value, ok := v.own.get(key); ok {
		return value, true
	}
	for _, p := range v.parents {
		if value, ok := v.labelsOf(p).get(key); ok {
			return value, true
		}
	}
	return "", false
}

// meetsOne says whether it meets one at least of several requirements.
func (v view) meetsOne(all []selector.Requirement) bool {
	for _, r := range all {
		value, ok := v.lookup(r.Key)
		if !ok {
			continue
		}
		if _, listed := slices.BinarySearch(r.Values, value); listed || len(r.Values) == 0 {
			return true
		}
	}
	return false
}

// all gives own and inherited labels, each key once.
func (v view) all() iter.Seq[label] {
	return func(yield func(label) bool) {
		if v.item == nil {
			return
		}
		for _, l := range v.own {
			if !yield(l) {
				return
			}
		}
		for _, p := range v.parents {
			if !v.inherited(p, yield) {
				return
			}
		}
	}
}

// inherited yields the labels that it has from one of its parents.
func (v view) inherited(p *parent, yield func(label) bool) bool {
	for _, l := range v.labelsOf(p) {
		if v.inherits(l.key, p) && !yield(l) {
			return false
		}
	}
	return true
}

// inherits says whether p, one of its parents that has the label, is the one that it has the label from.
func (v view) inherits(key name, p *parent) bool {
	if v.own.has(key) {
		return false
	}
	for _, first := range v.parents {
		if first == p {
			return true
		}
		if v.labelsOf(first).has(key) {
			return false
		}
	}
	return false
}
