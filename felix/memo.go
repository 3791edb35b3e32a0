// SPDX-License-Identifier: Apache-2.0

package felix

// memo keeps what was computed last together with what it was computed from, so that a pass costs
// what has changed and not what the cluster holds.
type memo[K comparable, V any] struct {
	key   K
	value V
	known bool
	// generation is another one whenever value has been computed anew.
	generation uint64
}

// get gives the value for key, and computes it only if the last one was for another.
func (m *memo[K, V]) get(key K, compute func() V) V {
	if !m.known || m.key != key {
		m.key, m.value, m.known = key, compute(), true
		m.generation++
	}
	return m.value
}

// version numbers the states of something that can be compared but is no comparable type.
type version[V any] struct {
	value  V
	number uint64
}

// of gives the number of v: the last one's if they are equal.
func (n *version[V]) of(v V, equal func(a, b V) bool) uint64 {
	if n.number == 0 || !equal(n.value, v) {
		n.value = v
		n.number++
	}
	return n.number
}
