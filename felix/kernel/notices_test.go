// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"testing"
	"time"

	"korat/felix/kernel"
)

// wait hands every Notice to take until one of them is what is waited for.
func wait(t testing.TB, h *kernel.Handle, until func(kernel.Notice) bool, take func(kernel.Notice)) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case <-h.Wake():
			n := h.Drain()
			if n.Lost {
				t.Fatalf("notices were lost: %v", n.Err)
			}
			take(n)
			if until(n) {
				return
			}
		case <-timeout:
			t.Fatal("no such notice came")
		}
	}
}
