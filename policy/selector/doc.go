// SPDX-License-Identifier: Apache-2.0

// Package selector is Calico's language for choosing things by their labels: text becomes a
// Selector, and a Selector says which labels match. It is pure and knows no kind of object.
//
//	expression  all()  global()  has(k)  k == 'v'  k != 'v'  k in {'v', 'w'}  k not in {'v', 'w'}
//	            k contains 'v'  k starts with 'v'  k ends with 'v'  ( … )
//	precedence  ! binds tightest (to a whole comparison: !a == 'v' is !(a == 'v')), then &&, then ||
//	k           1 to 512 letters, digits, dots, dashes, underscores and slashes; a name that is also a
//	            word of the language (in, has, contains) is a name wherever a name is due
//	'v'         single or double quotes and whatever is between, without escapes: a value that has one
//	            kind of quote in it is written in the other kind
//	spaces      spaces and tabs, never line breaks; also inside "not in", "starts with", "ends with",
//	            where they may be left out; not before the bracket of has(, all( and global(
//
// The negative comparisons != and "not in" match when there is no label k; all positive ones, with
// an empty value too, want the label.
//
// An empty text, or one of spaces only, is all(). Whether a field may be empty is for the field to say, and
// so is what that means: in a rule of a policy an empty selector restricts nothing, while all()
// restricts to known endpoints.
//
// global() is what is in no namespace: what lacks the label NamespaceLabel. It wants the labels of
// an endpoint or network set, not those of its namespace. Calico allows it as the whole of a rule's
// namespaceSelector and nowhere else; HasGlobal helps to check that.
//
// A program makes Selectors with In, Has, Not, And and Prefixed, which need no text and so no quoting.
//
// Open parse.go first for the grammar, node.go for the meaning.
package selector
