// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"strings"
	"testing"

	"korat/felix"
)

// TestBIRDInTheMesh has BIRD on a host whose address is below ours and on one whose address is above
// ours: each decides otherwise which end connects.
func TestBIRDInTheMesh(t *testing.T) {
	w := cluster(t, 3)
	d, e := w.addBird(lower()), w.addBird(higher())
	for _, h := range w.nodes() {
		w.pod(h, h.Name+"1")
	}
	w.meshed()
	for _, b := range w.birds {
		for _, h := range w.nodes() {
			p := h.Pods()[0]
			b.told(p)
			b.learned(h)
			w.reaches(p, b.own())
			w.run(b, "ping -n -c 1 -W 2 -I "+b.own().String()+" "+p.Address().String())
		}
	}

	// What BIRD withdraws leaves our kernels; what it announces again comes back.
	d.control("disable mine")
	for _, h := range w.nodes() {
		w.shows(h, "ip route show "+d.block.String(), "")
		e.learned(h)
	}
	d.control("enable mine")
	for _, h := range w.nodes() {
		d.learned(h)
	}

	// A session that is down says why.
	for _, b := range w.birds {
		if err := b.process.Stop(w.limit()); err != nil {
			t.Errorf("BIRD on %s: %v", b.Name, err)
		}
		for _, h := range w.nodes() {
			s := w.session(h, b.Name, "down with a reason", func(s felix.SessionStatus) bool {
				return !established(s) && s.Reason != ""
			})
			t.Logf("%s: %s", h.Name, s.Reason)
			if out := w.run(h, "koratctl node status"); !strings.Contains(out, s.Reason) {
				t.Errorf("koratctl node status on %s does not say %q:\n%s", h.Name, s.Reason, out)
			}
		}
	}
}
