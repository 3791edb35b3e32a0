// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAnswers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	err := answers(ctx, 20*time.Millisecond, func() {
		if asked++; asked == 10 {
			cancel()
		}
	})
	if asked < 10 || ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		t.Errorf("a server that answers was asked %d times, then %v", asked, err)
	}

	release := make(chan struct{})
	defer close(release)
	err = answers(t.Context(), time.Millisecond, func() { <-release })
	if err == nil || !strings.Contains(err.Error(), "has not answered") {
		t.Errorf("a server that does not answer gives %v", err)
	}
}

func TestWriteStacks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stacks")
	if err := writeStacks(path); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), "TestWriteStacks") {
		t.Errorf("stacks %q, %v", text, err)
	}
}
