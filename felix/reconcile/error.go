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

// Unwrap gives the entries' errors.
func (e *WriteError[K]) Unwrap() []error { return slices.Collect(maps.Values(e.Failed)) }
