// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// What is queued while the server runs is carried out when it comes, not at the next look; also after
// somebody has removed the directory.
func TestQueuedIsHeardOf(t *testing.T) {
	path := socketWithQueue(t)
	h := newFake(answer(false))
	start(t, path, h, func(s *Server) { s.Limits.Sweep = time.Hour })
	for range 3 {
		queueUp(t, path, idA)
		if have := h.next(t); have != "DEL a/eth0" {
			t.Errorf("have %q", have)
		}
	}
	dir := filepath.Join(filepath.Dir(path), QueueDirectory)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); ; runtime.Gosched() {
		if _, err := os.Stat(dir); err == nil {
			break
		} else if time.Now().After(limit) {
			t.Fatal("the directory is not made anew")
		}
	}
	queueUp(t, path, idA)
	if have := h.next(t); have != "DEL a/eth0" {
		t.Errorf("after its directory was made anew: have %q", have)
	}
}
