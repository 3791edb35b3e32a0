// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		called := false
		overdue(ctx, endPatience, func() { called = true })
		wait := func(d time.Duration, want bool) {
			t.Helper()
			time.Sleep(d) // of the test's own clock
			synctest.Wait()
			if called != want {
				t.Errorf("called: %t, want %t", called, want)
			}
		}
		wait(time.Hour, false)
		cancel()
		wait(endPatience-1, false)
		wait(1, true)
	})
}

func TestGiveUp(t *testing.T) {
	var said strings.Builder
	giveUp(&said)
	for _, want := range []string{"korat-node: not ended within 15s of the signal", "cmd/korat-node.TestGiveUp"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("have\n%swant %q in it", &said, want)
		}
	}
	nobody, w := io.Pipe()
	defer nobody.Close()
	giveUp(w) // comes back
}
