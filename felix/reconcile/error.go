// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// WriteError names the entries that a Write could not change.
type WriteError[K comparable] struct {
	Failed map[K]error
}

// maxNamed bounds an error's text: one dead uplink fails thousands of routes alike.
const maxNamed = 10

// Fail notes that an entry could not be changed.
func (e *WriteError[K]) Fail(key K, err error) {
	if e.Failed == nil {
		e.Failed = map[K]error{}
	}
	e.Failed[key] = err
}

// Err gives the WriteError itself, or nil if nothing failed.
func (e *WriteError[K]) Err() error {
	if len(e.Failed) == 0 {
		return nil
	}
	return e
}

// Error gives the first entries' errors in the order of their text, and counts the rest.
func (e *WriteError[K]) Error() string {
	texts := make([]string, 0, len(e.Failed))
	for _, err := range e.Failed {
		texts = append(texts, err.Error())
	}
	slices.Sort(texts)
	more := ""
	if n := len(texts) - maxNamed; n > 0 {
		texts, more = texts[:maxNamed], fmt.Sprintf("; and %d more", n)
	}
	return strings.Join(texts, "; ") + more
}

// Failures gives the entries that an error names as the only ones that failed. ok is false of any other error, also of
// several that were joined if one of them is no WriteError: then every entry is in doubt. (errors.As would find those
// that are.)
func Failures[K comparable](err error) (failed map[K]error, ok bool) {
	switch e := any(err).(type) {
	case *WriteError[K]:
		return e.Failed, true
	case interface{ Unwrap() error }:
		return Failures[K](e.Unwrap())
	case interface{ Unwrap() []error }:
		all := map[K]error{}
		for _, part := range e.Unwrap() {
			failed, ok := Failures[K](part)
			if !ok {
				return nil, false
			}
			maps.Copy(all, failed)
		}
		return all, true
	}
	return nil, false
}

// Unwrap gives the entries' errors.
func (e *WriteError[K]) Unwrap() []error { return slices.Collect(maps.Values(e.Failed)) }
