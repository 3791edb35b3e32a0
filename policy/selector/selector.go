// SPDX-License-Identifier: Apache-2.0

package selector

// NamespaceLabel is the label that Calico gives to everything that is in a namespace.
const NamespaceLabel = "projectcalico.org/namespace"

// Limits of what Parse accepts. They bound its stack and memory, and those of every later call.
const (
	// MaxLength counts bytes, both of the text and of its canonical form.
	MaxLength = 1 << 16
	// MaxDepth counts brackets inside brackets.
	MaxDepth = 100
	// MaxNameLength counts characters of a label's name. Kubernetes allows 317, Calico 512.
	MaxNameLength = 512
)

// Selector is a parsed selector. It never changes, so that it may be shared and copied. The zero
// Selector is all(). Two Selectors are compared with Equal, not with ==; as a map's key use String.
type Selector struct {
	root *node
	text string
}

// Parse reads a selector. Its error is an *Error.
func Parse(text string) (Selector, error) {
	root, err := parse(text)
	if err != nil {
		return Selector{}, err
	}
	s := Selector{root: root, text: string(root.appendTo(nil))}
	if len(s.text) > MaxLength {
		// Otherwise the canonical form would be no selector.
		p := parser{text: text, pos: len(text)}
		return Selector{}, p.fail(wantShorter + " when written with one space around each operator")
	}
	return s, nil
}

// Matches says whether something with these labels is selected. It allocates nothing.
func (s Selector) Matches(labels map[string]string) bool {
	return s.MatchesFunc(func(key string) (string, bool) {
		value, ok := labels[key]
		return value, ok
	})
}

// MatchesFunc is Matches for labels that are no map: lookup gives a label's value, and false if
// there is no such label.
func (s Selector) MatchesFunc(lookup func(key string) (value string, ok bool)) bool {
	return s.root == nil || s.root.matches(lookup)
}

// String gives the canonical form. Parse makes an equal Selector of it. It drops what has no
// meaning: spaces, kinds of quotes, brackets that change nothing, double negation, the order and
// repetition of an in-set's values; and it writes a negated comparison, a set of one value and an
// empty set in their shorter forms (a != "b", a == "b", !all()). It keeps the order of operands.
func (s Selector) String() string {
	if s.root == nil {
		return allText
	}
	return s.text
}

// Equal says whether both have the same canonical form. Selectors that are not Equal may still
// match the same labels.
func (s Selector) Equal(other Selector) bool { return s.String() == other.String() }

// HasGlobal says whether global() occurs anywhere in it.
func (s Selector) HasGlobal() bool { return s.root != nil && s.root.has(opGlobal) }
