// SPDX-License-Identifier: Apache-2.0

package selector

import "slices"

// Keys gives the names of the labels that it asks for, in order: other labels never change what it
// matches.
func (s Selector) Keys() []string {
	if s.root == nil {
		return nil
	}
	keys := s.root.appendKeys(nil)
	slices.Sort(keys)
	return slices.Compact(keys)
}

func (n *node) appendKeys(keys []string) []string {
	switch n.op {
	case opAll:
		return keys
	case opGlobal:
		return append(keys, NamespaceLabel)
	case opAnd, opOr:
		for _, kid := range n.kids {
			keys = kid.appendKeys(keys)
		}
		return keys
	default:
		return append(keys, n.key)
	}
}
