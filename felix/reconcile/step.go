// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Step keeps one table as wanted. It remembers what the table held after the last Apply, so that an
// unchanged Apply neither reads nor writes; whoever hears that somebody else changed the table
// says so with Touch or Invalidate. A Step belongs to one goroutine.
type Step[K comparable, V Value[V]] struct {
	name  string
	table Table[K, V]
	// have is what the table holds by our knowledge, and nil while we have none; stale says that any of
	// it may be wrong.
	have  map[K]V
	stale bool
	// digest is a DigestReader's of have, and 0 if have is not what it gave.
	digest uint64
	// met is what was wanted when have was found to be that and nothing else; nil if it is not known to be.
	met map[K]V
	// doubt holds the keys of which have may be wrong.
	doubt map[K]struct{}
}

// Result is what one Apply did.
type Result struct {
	// Read says that the whole table was read.
	Read bool
	// Set and Deleted count the changes that were written, and Failed those that could not be.
	Set, Deleted, Failed int
	// Kept counts the entries that are held though not wanted, because keep said so.
	Kept int
}

// Add takes in what another Apply did after this one.
func (r *Result) Add(o Result) {
	r.Read, r.Set, r.Deleted, r.Failed, r.Kept = r.Read || o.Read, r.Set+o.Set, r.Deleted+o.Deleted, o.Failed, o.Kept
}

// NewStep gives a Step that knows nothing of its table yet. The name is used in errors.
func NewStep[K comparable, V Value[V]](name string, table Table[K, V]) *Step[K, V] {
	return &Step[K, V]{name: name, table: table, doubt: map[K]struct{}{}}
}

// Name gives the name that NewStep was given.
func (s *Step[K, V]) Name() string { return s.name }

// Invalidate doubts all that the table holds; the next Apply reads it.
func (s *Step[K, V]) Invalidate() {
	s.stale = true
	clear(s.doubt)
}

// forget forgets what the table holds.
func (s *Step[K, V]) forget() {
	s.have, s.met, s.digest = nil, nil, 0
	s.Invalidate()
}

// Touch puts the remembered entries for which match is true in doubt. The next Apply reads them if
// the table is an EntryReader. Otherwise it sets those that are wanted and deletes those that are
// not, without asking what they are: for a table in which that changes nothing if all is well.
func (s *Step[K, V]) Touch(match func(K, V) bool) {
	for k, v := range s.have {
		if match(k, v) {
			s.doubt[k] = struct{}{}
		}
	}
}

// Doubt puts entries in doubt, whether they are remembered or not.
func (s *Step[K, V]) Doubt(keys ...K) {
	for _, k := range keys {
		s.doubt[k] = struct{}{}
	}
}

// Have gives what the table holds by our knowledge, after reading what is in doubt: the whole table if it is no
// EntryReader. read says that it was that. The map must not be changed, and is good until the next Apply.
func (s *Step[K, V]) Have(ctx context.Context) (have map[K]V, read bool, err error) {
	if _, ok := s.table.(EntryReader[K, V]); !ok && len(s.doubt) > 0 {
		s.Invalidate()
	}
	var r Result
	if err := s.read(ctx, nil, &r); err != nil {
		s.forget()
		return nil, r.Read, fmt.Errorf("read %s: %w", s.name, err)
	}
	return s.have, r.Read, nil
}

// Apply makes the table hold want. An entry that is held but not wanted stays if keep is true of it;
// a nil keep keeps none. The values are remembered and must not be changed afterwards.
func (s *Step[K, V]) Apply(ctx context.Context, want map[K]V, keep func(K, V) bool) (Result, error) {
	var r Result
	if err := s.read(ctx, want, &r); err != nil {
		s.forget()
		return r, fmt.Errorf("read %s: %w", s.name, err)
	}
	if len(s.doubt) == 0 && s.met != nil && same(s.met, want) {
		return r, nil
	}
	d := Compare(want, s.have, func(k K, v V) bool {
		stays := keep != nil && keep(k, v)
		if stays {
			r.Kept++
		}
		return stays
	})
	for k := range s.doubt {
		if w, ok := want[k]; ok {
			d.Set[k] = w
		}
	}
	return s.write(ctx, d, want, r)
}

// ApplyChanged is Apply for one and the same map, which its owner changes from one call to the next: only the
// entries of the changed keys differ from the last call's, be they set, replaced or gone. It costs what has
// changed, unless all that the table holds is in doubt. It keeps nothing that is not wanted.
func (s *Step[K, V]) ApplyChanged(ctx context.Context, want map[K]V, changed []K) (Result, error) {
	if s.have == nil || s.stale || len(s.doubt) > 0 || s.met == nil || !same(s.met, want) {
		s.met = nil // the map may be the same, and is another
		return s.Apply(ctx, want, nil)
	}
	d := Diff[K, V]{Set: map[K]V{}, Delete: map[K]V{}}
	for _, k := range changed {
		w, wanted := want[k]
		h, held := s.have[k]
		switch {
		case wanted && (!held || !w.Equal(h)):
			d.Set[k] = w
		case !wanted && held:
			d.Delete[k] = h
		}
	}
	return s.write(ctx, d, want, Result{})
}

// write makes the changes that turn what is held into want.
func (s *Step[K, V]) write(ctx context.Context, d Diff[K, V], want map[K]V, r Result) (Result, error) {
	s.met = nil
	clear(s.doubt)
	if d.Len() > 0 {
		err := s.table.Write(ctx, d)
		s.remember(d, err, &r)
		if err != nil {
			return r, fmt.Errorf("write %s: %w", s.name, err)
		}
	}
	if r.Kept == 0 {
		s.met = want
	}
	return r, nil
}

// same says whether both are one map.
func same[K comparable, V any](a, b map[K]V) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// read brings have up to date, as far as it is in doubt and can be. A table that reads entries one by
// one is asked for the wanted ones that it has not told of, too: its Read may not find them by itself.
func (s *Step[K, V]) read(ctx context.Context, want map[K]V, r *Result) (err error) {
	if s.have == nil || s.stale {
		r.Read = true
		if err := s.readAll(ctx); err != nil {
			return err
		}
	}
	table, ok := s.table.(EntryReader[K, V])
	if !ok {
		return nil
	}
	keys := slices.Collect(maps.Keys(s.doubt))
	if s.met == nil || !same(s.met, want) { // else it has told of all
		for k := range want {
			if _, known := s.have[k]; !known {
				keys = append(keys, k)
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	entries, err := table.ReadEntries(ctx, keys)
	if err != nil {
		return err
	}
	for k := range s.doubt {
		delete(s.have, k)
	}
	maps.Copy(s.have, entries)
	clear(s.doubt)
	s.met = nil
	return nil
}

// readAll reads the whole table, or finds that it holds what it held.
func (s *Step[K, V]) readAll(ctx context.Context) (err error) {
	var have map[K]V
	if table, ok := s.table.(DigestReader[K, V]); ok {
		before := s.digest
		have, s.digest, err = table.ReadChanged(ctx, before)
		if err == nil && have == nil && before != 0 {
			s.stale = false
			clear(s.doubt)
			return nil
		}
	} else {
		have, err = s.table.Read(ctx)
	}
	if err != nil {
		return err
	}
	if have == nil {
		have = map[K]V{}
	}
	s.have, s.met, s.stale = have, nil, false
	clear(s.doubt)
	return nil
}

// remember notes what the table holds after a Write.
func (s *Step[K, V]) remember(d Diff[K, V], err error, r *Result) {
	failed, some := Failures[K](err)
	if err != nil && !some {
		r.Failed = d.Len()
		s.forget()
		return
	}
	s.digest = 0
	r.Set, r.Deleted = len(d.Set), len(d.Delete)
	if len(s.have) == 0 {
		s.have = d.Set
	} else {
		maps.Copy(s.have, d.Set)
	}
	for k := range d.Delete {
		delete(s.have, k)
	}
	r.Failed = len(failed)
	for k := range failed {
		if v, ok := d.Delete[k]; ok {
			r.Deleted--
			s.have[k] = v
			continue
		}
		r.Set--
		delete(s.have, k)
		s.doubt[k] = struct{}{}
	}
}
