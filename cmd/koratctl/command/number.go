// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"strconv"
)

// number is a flag's value from low to the largest of T.
type number[T uint8 | uint16] struct {
	value *T
	low   T
}

// String implements pflag.Value. 0 is not given.
func (n *number[T]) String() string {
	if n.value == nil || *n.value == 0 {
		return ""
	}
	return strconv.Itoa(int(*n.value))
}

// Set implements pflag.Value.
func (n *number[T]) Set(text string) error {
	given, err := strconv.ParseUint(text, 10, 64)
	if most := ^T(0); err != nil || given < uint64(n.low) || given > uint64(most) {
		return fmt.Errorf("give a number from %d to %d", n.low, most)
	}
	*n.value = T(given)
	return nil
}

// Type implements pflag.Value: what help calls it.
func (n *number[T]) Type() string { return "number" }
