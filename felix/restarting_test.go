// SPDX-License-Identifier: Apache-2.0

package felix

import "testing"

// Whatever route of ours the kernel holds at the start, neighbours are asked to keep theirs to us; on a
// host that has just booted they are not.
func TestRestartIsAnnounced(t *testing.T) {
	w := newWorld(t)
	n := w.start()
	n.attach("web")
	n.untilReady()
	if _, restarting := w.speaker.wanted(); restarting {
		t.Error("the kernel held nothing, yet the speaker was told that this is a restart")
	}
	n.stop()
	n = w.start()
	n.untilReady()
	if _, restarting := w.speaker.wanted(); !restarting {
		t.Error("the kernel held routes to a pod and its block, yet the speaker was not told that this is a restart")
	}
}
