// SPDX-License-Identifier: Apache-2.0

// Package index knows who is selected: which items (endpoints and network sets, by their labels and those that they
// inherit) match which selectors. It is kept while items, parents and selectors come and go, and a change costs what
// it touches: of 10,000 selectors only those are tried that could match the labels that changed.
//
// Matcher tells who begins and ceases to match. Sets keeps on top of it the members of sets, with the changes since
// the last look.
package index
