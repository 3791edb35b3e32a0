// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"iter"
	"slices"
	"sort"
	"strings"
)

// Table is an immutable map of one kind's objects, ordered by "namespace/name" (cluster-scoped:
// by name). The zero Table is empty.
//
// +kubebuilder:object:generate=false
type Table[T Object] struct {
	rows *rows[T]
}

// rows are objects in order, in pages that are never empty. Objects have their names themselves, so that each costs
// little more than a pointer: a large cluster has 100,000. A change copies one page and the list of pages.
type rows[T Object] struct {
	pages []*page[T]
	count int
}

type page[T Object] []T

const (
	// pageMost bounds a page, pageFirst is what one has that is filled at once, and two that have pageLeast together
	// become one.
	pageMost  = 256
	pageFirst = 192
	pageLeast = 64
)

// Get returns the object with the given name ("namespace/name" where the kind has namespaces).
func (t Table[T]) Get(name string) (T, bool) {
	i, at, found := t.find(func(obj T) int { return compareName(name, obj.Key()) })
	return t.at(i, at, found)
}

// of is Get by the key.
func (t Table[T]) of(key Key) (T, bool) {
	i, at, found := t.place(key)
	return t.at(i, at, found)
}

func (t Table[T]) at(i, at int, found bool) (T, bool) {
	if !found {
		var zero T
		return zero, false
	}
	return (*t.rows.pages[i])[at], true
}

// Len counts the objects.
func (t Table[T]) Len() int {
	if t.rows == nil {
		return 0
	}
	return t.rows.count
}

// All yields names and objects in order.
func (t Table[T]) All() iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		for obj := range t.Objects() {
			if !yield(obj.Key().TableName(), obj) {
				return
			}
		}
	}
}

// Objects yields the objects in order, without making their names.
func (t Table[T]) Objects() iter.Seq[T] { return t.from(0, 0) }

// Under yields those whose name begins with prefix, in order, without a look at the others.
func (t Table[T]) Under(prefix string) iter.Seq2[string, T] {
	return func(yield func(string, T) bool) {
		i, at, _ := t.find(func(obj T) int { return compareName(prefix, obj.Key()) })
		for obj := range t.from(i, at) {
			if name := obj.Key().TableName(); !strings.HasPrefix(name, prefix) || !yield(name, obj) {
				return
			}
		}
	}
}

// from yields the objects from a place on.
func (t Table[T]) from(i, at int) iter.Seq[T] {
	return func(yield func(T) bool) {
		if t.rows == nil {
			return
		}
		for ; i < len(t.rows.pages); i, at = i+1, 0 {
			for _, obj := range (*t.rows.pages[i])[at:] {
				if !yield(obj) {
					return
				}
			}
		}
	}
}

// Same says whether both are the very same picture, which costs no comparison of objects. It may
// be false for equal tables; it is never true for unequal ones.
func (t Table[T]) Same(o Table[T]) bool { return t.rows == o.rows }

// With gives the table with the object set under its name.
func (t Table[T]) With(obj T) Table[T] {
	if t.rows == nil {
		return filled([]T{obj})
	}
	i, at, found := t.place(obj.Key())
	old := *t.rows.pages[i]
	if found {
		next := slices.Clone(old)
		next[at] = obj
		return t.swap(i, 1, 0, next)
	}
	next := make(page[T], 0, len(old)+1)
	next = append(append(append(next, old[:at]...), obj), old[at:]...)
	if half := len(next) / 2; len(next) > pageMost {
		return t.swap(i, 1, 1, slices.Clone(next[:half]), slices.Clone(next[half:]))
	}
	return t.swap(i, 1, 1, next)
}

// Without gives the table without the named object.
func (t Table[T]) Without(name string) Table[T] {
	i, at, found := t.find(func(obj T) int { return compareName(name, obj.Key()) })
	switch {
	case !found:
		return t
	case t.rows.count == 1:
		return Table[T]{}
	}
	pages := t.rows.pages
	next := slices.Concat((*pages[i])[:at], (*pages[i])[at+1:])
	switch {
	case len(next) == 0:
		return t.swap(i, 1, -1)
	case i+1 < len(pages) && len(next)+len(*pages[i+1]) <= pageLeast:
		return t.swap(i, 2, -1, slices.Concat(next, *pages[i+1]))
	case i > 0 && len(*pages[i-1])+len(next) <= pageLeast:
		return t.swap(i-1, 2, -1, slices.Concat(*pages[i-1], next))
	}
	return t.swap(i, 1, -1, next)
}

// swap gives the table with other pages for n from the i-th on, which have so many objects more.
func (t Table[T]) swap(i, n, more int, next ...page[T]) Table[T] {
	pages := make([]*page[T], 0, len(t.rows.pages)-n+len(next))
	pages = append(pages, t.rows.pages[:i]...)
	for k := range next {
		pages = append(pages, &next[k])
	}
	return Table[T]{&rows[T]{append(pages, t.rows.pages[i+n:]...), t.rows.count + more}}
}

// place gives the place of the object with a key; see find.
func (t Table[T]) place(key Key) (i, at int, found bool) {
	return t.find(func(obj T) int { return compareKeys(key, obj.Key()) })
}

// find gives the place of the object that compare gives 0 for: its page, and where it is or would be in that. compare is negative for
// what comes behind it.
func (t Table[T]) find(compare func(obj T) int) (i, at int, found bool) {
	if t.rows == nil {
		return 0, 0, false
	}
	pages := t.rows.pages
	i, found = sort.Find(len(pages), func(i int) int { return compare((*pages[i])[0]) })
	if found || i == 0 {
		return i, 0, found
	}
	i--
	at, found = sort.Find(len(*pages[i]), func(at int) int { return compare((*pages[i])[at]) })
	return i, at, found
}

// compareName compares a name with a key's TableName, compareKeys the TableNames of two keys. Neither makes a text.
func compareName(name string, key Key) int {
	if key.Namespace == "" {
		return strings.Compare(name, key.Name)
	}
	n := min(len(key.Namespace), len(name))
	if c := strings.Compare(name[:n], key.Namespace[:n]); c != 0 {
		return c
	}
	rest := name[n:]
	switch {
	case rest == "" || rest[0] < '/':
		return -1
	case rest[0] > '/':
		return 1
	}
	return strings.Compare(rest[1:], key.Name)
}

func compareKeys(a, b Key) int {
	switch {
	case a.Namespace == b.Namespace:
		return strings.Compare(a.Name, b.Name)
	case a.Namespace == "":
		return compareName(a.Name, b)
	case b.Namespace == "":
		return -compareName(b.Name, a)
	}
	n := min(len(a.Namespace), len(b.Namespace))
	switch c := strings.Compare(a.Namespace[:n], b.Namespace[:n]); {
	case c != 0:
		return c
	case len(a.Namespace) > n: // the other one goes on with a slash
		return cmp.Compare(a.Namespace[n], '/')
	default:
		return cmp.Compare('/', b.Namespace[n])
	}
}

// filled gives the table of objects that are in order, each name once.
func filled[T Object](objs []T) Table[T] {
	if len(objs) == 0 {
		return Table[T]{}
	}
	t := Table[T]{&rows[T]{count: len(objs)}}
	for part := range slices.Chunk(objs, pageFirst) {
		p := page[T](slices.Clone(part))
		t.rows.pages = append(t.rows.pages, &p)
	}
	return t
}

// replaced gives the table of exactly these objects, and the keys of those that are not the very ones that were there. What
// comes in the place of another of its name is for join to say, which gives either or a third.
func (t Table[T]) replaced(objs []T, join func(have, obj T) T) (Table[T], []Key) {
	if !slices.IsSortedFunc(objs, compareObjects) {
		slices.SortStableFunc(objs, compareObjects)
	}
	var changed []Key
	next := make([]T, 0, len(objs))
	for i, obj := range objs {
		key := obj.Key()
		if i+1 < len(objs) && objs[i+1].Key() == key {
			continue // the last of them counts
		}
		old, ok := t.of(key)
		if ok {
			obj = join(old, obj)
		}
		if !ok || Object(obj) != Object(old) {
			changed = append(changed, key)
		}
		next = append(next, obj)
	}
	for old := range t.Objects() {
		if _, stays := slices.BinarySearchFunc(next, old, compareObjects); !stays {
			changed = append(changed, old.Key())
		}
	}
	if len(changed) == 0 {
		return t, nil
	}
	return filled(next), changed
}

// compareObjects orders objects of a kind as a Table has them.
func compareObjects[T Object](a, b T) int { return compareKeys(a.Key(), b.Key()) }
