// SPDX-License-Identifier: Apache-2.0

package memory_test

import (
	"testing"

	"korat/api/store/memory"
	"korat/api/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Backend {
		st := memory.New()
		return storetest.Backend{Store: st, Compact: func(*testing.T) { st.Compact() }}
	})
}

// TestFaults runs the suite through the wrapper: while nothing fails, it is a Store like any other.
func TestFaults(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Backend {
		st := memory.New()
		return storetest.Backend{Store: storetest.NewFaults(st), Compact: func(*testing.T) { st.Compact() }}
	})
}
