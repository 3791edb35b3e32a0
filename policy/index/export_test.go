// SPDX-License-Identifier: Apache-2.0

package index

import "fmt"

// Leftovers says what is still in there once all has been deleted, and looked at.
func (s *Sets) Leftovers() string {
	return s.graph.leftovers() + fmt.Sprintln(len(s.contents), len(s.queries), len(s.owners), len(s.changed), len(s.unseen))
}

// Leftovers says what is still in there once all has been deleted.
func (m *Matcher) Leftovers() string { return m.graph.leftovers() }

func (g *graph) leftovers() string {
	return fmt.Sprintln(
		len(g.items.rows), len(g.parents.rows), len(g.selectors.rows),
		len(g.own), len(g.inherited), len(g.anchors), len(g.mentions), len(g.unanchored),
	)
}
