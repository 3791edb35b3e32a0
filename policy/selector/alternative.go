// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"maps"
	"slices"
)

// Alternatives gives Requirements of which one at least is met by all labels that s matches: those of s where they
// want a label to be present, else those of the operands of an || in it. So an index finds a == 'x' || b == 'y'
// by a and by b. There is none if s matches nothing.
func (s Selector) Alternatives() []Requirements {
	if s.root == nil {
		return []Requirements{{}}
	}
	var all []Requirements
	for _, found := range s.root.alternatives(false) {
		all = append(all, inOrder(found))
	}
	return all
}

func inOrder(found map[string]Requirement) Requirements {
	var labels []Requirement
	for _, key := range slices.Sorted(maps.Keys(found)) {
		r := found[key]
		r.Values = slices.Clone(r.Values) // the node keeps its own
		labels = append(labels, r)
	}
	return Requirements{Labels: labels}
}

// alternatives gives what n requires, or what its negation does, in several ways of which one holds.
func (n *node) alternatives(negate bool) []map[string]Requirement {
	found, possible := n.requirements(negate)
	if !possible {
		return nil
	}
	whole := []map[string]Requirement{found}
	if anchored(whole) || n.op != opAnd && n.op != opOr {
		return whole
	}
	negate = negate != n.negated
	conjunction := (n.op == opAnd) != negate
	var all []map[string]Requirement
	for _, kid := range n.kids {
		arms := kid.alternatives(negate)
		switch useful := anchored(arms); {
		case conjunction && useful:
			return arms
		case !conjunction && !useful:
			return whole
		}
		all = append(all, arms...)
	}
	if conjunction {
		return whole
	}
	return all
}

// anchored says whether each alternative wants a label to be present.
func anchored(alternatives []map[string]Requirement) bool {
	for _, found := range alternatives {
		present := false
		for _, r := range found {
			present = present || r.Present
		}
		if !present {
			return false
		}
	}
	return true
}
