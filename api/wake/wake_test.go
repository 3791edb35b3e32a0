// SPDX-License-Identifier: Apache-2.0

package wake_test

import (
	"testing"

	"korat/api/wake"
)

func TestSeveralPokesBecomeOne(t *testing.T) {
	s := wake.New()
	if taken(s) {
		t.Error("a new signal has been poked")
	}
	for range 3 {
		s.Poke() // nobody receives: it must not block
	}
	if !taken(s) || taken(s) {
		t.Error("three pokes are not one")
	}
	s.Poke()
	if !taken(s) {
		t.Error("a poke after the first was taken is lost")
	}
}

func taken(s <-chan struct{}) bool {
	select {
	case <-s:
		return true
	default:
		return false
	}
}
