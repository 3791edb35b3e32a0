// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"

	"korat/policy/selector"
)

const selectGlobal = "global()"

// selector checks and returns a selector.
func (c *checker) selector(field, value string) (s selector.Selector, ok bool) {
	s, err := selector.Parse(value)
	var wrong *selector.Error
	if !errors.As(err, &wrong) {
		return s, true
	}
	c.fail(field, value, "%s", wrong.Problem())
	return s, false
}

// nodeSelector checks a selector of nodes by their labels.
func (c *checker) nodeSelector(field, value string) {
	if s, ok := c.selector(field, value); ok && s.HasGlobal() {
		c.fail(field, value, "must not have global(), which is about namespaces: use %s for every node", SelectAll)
	}
}

// endpointSelector checks a selector of endpoints or service accounts by their labels.
func (c *checker) endpointSelector(field, value string) {
	if s, ok := c.selector(field, value); ok && s.HasGlobal() {
		c.fail(field, value, "must not have global(), which is about namespaces: use it as a namespaceSelector")
	}
}

// namespaceSelector checks a selector of namespaces by their labels, or global() for what is in none.
func (c *checker) namespaceSelector(field, value string) {
	if s, ok := c.selector(field, value); ok && s.HasGlobal() && s.String() != selectGlobal {
		c.fail(field, value, "must not combine global() with anything: what is in no namespace has no labels of one")
	}
}
