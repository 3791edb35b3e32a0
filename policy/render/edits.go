// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"

	"korat/policy/chain"
)

// edit is one command that changes a chain: "A" appends the rule, "I" inserts it before the rule at a number, "R"
// puts it in the place of the one at a number, and "D" deletes that one. Numbers begin with 1.
type edit struct {
	command byte
	at      int
	rule    int // index of the wanted rule
}

// edits turns the rules that a chain has into those wanted, one command after the other, and leaves alone those that
// both have in the same order. It goes from the end of the chain to its beginning, so that the number of an insertion
// is always that of a rule that stays: iptables-nft must not be asked to insert before a rule that the same
// transaction replaces.
func edits(have []string, want []chain.Rule) []edit {
	var out []edit
	hi, wi := len(have), len(want)
	kept := append([]pair{{-1, -1}}, common(have, want)...)
	for _, k := range slices.Backward(kept) {
		out = append(out, gap(k, hi, wi, len(have))...)
		hi, wi = k.have, k.want
	}
	return out
}

// gap gives the edits between the kept pair k and the next kept one, at hi and wi; end is the chain's length.
func gap(k pair, hi, wi, end int) []edit {
	var out []edit
	h, w := k.have+1, k.want+1
	both := min(hi-h, wi-w)
	for at := hi; at > h+both; at-- {
		out = append(out, edit{command: 'D', at: at})
	}
	for i := w + both; i < wi; i++ {
		if hi == end {
			out = append(out, edit{command: 'A', rule: i})
			continue
		}
		// The kept rule stands at hi+1, and one further with each insertion.
		out = append(out, edit{command: 'I', at: hi + 1 + i - w - both, rule: i})
	}
	for i := range both {
		out = append(out, edit{command: 'R', at: h + i + 1, rule: w + i})
	}
	return out
}

// pair is a rule that stays: its index in the chain as it is, and as it is wanted.
type pair struct{ have, want int }

// common gives rules that both have in the same order: a longest such list if no rule is there twice.
func common(have []string, want []chain.Rule) []pair {
	places := make(map[string][]int, len(have))
	for i, id := range have {
		if id != "" {
			places[id] = append(places[id], i)
		}
	}
	// A longest ascending list of places, found by keeping for each length the end that is lowest.
	var pairs []pair
	var before, ends []int // indexes of pairs
	for i, r := range want {
		at := places[r.ID]
		if len(at) == 0 {
			continue
		}
		places[r.ID] = at[1:]
		n, _ := slices.BinarySearchFunc(ends, at[0], func(e, place int) int { return pairs[e].have - place })
		link := -1
		if n > 0 {
			link = ends[n-1]
		}
		pairs, before = append(pairs, pair{at[0], i}), append(before, link)
		if n == len(ends) {
			ends = append(ends, 0)
		}
		ends[n] = len(pairs) - 1
	}
	var kept []pair
	if len(ends) > 0 {
		for e := ends[len(ends)-1]; e >= 0; e = before[e] {
			kept = append(kept, pairs[e])
		}
	}
	slices.Reverse(kept)
	return kept
}
