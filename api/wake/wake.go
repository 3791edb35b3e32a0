// SPDX-License-Identifier: Apache-2.0

// Package wake is how one goroutine tells another one that there is something new. What is new stands
// elsewhere, under a lock or as an atomic value: the signal carries no content, so that many changes
// make one pass, and whoever signals never waits for the loop.
//
// It imports nothing, and everything may import it.
package wake

// Signal has room for one poke: several before the loop comes round become one, and none is lost,
// because the loop reads what is new after it has taken the poke.
type Signal chan struct{}

// New gives a Signal that has not been poked.
func New() Signal { return make(Signal, 1) }

// Poke wakes the loop that receives from the signal, now or when it next does. It never blocks.
func (s Signal) Poke() {
	select {
	case s <- struct{}{}:
	default:
	}
}
