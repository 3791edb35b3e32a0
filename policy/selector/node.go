// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"slices"
	"strings"
)

type op uint8

const (
	opAll op = iota
	opGlobal
	opHas
	opIn // == too: a set of one
	opContains
	opStarts
	opEnds
	opAnd
	opOr
)

const allText = "all()"

// A node is one expression of the tree. It is normal: no opIn without values, no opAnd directly
// under an opAnd unless negated, nor opOr under opOr.
type node struct {
	op      op
	negated bool
	key     string
	values  []string // opIn: in order, without repetition; contains, starts, ends: one
	kids    []*node  // opAnd, opOr: two or more
}

// Up to so many values it is quicker to look at each.
const linear = 8

func (n *node) matches(lookup func(string) (string, bool)) bool {
	return n.holds(lookup) != n.negated
}

// holds is matches without the negation.
func (n *node) holds(lookup func(string) (string, bool)) bool {
	switch n.op {
	case opAll:
		return true
	case opGlobal:
		_, ok := lookup(NamespaceLabel)
		return !ok
	case opAnd:
		for _, kid := range n.kids {
			if !kid.matches(lookup) {
				return false
			}
		}
		return true
	case opOr:
		for _, kid := range n.kids {
			if kid.matches(lookup) {
				return true
			}
		}
		return false
	default:
		value, ok := lookup(n.key)
		return ok && n.accepts(value)
	}
}

// accepts says whether a label that is there has the wanted value.
func (n *node) accepts(value string) bool {
	switch n.op {
	case opIn:
		if len(n.values) <= linear {
			return slices.Contains(n.values, value)
		}
		_, found := slices.BinarySearch(n.values, value)
		return found
	case opContains:
		return strings.Contains(value, n.values[0])
	case opStarts:
		return strings.HasPrefix(value, n.values[0])
	case opEnds:
		return strings.HasSuffix(value, n.values[0])
	default:
		return true
	}
}

func (n *node) has(o op) bool {
	return n.op == o || slices.ContainsFunc(n.kids, func(kid *node) bool { return kid.has(o) })
}

// appendTo adds the canonical form to text.
func (n *node) appendTo(text []byte) []byte {
	if n.negated && n.op != opIn {
		text = append(text, '!')
	}
	switch n.op {
	case opAll:
		return append(text, allText...)
	case opGlobal:
		return append(text, "global()"...)
	case opHas:
		text = append(text, "has("...)
		text = append(text, n.key...)
		return append(text, ')')
	case opAnd, opOr:
		return n.appendKids(text)
	default:
		text = append(text, n.key...)
		text = append(text, n.operator()...)
		return n.appendValues(text)
	}
}

func (n *node) appendKids(text []byte) []byte {
	between := " && "
	if n.op == opOr {
		between = " || "
	}
	if n.negated {
		text = append(text, '(')
	}
	for i, kid := range n.kids {
		if i > 0 {
			text = append(text, between...)
		}
		// Only this needs brackets of its own: a negated kid writes them itself, and && binds
		// tighter than ||.
		if loose := n.op == opAnd && kid.op == opOr && !kid.negated; loose {
			text = append(text, '(')
			text = append(kid.appendTo(text), ')')
			continue
		}
		text = kid.appendTo(text)
	}
	if n.negated {
		text = append(text, ')')
	}
	return text
}

func (n *node) operator() string {
	switch {
	case n.op == opContains:
		return " contains "
	case n.op == opStarts:
		return " starts with "
	case n.op == opEnds:
		return " ends with "
	case len(n.values) == 1 && n.negated:
		return " != "
	case len(n.values) == 1:
		return " == "
	case n.negated:
		return " not in "
	default:
		return " in "
	}
}

func (n *node) appendValues(text []byte) []byte {
	if len(n.values) == 1 {
		return appendQuoted(text, n.values[0])
	}
	for i, value := range n.values {
		if i == 0 {
			text = append(text, '{')
		} else {
			text = append(text, ", "...)
		}
		text = appendQuoted(text, value)
	}
	return append(text, '}')
}

// appendQuoted relies on a value never having both kinds of quotes: no literal can.
func appendQuoted(text []byte, value string) []byte {
	quote := byte('"')
	if strings.IndexByte(value, quote) >= 0 {
		quote = '\''
	}
	text = append(text, quote)
	text = append(text, value...)
	return append(text, quote)
}
