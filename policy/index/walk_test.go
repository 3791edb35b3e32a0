// SPDX-License-Identifier: Apache-2.0

package index_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/policy"
	"korat/policy/index"
)

// A walk makes random changes to a Matcher, to Sets, and to what they are held against.
type walk struct {
	*testing.T
	chooser
	naive   naive
	sets    *index.Sets
	matcher *index.Matcher
	// told is what the Matcher told: "query item".
	told map[string]bool
	// seen are the members at the last look.
	seen map[string][]policy.Member
}

func newWalk(t *testing.T, c chooser) *walk {
	w := &walk{T: t, chooser: c, naive: newNaive(), sets: index.NewSets(), told: map[string]bool{}}
	w.matcher = index.NewMatcher(
		func(query, item string) { w.tell(query+" "+item, true) },
		func(query, item string) { w.tell(query+" "+item, false) },
	)
	return w
}

func (w *walk) tell(match string, begins bool) {
	if w.told[match] == begins {
		w.Errorf("%s: told twice that it matches or not: %v", match, begins)
	}
	if begins {
		w.told[match] = true
	} else {
		delete(w.told, match)
	}
}

// TestWalk makes thousands of changes and compares after each one with what follows from scratch.
func TestWalk(t *testing.T) {
	for _, size := range []struct{ items, parents, queries, steps int }{
		{2, 2, 2, 2000},
		{12, 5, 8, 4000},
		{200, 2, 10, 400}, // parents of many items
		{8, 3, 60, 1000},
	} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%d items, seed %d", size.items, seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, uint64(size.items)))
				w := newWalk(t, chooser{r, size.items, size.parents, size.queries})
				for i := range size.steps {
					what := w.step()
					if w.IntN(4) == 0 {
						w.look()
					}
					w.check()
					if t.Failed() {
						t.Fatalf("after step %d: %s", i, what)
					}
				}
				w.again()
				w.clear()
			})
		}
	}
}

// step makes a change and says which.
func (w *walk) step() string {
	switch w.IntN(12) {
	case 0, 1, 2, 3:
		id, it := w.itemID(), w.item()
		if old, ok := w.naive.items[id]; ok && w.IntN(2) == 0 {
			it = w.altered(old)
		}
		w.setItem(id, it)
		return fmt.Sprintf("item %s %+v", id, it)
	case 4:
		id := w.itemID()
		w.deleteItem(id)
		return "no item " + id
	case 5, 6:
		name, labels := w.parent(), w.labels()
		w.setParent(name, labels)
		return fmt.Sprintf("parent %s %v", name, labels)
	case 7:
		name := w.parent()
		w.deleteParent(name)
		return "no parent " + name
	case 8:
		id := w.queryID()
		w.deleteQuery(id)
		return "no query " + id
	case 9:
		// The same again.
		id := w.queryID()
		if q, ok := w.naive.queries[id]; ok {
			w.deleteQuery(id)
			w.setQuery(id, q)
		}
		return "again query " + id
	default:
		id, q := w.queryID(), w.query(w.T)
		w.setQuery(id, q)
		return fmt.Sprintf("query %s %s %s %d", id, q.Selector, q.Port, q.Protocol)
	}
}

// altered differs from old in one thing.
func (w *walk) altered(old policy.Item) policy.Item {
	it := w.item()
	switch w.IntN(4) {
	case 0:
		old.Labels = it.Labels
	case 1:
		old.Parents = it.Parents
	case 2:
		old.Prefixes = it.Prefixes
	default:
		old.Ports = it.Ports
	}
	return old
}

func (w *walk) setItem(id string, it policy.Item) {
	w.naive.items[id] = it
	w.sets.SetItem(id, it)
	w.matcher.SetItem(id, it.Labels, it.Parents)
}

func (w *walk) deleteItem(id string) {
	delete(w.naive.items, id)
	w.sets.DeleteItem(id)
	w.matcher.DeleteItem(id)
}

func (w *walk) setParent(name string, labels map[string]string) {
	w.naive.parents[name] = labels
	w.sets.SetParent(name, labels)
	w.matcher.SetParent(name, labels)
}

func (w *walk) deleteParent(name string) {
	delete(w.naive.parents, name)
	w.sets.DeleteParent(name)
	w.matcher.DeleteParent(name)
}

func (w *walk) setQuery(id string, q index.Query) {
	w.naive.queries[id] = q
	w.sets.SetQuery(id, q)
	w.matcher.SetSelector(id, q.Selector)
}

func (w *walk) deleteQuery(id string) {
	delete(w.naive.queries, id)
	w.sets.DeleteQuery(id)
	w.matcher.DeleteSelector(id)
}

func (w *walk) look() {
	after := w.naive.members()
	if diff := cmp.Diff(changes(w.seen, after), deltaText(w.sets.Changes())); diff != "" {
		w.Errorf("changes: have (+) is not want (-):\n%s", diff)
	}
	w.seen = after
}

func (w *walk) check() {
	want := w.naive.matches()
	if have := slices.Sorted(maps.Keys(w.told)); !slices.Equal(have, want) {
		w.Errorf("told\n%v, want\n%v", have, want)
	}
	if id := w.queryID(); !slices.Equal(w.matcher.Items(id), second(want, id, 0)) {
		w.Errorf("%s matches %v, want %v", id, w.matcher.Items(id), second(want, id, 0))
	}
	if id := w.itemID(); !slices.Equal(w.matcher.Selectors(id), second(want, id, 1)) {
		w.Errorf("%s is matched by %v, want %v", id, w.matcher.Selectors(id), second(want, id, 1))
	}
	members := w.naive.members()
	for i := range w.queries {
		id := fmt.Sprintf("q%d", i)
		want := members[id]
		if have := slices.Collect(w.sets.Members(id)); !slices.Equal(have, want) {
			w.Errorf("%s has %v, want %v", id, have, want)
		}
		// Not asked each time, so that it is also counted late.
		if w.IntN(8) == 0 && w.sets.Len(id) != len(want) {
			w.Errorf("%s has %d members, want %d", id, w.sets.Len(id), len(want))
		}
		for m := range w.sets.Members(w.queryID()) {
			if w.sets.Has(id, m) != slices.Contains(want, m) {
				w.Errorf("%s has %v: %v", id, m, !slices.Contains(want, m))
			}
		}
	}
}

// second gives the one word of "query item" where the other is id.
func second(matches []string, id string, place int) []string {
	var found []string
	for _, m := range matches {
		if words := strings.Fields(m); words[place] == id {
			found = append(found, words[1-place])
		}
	}
	return found
}

// again gives all there is to new Sets, in another order.
func (w *walk) again() {
	fresh := index.NewSets()
	for id, q := range w.naive.queries {
		fresh.SetQuery(id, q)
	}
	for id, it := range w.naive.items {
		fresh.SetItem(id, it)
	}
	for name, labels := range w.naive.parents {
		fresh.SetParent(name, labels)
	}
	if have, want := deltaText(fresh.Changes()), changes(nil, w.naive.members()); have != want {
		w.Errorf("changes of new sets:\n%swant:\n%s", have, want)
	}
	for id := range w.naive.queries {
		if !slices.Equal(slices.Collect(fresh.Members(id)), slices.Collect(w.sets.Members(id))) || fresh.Len(id) != w.sets.Len(id) {
			w.Errorf("%s depends on what was before", id)
		}
	}
}

// clear deletes all there is, which must leave nothing.
func (w *walk) clear() {
	for _, id := range slices.Sorted(maps.Keys(w.naive.items)) {
		w.deleteItem(id)
	}
	for _, name := range slices.Sorted(maps.Keys(w.naive.parents)) {
		w.deleteParent(name)
	}
	w.check()
	for _, id := range slices.Sorted(maps.Keys(w.naive.queries)) {
		w.deleteQuery(id)
	}
	w.look()
	if have := strings.Trim(w.sets.Leftovers()+w.matcher.Leftovers(), " 0\n"); have != "" || len(w.told) > 0 {
		w.Errorf("still there after all is deleted:\n%s%s%v", w.sets.Leftovers(), w.matcher.Leftovers(), w.told)
	}
}
