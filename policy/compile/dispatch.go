// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"slices"
	"strings"

	"korat/api"
	"korat/policy/chain"
)

// width is how many rules a dispatch chain may have before names that go on with the same character get a chain of
// their own. It has more if the names go on with more characters than that.
const width = 8

// dispatch leads from interfaces to the chains of their endpoints: a tree over the interfaces' names. The branch of a
// prefix depends on nothing but the names that begin with it, and a change touches only the branches on the way to it.
type dispatch struct {
	claims
	// names are those of the leaves, in order.
	names    []string
	leaves   map[string]*leaf
	branches map[string]*branch
	// touched are names whose endpoints may be others, or lead elsewhere.
	touched map[string]struct{}
	// stale are the prefixes of branches to be written, and dropped the chains of those that are gone.
	stale   map[string]struct{}
	dropped []chain.Key
	// numbers are the link groups that interfaces have in the kernel.
	numbers map[string]uint32
}

// leaf has the rules of an interface, by slot.
type leaf struct {
	to    [slots]string
	rules [slots]chain.Rule
}

// branch is a chain in each family and direction. The root's prefix is empty.
type branch struct {
	// entries are names of leaves, and prefixes of branches; those end in "+", as the rules have it.
	entries []string
	// into are the rules that lead to it, by slot.
	into [slots]chain.Rule
	// keys are the chains that have been written for it.
	keys []chain.Key
}

func newDispatch() *dispatch {
	return &dispatch{
		claims: claims{map[string][]*endpoint{}}, leaves: map[string]*leaf{}, branches: map[string]*branch{"": {}},
		touched: map[string]struct{}{}, stale: map[string]struct{}{"": {}}, numbers: map[string]uint32{},
	}
}

// touchAll says that everything may lead elsewhere.
func (d *dispatch) touchAll() {
	for name := range d.at {
		d.touched[name] = struct{}{}
	}
	for _, name := range d.names {
		d.touched[name] = struct{}{}
	}
	for prefix := range d.branches {
		d.stale[prefix] = struct{}{}
	}
}

// set makes a leaf lead to the chains, and says whether it has led to others.
func (d *dispatch) set(name string, to [slots]string) (moved bool) {
	lf := d.leaves[name]
	known := lf != nil
	if !known {
		lf = &leaf{}
		d.leaves[name] = lf
		i, _ := slices.BinarySearch(d.names, name)
		d.names = slices.Insert(d.names, i, name)
		d.grow(name)
	}
	if lf.to == to {
		return false
	}
	for at := range allSlots() {
		if n := at.number(); to[n] != lf.to[n] {
			lf.rules[n] = rule(gotoChain(to[n]), device(at.direction, name))
		}
	}
	lf.to = to
	d.stale[d.home(name)] = struct{}{}
	return known
}

// remove takes a leaf away.
func (d *dispatch) remove(name string) {
	if d.leaves[name] == nil {
		return
	}
	delete(d.leaves, name)
	i, _ := slices.BinarySearch(d.names, name)
	d.names = slices.Delete(d.names, i, i+1)
	d.grow(name)
}

// home gives the branch that a leaf is in.
func (d *dispatch) home(name string) string {
	prefix := ""
	for {
		entries := d.branches[prefix].entries
		i := slices.IndexFunc(entries, func(e string) bool {
			stem, deep := strings.CutSuffix(e, "+")
			return deep && strings.HasPrefix(name, stem)
		})
		if i < 0 || slices.Contains(entries, name) {
			return prefix
		}
		prefix = strings.TrimSuffix(entries[i], "+")
	}
}

// grow makes the branches anew that are on the way to a name which has come or gone.
func (d *dispatch) grow(name string) {
	var old []string
	for prefix, b := range d.branches {
		if prefix != "" && strings.HasPrefix(name, prefix) {
			old = append(old, prefix)
			old = append(old, branchesIn(b.entries)...)
		}
	}
	old = append(old, branchesIn(d.branches[""].entries)...)
	d.build("", d.names, name)
	for _, prefix := range old {
		if !d.reached(prefix) {
			if b := d.branches[prefix]; b != nil {
				d.dropped = append(d.dropped, b.keys...)
			}
			delete(d.branches, prefix)
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
func (d *dispatch) reached(prefix string) bool {
	at := ""
	for {
		next := ""
		for _, stem := range branchesIn(d.branches[at].entries) {
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

// build makes the branch of a prefix, given all names that begin with it, and those below it that are new or on the
// way to the changed name.
func (d *dispatch) build(prefix string, names []string, changed string) {
	entries := fork(names)
	b := d.branches[prefix]
	if b == nil {
		b = &branch{}
		d.branches[prefix] = b
		d.stale[prefix] = struct{}{}
	}
	if !slices.Equal(b.entries, entries) {
		b.entries = entries
		d.stale[prefix] = struct{}{}
	}
	for _, stem := range branchesIn(entries) {
		if d.branches[stem] == nil || strings.HasPrefix(changed, stem) {
			d.build(stem, within(names, stem), changed)
		}
	}
}

// fork gives the entries of the branch for names in order: a leaf for each if there is room, else, for those that have
// the next character in common, a branch.
func fork(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	shared := common(names[0], names[len(names)-1])
	var bins [][]string
	for rest := names; len(rest) > 0; {
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

// unfolded says which bins have their names in the branch itself: the smallest first, as long as there is room.
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

// common is how many characters two names begin with in common.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// within gives those of some names in order that begin with a prefix.
func within(names []string, prefix string) []string {
	first, _ := slices.BinarySearch(names, prefix)
	last, _ := slices.BinarySearchFunc(names, prefix, func(name, p string) int {
		if strings.HasPrefix(name, p) {
			return -1
		}
		return strings.Compare(name, p)
	})
	return names[first:last]
}

// device matches an interface by which endpoints send or receive; a name that ends in "+" is a prefix.
func device(d api.PolicyType, name string) chain.Condition {
	if d == api.Egress {
		return chain.In(name)
	}
	return chain.Out(name)
}
