// SPDX-License-Identifier: Apache-2.0

// Package index knows who is selected: which items (endpoints and network sets, by their labels and those that they
// inherit) match which selectors. It is kept while items, parents and selectors come and go, and a change costs what
// it touches: of 10,000 selectors only those are tried that could match the labels that changed.
//
// Matcher tells who begins and ceases to match. Sets knows the members of sets, with the changes since the last look.
// Neither stores who matches whom: 10,000 selectors may well have ten million matches. A match follows from the
// labels and is quickly asked again; what it was before a change is asked with the labels that were there before. So
// the outcome depends on what is there, and never on the order in which it came.
//
// Open graph.go first for what there is, find.go for how one finds the other, change.go for what a change does.
package index
