// SPDX-License-Identifier: Apache-2.0

package kernel

// Searching gives a Conntrack that searches for few addresses however few flows there are.
func (c Conntrack) Searching() Conntrack {
	c.few = 0
	return c
}
