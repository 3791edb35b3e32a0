// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"
	"strings"

	"korat/api"
	"korat/policy/chain"
)

// width is how many rules a dispatch chain may have before keys that go on with the same character get a chain of
// their own. It has more if the keys go on with more characters than that.
const width = 8

// tree leads from keys, which are interfaces' names or the digits of groups, to the chains of endpoints. The branch of a
// prefix depends on nothing but the keys that begin with it, and a change touches only the branches on the way to it.
type tree struct {
	// matches gives what is true of packets that an entry is for.
	matches func(d api.PolicyType, entry string) chain.Condition
	// keys are those of the leaves, in order.
	keys     []string
	leaves   map[string]*leaf
	branches map[string]*branch
	// stale are the prefixes of branches to be written, and dropped the chains of those that are gone.
	stale   map[string]struct{}
	dropped []chain.Key
}

// lead is where packets of an endpoint are led to: a chain by slot, none if there is no endpoint.
type lead [slots]string

// leaf has the rules of a key, by slot.
type leaf struct {
	to    lead
	rules [slots]chain.Rule
}

// branch is a chain in each family and direction. The root's prefix is empty.
type branch struct {
	// entries are keys of leaves, and prefixes of branches; those end in "+", as the rules have it.
	entries []string
	// into are the rules that lead to it, by slot.
	into [slots]chain.Rule
	// keys are the chains that have been written for it.
	keys []chain.Key
}

func newTree(matches func(api.PolicyType, string) chain.Condition) *tree {
	return &tree{
		matches: matches, leaves: map[string]*leaf{}, branches: map[string]*branch{"": {}},
		stale: map[string]struct{}{"": {}},
	}
}

// touchAll has all branches written again.
func (t *tree) touchAll() {
	for prefix := range t.branches {
		t.stale[prefix] = struct{}{}
	}
}

// isStale says whether a branch is to be written.
func (t *tree) isStale(prefix string) bool {
	_, stale := t.stale[prefix]
	return stale
}

// folded says whether there are other branches than the root.
func (t *tree) folded() bool { return len(t.branches) > 1 }

// set makes a leaf lead to the chains. What leads to none is dropped.
func (t *tree) set(key string, to lead) {
	lf := t.leaves[key]
	if lf == nil {
		lf = &leaf{}
		t.leaves[key] = lf
		i, _ := slices.BinarySearch(t.keys, key)
		t.keys = slices.Insert(t.keys, i, key)
		t.grow(key)
	}
	if lf.to == to {
		return
	}
	for at := range allSlots() {
		if n := at.number(); to[n] != lf.to[n] {
			lf.rules[n] = rule(gotoChain(to[n]), t.matches(at.direction, key))
		}
	}
	lf.to = to
	t.stale[t.home(key)] = struct{}{}
}

// remove takes a leaf away.
func (t *tree) remove(key string) {
	if t.leaves[key] == nil {
		return
	}
	delete(t.leaves, key)
	i, _ := slices.BinarySearch(t.keys, key)
	t.keys = slices.Delete(t.keys, i, i+1)
	t.grow(key)
}

// home gives the branch that a leaf is in.
func (t *tree) home(key string) string {
	prefix := ""
	for {
		entries := t.branches[prefix].entries
		i := slices.IndexFunc(entries, func(e string) bool {
			stem, deep := strings.CutSuffix(e, "+")
			return deep && strings.HasPrefix(key, stem)
		})
		if i < 0 || slices.Contains(entries, key) {
			return prefix
		}
		prefix = strings.TrimSuffix(entries[i], "+")
	}
}

// grow makes the branches anew that are on the way to a key which has come or gone.
func (t *tree) grow(key string) {
	var old []string
	for prefix, b := range t.branches {
		if prefix != "" && strings.HasPrefix(key, prefix) {
			old = append(old, prefix)
			old = append(old, branchesIn(b.entries)...)
		}
	}
	old = append(old, branchesIn(t.branches[""].entries)...)
	t.build("", t.keys, key)
	for _, prefix := range old {
		if !t.reached(prefix) {
			if b := t.branches[prefix]; b != nil {
				t.dropped = append(t.dropped, b.keys...)
			}
			delete(t.branches, prefix)
		}
	}
}

func branchesIn(entries []string) []string {
	var prefixes []string
	for _, e := range entries {
		if stem, deep := strings.CutSuffix(e, "+"); deep {
			prefixes = append(prefixes, stem)
		}
	}
	return prefixes
}

// reached says whether the way from the root to a prefix has a branch for it.
func (t *tree) reached(prefix string) bool {
	at := ""
	for {
		next := ""
		for _, stem := range branchesIn(t.branches[at].entries) {
			if strings.HasPrefix(prefix, stem) {
				next = stem
			}
		}
		if next == "" || next == prefix {
			return next != ""
		}
		at = next
	}
}

// build makes the branch of a prefix, given all keys that begin with it, and those below it that are new or on the
// way to the changed one.
func (t *tree) build(prefix string, keys []string, changed string) {
	entries := fork(keys)
	b := t.branches[prefix]
	if b == nil {
		b = &branch{}
		t.branches[prefix] = b
		t.stale[prefix] = struct{}{}
	}
	if !slices.Equal(b.entries, entries) {
		b.entries = entries
		t.stale[prefix] = struct{}{}
	}
	for _, stem := range branchesIn(entries) {
		if t.branches[stem] == nil || strings.HasPrefix(changed, stem) {
			t.build(stem, within(keys, stem), changed)
		}
	}
}

// fork gives the entries of the branch for keys in order: a leaf for each if there is room, else, for those that have
// the next character in common, a branch.
func fork(keys []string) []string {
	if len(keys) == 0 {
		return nil
	}
	shared := common(keys[0], keys[len(keys)-1])
	var bins [][]string
	for rest := keys; len(rest) > 0; {
		n := 1
		if len(rest[0]) > shared {
			n = len(within(rest, rest[0][:shared+1]))
		}
		bins = append(bins, rest[:n])
		rest = rest[n:]
	}
	whole := unfolded(bins)
	var entries []string
	for i, bin := range bins {
		if whole[i] {
			entries = append(entries, bin...)
		} else {
			entries = append(entries, bin[0][:shared+1]+"+")
		}
	}
	return entries
}

// unfolded says which bins have their keys in the branch itself: the smallest first, as long as there is room.
func unfolded(bins [][]string) []bool {
	order := make([]int, len(bins))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(bins[a]) - len(bins[b]) })
	whole := make([]bool, len(bins))
	total := len(bins)
	for _, i := range order {
		if n := len(bins[i]); n == 1 || total+n-1 <= width {
			total += n - 1
			whole[i] = true
		}
	}
	return whole
}

// common is how many characters two keys begin with in common.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// within gives those of some keys in order that begin with a prefix.
func within(keys []string, prefix string) []string {
	first, _ := slices.BinarySearch(keys, prefix)
	last, _ := slices.BinarySearchFunc(keys, prefix, func(key, p string) int {
		if strings.HasPrefix(key, p) {
			return -1
		}
		return strings.Compare(key, p)
	})
	return keys[first:last]
}
