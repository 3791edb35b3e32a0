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
