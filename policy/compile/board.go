// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"

	"korat/policy/chain"
)

// board has the chains as they are published, and what each was that has been touched since the last Update.
type board struct {
	chains  map[chain.Key]*chain.Chain
	touched map[chain.Key]*chain.Chain
	// rules is how many all chains have.
	rules int
}

func newBoard() *board {
	return &board{chains: map[chain.Key]*chain.Chain{}, touched: map[chain.Key]*chain.Chain{}}
}

// set puts a chain there. One that is equal stays.
func (b *board) set(key chain.Key, now *chain.Chain) {
	before := b.chains[key]
	if before != nil && before.Equal(now) {
		return
	}
	b.touch(key, before)
	b.chains[key] = now
	b.rules += rulesIn(now) - rulesIn(before)
}

func (b *board) remove(key chain.Key) {
	if before := b.chains[key]; before != nil {
		b.touch(key, before)
		delete(b.chains, key)
		b.rules -= rulesIn(before)
	}
}

// replace puts chains in the place of others.
func (b *board) replace(former, now map[chain.Key]*chain.Chain) {
	for key := range former {
		if now[key] == nil {
			b.remove(key)
		}
	}
	for key, c := range now {
		b.set(key, c)
	}
}

func (b *board) touch(key chain.Key, before *chain.Chain) {
	if _, noted := b.touched[key]; !noted {
		b.touched[key] = before
	}
}

// update gives the keys of the chains that have changed since the last one, in order.
func (b *board) update() []chain.Key {
	var keys []chain.Key
	for key, before := range b.touched {
		now := b.chains[key]
		switch {
		case before == nil && now == nil:
		case before != nil && now != nil && before.Equal(now):
			b.chains[key] = before
		default:
			keys = append(keys, key)
		}
	}
	clear(b.touched)
	slices.SortFunc(keys, chain.Key.Compare)
	return keys
}
