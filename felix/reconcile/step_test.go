// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"korat/felix/reconcile"
	"korat/felix/reconcile/reconciletest"
)

type text string

func (t text) Equal(o text) bool { return t == o }

type (
	table   = reconciletest.Table[string, text]
	entries = map[string]text
)

// entryTable is a table that can read single entries.
type entryTable struct {
	table
	asked []string
}

func (t *entryTable) ReadEntries(_ context.Context, keys []string) (map[string]text, error) {
	t.asked = append(t.asked, keys...)
	have := entries{}
	for _, k := range keys {
		if v, ok := t.Have[k]; ok {
			have[k] = v
		}
	}
	return have, nil
}

func apply(t *testing.T, s *reconcile.Step[string, text], want entries, keep func(string, text) bool) reconcile.Result {
	t.Helper()
	r, err := s.Apply(t.Context(), want, keep)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func equal(t *testing.T, what string, want, have any) {
	t.Helper()
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("%s: want (-), have (+):\n%s", what, diff)
	}
}

func TestCompare(t *testing.T) {
	have := entries{"same": "1", "changed": "1", "stale": "1", "held": "1"}
	want := entries{"same": "1", "changed": "2", "new": "3"}
	d := reconcile.Compare(want, have, func(k string, v text) bool { return k == "held" && v == "1" })
	equal(t, "diff", reconcile.Diff[string, text]{
		Set:    entries{"changed": "2", "new": "3"},
		Delete: entries{"stale": "1"},
	}, d)
	equal(t, "without keep", entries{"stale": "1", "held": "1"}, reconcile.Compare(want, have, nil).Delete)
}

func TestApply(t *testing.T) {
	tab := &table{Have: entries{"stale": "1", "held": "1", "a": "old"}}
	step := reconcile.NewStep("things", tab)
	want := entries{"a": "new", "b": "1"}
	held := func(k string, _ text) bool { return k == "held" }

	equal(t, "first", reconcile.Result{Read: true, Set: 2, Deleted: 1, Kept: 1}, apply(t, step, want, held))
	equal(t, "writes", "+ a new\n+ b 1\n- stale 1\n", tab.TakeWrites())
	equal(t, "unchanged", reconcile.Result{Kept: 1}, apply(t, step, want, held))
	equal(t, "no longer held", reconcile.Result{Deleted: 1}, apply(t, step, want, nil))
	equal(t, "writes", "- held 1\n", tab.TakeWrites())
	equal(t, "dump", "a new\nb 1\n", tab.Dump())

	step.Invalidate()
	equal(t, "resync of the unchanged", reconcile.Result{Read: true}, apply(t, step, want, nil))
	delete(tab.Have, "b")
	equal(t, "drift unheard of", reconcile.Result{}, apply(t, step, want, nil))
	step.Invalidate()
	equal(t, "drift", reconcile.Result{Read: true, Set: 1}, apply(t, step, want, nil))
	equal(t, "reads", 3, tab.Reads)
	equal(t, "no want", reconcile.Result{Deleted: 2}, apply(t, step, nil, nil))
	equal(t, "dump", "", tab.Dump())
}

// ApplyChanged looks at no entry but the changed ones, until something is in doubt.
func TestApplyChanged(t *testing.T) {
	tab := &table{Have: entries{"stale": "1"}}
	step := reconcile.NewStep("things", tab)
	want := entries{"a": "1", "b": "1"}
	changed := func(keys ...string) reconcile.Result {
		t.Helper()
		r, err := step.ApplyChanged(t.Context(), want, keys)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	equal(t, "first", reconcile.Result{Read: true, Set: 2, Deleted: 1}, changed())
	tab.TakeWrites()
	want["a"], want["unsaid"] = "2", "1"
	delete(want, "b")
	equal(t, "changed", reconcile.Result{Set: 1, Deleted: 1}, changed("a", "b", "never"))
	equal(t, "writes", "+ a 2\n- b 1\n", tab.TakeWrites())
	equal(t, "nothing changed", reconcile.Result{}, changed("a"))
	step.Invalidate()
	equal(t, "all in doubt", reconcile.Result{Read: true, Set: 1}, changed())
	equal(t, "dump", "a 2\nunsaid 1\n", tab.Dump())

	tab.Bad = map[string]error{"bad": errors.New("down")}
	want["bad"] = "1"
	if _, err := step.ApplyChanged(t.Context(), want, []string{"bad"}); err == nil {
		t.Error("no error")
	}
	tab.Bad = nil
	equal(t, "what failed is tried again unsaid", reconcile.Result{Set: 1}, changed())
}

func TestTouch(t *testing.T) {
	tab := &table{}
	step := reconcile.NewStep("things", tab)
	want := entries{"a": "1", "b": "1", "c": "1"}
	apply(t, step, want, nil)
	tab.TakeWrites()

	delete(tab.Have, "a")
	step.Touch(func(k string, _ text) bool { return k == "a" || k == "unknown" })
	equal(t, "touched", reconcile.Result{Set: 1}, apply(t, step, want, nil))
	equal(t, "writes", "+ a 1\n", tab.TakeWrites())
	equal(t, "settled", reconcile.Result{}, apply(t, step, want, nil))

	step.Touch(func(_ string, v text) bool { return v == "1" })
	delete(want, "b")
	equal(t, "touched and not wanted", reconcile.Result{Set: 2, Deleted: 1}, apply(t, step, want, nil))
	equal(t, "reads", 1, tab.Reads)
}

func TestTouchEntryReader(t *testing.T) {
	tab := &entryTable{}
	step := reconcile.NewStep("things", tab)
	want := entries{"a": "1", "b": "1", "c": "1"}
	apply(t, step, want, nil)
	tab.TakeWrites()
	tab.asked = nil

	tab.Have["b"] = "other"
	step.Touch(func(k string, _ text) bool { return k == "b" })
	equal(t, "touched", reconcile.Result{Set: 1}, apply(t, step, want, nil))
	equal(t, "writes", "+ b 1\n", tab.TakeWrites())
	step.Touch(func(k string, _ text) bool { return k == "a" })
	equal(t, "touched, all is well", reconcile.Result{}, apply(t, step, want, nil))
	delete(tab.Have, "c")
	step.Touch(func(k string, _ text) bool { return k == "c" })
	delete(want, "c")
	equal(t, "touched, gone and not wanted", reconcile.Result{}, apply(t, step, want, nil))
	equal(t, "asked", []string{"b", "a", "c"}, tab.asked)
	equal(t, "reads", 1, tab.Reads)
}

// What is held is known before anything is wanted, also of entries that nobody has wanted or remembered.
func TestHave(t *testing.T) {
	tab := &entryTable{table: table{Have: entries{"a": "1", "b": "1"}, Bad: map[string]error{}}}
	step := reconcile.NewStep("things", tab)
	holds := func(what string, want entries, wantRead bool) {
		t.Helper()
		have, read, err := step.Have(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		equal(t, what, want, have)
		equal(t, what+": all read", wantRead, read)
	}
	holds("first", entries{"a": "1", "b": "1"}, true)
	tab.Have["b"], tab.Have["c"] = "2", "1"
	holds("without doubt", entries{"a": "1", "b": "1"}, false)
	step.Doubt("b", "c", "d")
	holds("in doubt", entries{"a": "1", "b": "2", "c": "1"}, false)
	equal(t, "asked", 3, len(tab.asked))
	equal(t, "what was read is not read again", reconcile.Result{Set: 1}, apply(t, step, entries{"a": "1", "b": "3", "c": "1"}, nil))
	equal(t, "asked", 3, len(tab.asked))
	holds("written", entries{"a": "1", "b": "3", "c": "1"}, false)

	tab.Bad["b"] = errors.New("down")
	if _, err := step.Apply(t.Context(), entries{"a": "2", "b": "4", "c": "1"}, nil); err == nil {
		t.Error("no error")
	}
	holds("what could not be written is as it is", entries{"a": "2", "b": "3", "c": "1"}, false)

	step.Invalidate()
	tab.ReadErr = errors.New("broken")
	if _, _, err := step.Have(t.Context()); err == nil || err.Error() != "read things: broken" {
		t.Errorf("have %v", err)
	}
	tab.ReadErr = nil
	holds("all in doubt", entries{"a": "2", "b": "3", "c": "1"}, true)

	whole := &table{Have: entries{"a": "1"}}
	step = reconcile.NewStep("things", whole)
	holds("of a table without single entries", entries{"a": "1"}, true)
	whole.Have["b"] = "1"
	step.Doubt("b")
	holds("in doubt", entries{"a": "1", "b": "1"}, true)
}

// forgetfulTable finds entries only when asked for them, as the sysctls do: there are too many to list.
type forgetfulTable struct{ entryTable }

func (*forgetfulTable) Read(context.Context) (map[string]text, error) { return nil, nil }

func TestWantedEntriesAreSought(t *testing.T) {
	tab := &forgetfulTable{entryTable{table: table{Have: entries{"a": "1", "b": "old", "other": "1"}}}}
	step := reconcile.NewStep("things", tab)
	want := entries{"a": "1", "b": "1", "c": "1"}
	equal(t, "first", reconcile.Result{Read: true, Set: 2}, apply(t, step, want, nil))
	equal(t, "writes", "+ b 1\n+ c 1\n", tab.TakeWrites())
	tab.asked = nil
	equal(t, "unchanged", reconcile.Result{}, apply(t, step, want, nil))
	equal(t, "asked", []string(nil), tab.asked)
	step.Invalidate()
	equal(t, "resync of the unchanged", reconcile.Result{Read: true}, apply(t, step, want, nil))
}

func TestReadError(t *testing.T) {
	broken := errors.New("broken")
	tab := &table{Have: entries{"a": "1"}, ReadErr: broken}
	step := reconcile.NewStep("things", tab)
	_, err := step.Apply(t.Context(), nil, nil)
	if !errors.Is(err, broken) || err.Error() != "read things: broken" {
		t.Errorf("have %v", err)
	}
	equal(t, "nothing is written on no knowledge", "", tab.TakeWrites())
	tab.ReadErr = nil
	equal(t, "retry", reconcile.Result{Read: true, Deleted: 1}, apply(t, step, nil, nil))
}

func TestWriteErrorForgetsAll(t *testing.T) {
	tab := &table{Have: entries{"stale": "1"}, WriteErr: errors.New("broken")}
	step := reconcile.NewStep("things", tab)
	r, err := step.Apply(t.Context(), entries{"a": "1"}, nil)
	equal(t, "result", reconcile.Result{Read: true, Failed: 2}, r)
	if err == nil || err.Error() != "write things: broken" {
		t.Errorf("have %v", err)
	}
	tab.WriteErr = nil
	equal(t, "retry", reconcile.Result{Read: true, Deleted: 1}, apply(t, step, entries{"a": "1"}, nil))
	equal(t, "dump", "a 1\n", tab.Dump())
}

func TestWriteErrorForgetsTheFailed(t *testing.T) {
	down := errors.New("down")
	tab := &table{Have: entries{"stuck": "1", "stale": "1"}, Bad: map[string]error{"bad": down, "stuck": down}}
	step := reconcile.NewStep("things", tab)
	want := entries{"good": "1", "bad": "1"}
	for i, result := range []reconcile.Result{{Read: true, Set: 1, Deleted: 1, Failed: 2}, {Failed: 2}} {
		r, err := step.Apply(t.Context(), want, nil)
		equal(t, fmt.Sprint("result ", i), result, r)
		if !errors.Is(err, down) || err.Error() != "write things: delete stuck: down; set bad: down" {
			t.Errorf("have %v", err)
		}
	}
	tab.Bad = nil
	equal(t, "healed", reconcile.Result{Set: 1, Deleted: 1}, apply(t, step, want, nil))
	equal(t, "dump", "bad 1\ngood 1\n", tab.Dump())
}

// A WriteError that comes together with another error says nothing of the entries that it does not name.
func TestWriteErrorBesideAnother(t *testing.T) {
	var some reconcile.WriteError[string]
	some.Fail("bad", errors.New("down"))
	tab := &table{WriteErr: errors.Join(errors.New("broken"), some.Err())}
	step := reconcile.NewStep("things", tab)
	want := entries{"good": "1", "bad": "1"}
	r, err := step.Apply(t.Context(), want, nil)
	equal(t, "result", reconcile.Result{Read: true, Failed: 2}, r)
	if failed, ok := reconcile.Failures[string](err); ok || failed != nil {
		t.Errorf("have %v", failed)
	}
	tab.WriteErr, tab.Have = nil, nil
	equal(t, "retry", reconcile.Result{Read: true, Set: 2}, apply(t, step, want, nil))
	if failed, ok := reconcile.Failures[string](fmt.Errorf("step: %w", some.Err())); !ok || failed["bad"] == nil {
		t.Errorf("alone: have %v", failed)
	}
	var more reconcile.WriteError[string]
	more.Fail("worse", errors.New("down"))
	if failed, ok := reconcile.Failures[string](errors.Join(some.Err(), more.Err())); !ok || len(failed) != 2 {
		t.Errorf("two: have %v", failed)
	}
}

func TestWriteErrorIsBounded(t *testing.T) {
	var e reconcile.WriteError[int]
	if e.Err() != nil {
		t.Error("an error where nothing failed")
	}
	for i := range 1000 {
		e.Fail(i, fmt.Errorf("set %03d: down", i))
	}
	have := e.Err().Error()
	if !strings.HasPrefix(have, "set 000: down; set 001: down; ") || !strings.HasSuffix(have, "set 009: down; and 990 more") {
		t.Errorf("have %s", have)
	}
}
