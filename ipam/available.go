// SPDX-License-Identifier: Apache-2.0

package ipam

// Available says why a request that asks for nothing special would be refused now. It takes nothing.
func (a *Allocator) Available() error {
	_, err := a.choose(Request{})
	return err
}
