// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// called gives an endpoint with that table name; its node tells it from others of the name.
func called(name, node string) *WorkloadEndpoint {
	w := &WorkloadEndpoint{Spec: WorkloadEndpointSpec{Node: node}}
	w.Namespace, w.Name, _ = strings.Cut(name, "/")
	return w
}

// check holds a Table against a map, with a name that is in neither.
func check(t *testing.T, have Table[*WorkloadEndpoint], want map[string]*WorkloadEndpoint, other string) {
	t.Helper()
	var names []string
	for name, w := range have.All() {
		if w != want[name] || w.Key().TableName() != name {
			t.Fatalf("%s is %p under %s, want %p", w.Key(), w, name, want[name])
		}
		if got, ok := have.Get(name); !ok || got != w {
			t.Fatalf("%s is not found", name)
		}
		names = append(names, name)
	}
	if sorted := slices.Sorted(maps.Keys(want)); !slices.Equal(names, sorted) || have.Len() != len(sorted) {
		t.Fatalf("have %d: %v\nwant %v", have.Len(), names, sorted)
	}
	if _, is := want[other]; !is {
		if got, ok := have.Get(other); ok {
			t.Fatalf("%s is found as %s", other, got.Key())
		}
	}
	var under []string
	for name := range have.Under(other[:len(other)/2]) {
		under = append(under, name)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, other[:len(other)/2]) })
	if !slices.Equal(under, names) {
		t.Fatalf("under %q: have %v, want %v", other[:len(other)/2], under, names)
	}
}

// A Table is the map that the same changes make, whatever its pages look like, and no change touches one that was there.
func TestTable(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	// Some namespaces begin as others do and go on with what comes before or after a slash.
	namespaces := []string{"a", "a-b", "a.b", "a0", "b", "ab"}
	name := func(many int) string {
		return namespaces[random.IntN(len(namespaces))] + "/" + fmt.Sprint("pod", random.IntN(many))
	}
	var table Table[*WorkloadEndpoint]
	want := map[string]*WorkloadEndpoint{}
	check(t, table, want, "a/pod")
	for round := range 40 {
		many, steps := 1+random.IntN(700), random.IntN(1500)
		grows := round%4 < 2
		before, was := table, maps.Clone(want)
		for range steps {
			if n := name(many); random.IntN(3) == 0 == grows {
				table = table.Without(n)
				delete(want, n)
			} else {
				want[n] = called(n, "x")
				table = table.With(want[n])
			}
		}
		check(t, table, want, name(800))
		check(t, before, was, name(800))
	}
	for n := range maps.Clone(want) {
		table = table.Without(n)
		delete(want, n)
		if len(want)%50 == 0 {
			check(t, table, want, n)
		}
	}
	if !table.Same(Table[*WorkloadEndpoint]{}) {
		t.Error("an empty table keeps something")
	}
}

// What is left of many objects takes not much more than it would take alone.
func TestTableShrinks(t *testing.T) {
	var table Table[*WorkloadEndpoint]
	for i := range 10_000 {
		table = table.With(called(fmt.Sprintf("ns/pod%05d", i), "x"))
	}
	for i := range 10_000 {
		if i%100 > 0 {
			table = table.Without(fmt.Sprintf("ns/pod%05d", i))
		}
	}
	if table.Len() != 100 || len(table.rows.pages) > 10 {
		t.Errorf("%d objects in %d pages", table.Len(), len(table.rows.pages))
	}
}

// A list replaces a table, of which stays what is the same.
func TestWithAll(t *testing.T) {
	same := func(have, obj Object) bool {
		return have.(*WorkloadEndpoint).Spec.Node == obj.(*WorkloadEndpoint).Spec.Node
	}
	join := func(have, obj Object) Object {
		if same(have, obj) {
			return have
		}
		return obj
	}
	random := rand.New(rand.NewPCG(3, 4))
	snap := Snapshot{}
	want := map[string]*WorkloadEndpoint{}
	for range 30 {
		next, differ := map[string]*WorkloadEndpoint{}, map[Key]bool{}
		var list []Object
		for range random.IntN(1000) {
			w := called([]string{"a", "a-b"}[random.IntN(2)]+"/"+fmt.Sprint("pod", random.IntN(500)), fmt.Sprint(random.IntN(3)))
			list = append(list, w) // may be there twice: the last one counts
			next[w.Key().TableName()] = w
		}
		for name, w := range next {
			if old := want[name]; old != nil && same(old, w) {
				next[name] = old
			} else {
				differ[w.Key()] = true
			}
		}
		for name, old := range want {
			if next[name] == nil {
				differ[old.Key()] = true
			}
		}
		before, was := snap, want
		var changed []Key
		snap, changed = snap.WithAll(KindWorkloadEndpoint, list, join)
		if len(changed) != len(differ) || slices.ContainsFunc(changed, func(k Key) bool { return !differ[k] }) {
			t.Fatalf("changed %v, want %v", changed, differ)
		}
		want = next
		check(t, snap.WorkloadEndpoints, want, "a/pod1000")
		check(t, before.WorkloadEndpoints, was, "a/pod1000")
		again, changed := snap.WithAll(KindWorkloadEndpoint, slices.Collect(snap.Objects(KindWorkloadEndpoint)), join)
		if len(changed) > 0 || !again.WorkloadEndpoints.Same(snap.WorkloadEndpoints) {
			t.Fatalf("the same list changes %v", changed)
		}
	}
}

// BenchmarkTableWith is one change among 100,000.
func BenchmarkTableWith(b *testing.B) {
	var table Table[*WorkloadEndpoint]
	for i := range 100_000 {
		table = table.With(called(fmt.Sprintf("ns/pod%05d", i), "x"))
	}
	other := called("ns/pod50000", "y")
	b.ReportAllocs()
	for b.Loop() {
		table = table.With(other)
	}
}

// TableNames are compared as the texts that they are.
func TestCompareNames(t *testing.T) {
	var keys []Key
	for _, namespace := range []string{"", "a", "a-b", "a.b", "a0", "ab", "b", "a/b"} {
		for _, name := range []string{"a", "b", "a-b", "a/b", "", "/"} {
			keys = append(keys, Key{KindWorkloadEndpoint, namespace, name})
		}
	}
	for _, a := range keys {
		for _, b := range keys {
			want := strings.Compare(a.TableName(), b.TableName())
			if have := compareName(a.TableName(), b); have != want {
				t.Errorf("%q is compared with %q by its name: have %d, want %d", a.TableName(), b.TableName(), have, want)
			}
			if have := compareKeys(a, b); have != want && !strings.Contains(a.Namespace+b.Namespace, "/") {
				t.Errorf("%q is compared with %q: have %d, want %d", a.TableName(), b.TableName(), have, want)
			}
		}
	}
}
