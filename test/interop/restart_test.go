// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"testing"

	"korat/felix"
	"korat/test/lab"
)

// TestRestartOfBIRD kills BIRD and starts it again. Our kernels keep its routes (RFC 4724, 4.2), its
// kernel keeps ours, and no other session notices.
func TestRestartOfBIRD(t *testing.T) {
	w := mixed(t)
	for _, b := range w.birds {
		watches := w.watches(w.Hosts())
		if err := b.process.Kill(); err != nil {
			t.Fatal(err)
		}
		for _, h := range w.nodes() {
			s := w.session(h, b.Name, "down", func(s felix.SessionStatus) bool { return !established(s) && s.Reason != "" })
			t.Logf("%s with %s: %s", h.Name, b.Name, s.Reason)
			b.learned(h)
		}
		b.start()
		for _, h := range w.nodes() {
			w.session(h, b.Name, "back", lost(1))
			b.told(h.Pods()[0])
		}
		b.recovered()
		w.undisturbed(watches)
	}
	for _, h := range w.nodes() {
		for _, other := range w.nodes() {
			if other != h {
				w.session(h, other.Name, "untouched", lost(0))
			}
		}
	}
}

// TestRestartOfSpeaker kills each node's speaker in turn. The kernels of all others keep its routes, BIRD's
// too, whichever session comes back first.
func TestRestartOfSpeaker(t *testing.T) {
	w := mixed(t)
	for _, h := range w.nodes() {
		watches := w.watches(w.Hosts())
		w.killSpeaker(h)
		for _, other := range w.nodes() {
			if other != h {
				w.session(other, h.Name, "back", lost(1))
			}
		}
		for _, b := range w.birds {
			w.session(h, b.Name, "back", established)
			b.caughtUp(h)
		}
		w.undisturbed(watches)
	}
}

// mixed is a mesh of three nodes and two BIRDs that have told each other everything.
func mixed(t *testing.T) *world {
	t.Helper()
	w := cluster(t, 3)
	w.addBird(lower())
	w.addBird(higher())
	for _, h := range w.nodes() {
		w.pod(h, h.Name+"1")
	}
	w.meshed()
	for _, h := range w.nodes() {
		for _, b := range w.birds {
			b.told(h.Pods()[0])
			b.learned(h)
		}
		for _, other := range w.nodes() {
			if other != h {
				w.reaches(h.Pods()[0], other.Pods()[0].Address())
			}
		}
	}
	return w
}

func (w *world) watches(hosts []*lab.Host) []*watch {
	w.Helper()
	var all []*watch
	for _, h := range hosts {
		all = append(all, w.watch(h))
	}
	return all
}
