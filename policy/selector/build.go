// SPDX-License-Identifier: Apache-2.0

package selector

import (
	"fmt"
	"slices"
	"strings"
)

// What is built here is made of nodes, never of text, so that no value can end a string or begin an operator.
// And and Prefixed may make Selectors whose canonical form is longer and deeper than Parse allows: each adds no more
// than its operands have.

// All is the Selector that matches everything.
func All() Selector { return Selector{} }

// Global is global().
func Global() Selector { return build(&node{op: opGlobal}) }

// Has is has(key).
func Has(key string) (Selector, error) {
	if err := checkName(key); err != nil {
		return Selector{}, err
	}
	return build(&node{op: opHas, key: key}), nil
}

// In matches what has the label key with one of the values; without values it matches nothing.
func In(key string, values ...string) (Selector, error) {
	if err := checkName(key); err != nil {
		return Selector{}, err
	}
	for _, value := range values {
		if strings.ContainsRune(value, '\'') && strings.ContainsRune(value, '"') {
			return Selector{}, fmt.Errorf("value %q of label %s: has both kinds of quotes, which no selector can say", value, key)
		}
	}
	if len(values) == 0 {
		return build(&node{op: opAll, negated: true}), nil
	}
	sorted := slices.Sorted(slices.Values(values))
	return build(&node{op: opIn, key: key, values: slices.Compact(sorted)}), nil
}

// Not matches what s does not.
func (s Selector) Not() Selector {
	if s.root == nil {
		return build(&node{op: opAll, negated: true})
	}
	opposite := *s.root
	opposite.negated = !opposite.negated
	return build(&opposite)
}

// And matches what all of them match; with none it is all(). It leaves out what is there already and all().
func And(all ...Selector) Selector {
	joined := &node{op: opAnd}
	for _, s := range all {
		if s.root == nil || s.root.op == opAll && !s.root.negated {
			continue
		}
		if s.root.op == opAll {
			return s
		}
		joined.adopt(s.root)
	}
	joined.kids = unrepeated(joined.kids)
	switch len(joined.kids) {
	case 0:
		return Selector{}
	case 1:
		return build(joined.kids[0])
	}
	return build(joined)
}

// Prefixed puts prefix before the name of each label. all() and global() have none and stay: it is for the caller to
// say what they mean where labels have prefixes.
func (s Selector) Prefixed(prefix string) Selector {
	if s.root == nil {
		return s
	}
	return build(s.root.prefixed(prefix))
}

// IsGlobal says whether it is global() and nothing else.
func (s Selector) IsGlobal() bool { return s.root != nil && s.root.op == opGlobal && !s.root.negated }

func build(root *node) Selector { return Selector{root: root, text: string(root.appendTo(nil))} }

func (n *node) prefixed(prefix string) *node {
	with := *n
	if n.key != "" {
		with.key = prefix + n.key
	}
	with.kids = make([]*node, len(n.kids))
	for i, kid := range n.kids {
		with.kids[i] = kid.prefixed(prefix)
	}
	return &with
}

// unrepeated leaves out what is there already, and keeps the order.
func unrepeated(kids []*node) []*node {
	seen := make(map[string]bool, len(kids))
	return slices.DeleteFunc(kids, func(kid *node) bool {
		text := string(kid.appendTo(nil))
		again := seen[text]
		seen[text] = true
		return again
	})
}

func checkName(key string) error {
	switch {
	case key == "" || len(key) > MaxNameLength:
		return fmt.Errorf("label name %q: must have 1 to %d characters", key, MaxNameLength)
	case strings.ContainsFunc(key, func(r rune) bool { return r >= 0x80 || !isNameByte(byte(r)) }):
		return fmt.Errorf("label name %q: must be of letters, digits, dots, dashes, underscores and slashes", key)
	}
	return nil
}
