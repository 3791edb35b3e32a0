// SPDX-License-Identifier: Apache-2.0

package show

import (
	"slices"
	"testing"

	"korat/api"
)

// TestEveryKindHasColumns prints an object of every kind which has what is optional unset.
func TestEveryKindHasColumns(t *testing.T) {
	for _, kind := range api.Kinds() {
		obj := api.New(kind)
		narrow, wide := columns(kind, false), columns(kind, true)
		if info, _ := kind.Info(); len(narrow) < 2 || info.Namespaced && len(narrow) < 3 {
			t.Errorf("%s has no columns of its own", kind)
		}
		var titles []string
		for i, c := range wide {
			if slices.Contains(titles, c.title) {
				t.Errorf("%s has two columns %s", kind, c.title)
			}
			if i < len(narrow) && narrow[i].title != c.title {
				t.Errorf("%s: column %d is %s, and %s if wide", kind, i, narrow[i].title, c.title)
			}
			titles = append(titles, c.title)
			_ = c.value(obj) // must not panic
		}
	}
}
