// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"fmt"
	"strings"

	"korat/test/lab"
)

// watch notes every change of a host's routes.
type watch struct {
	*lab.Process
	host *lab.Host
}

// marker is a route of nobody's that shows how far the watch has read: the kernel's notices come in the
// order of the changes.
const marker = "blackhole 203.0.113.113"

// watch returns when it listens.
func (w *world) watch(h *lab.Host) *watch {
	w.Helper()
	w.started++
	p, err := h.Start(fmt.Sprintf("watch-%d", w.started), "ip", "-o", "monitor", "route")
	if err != nil {
		w.Fatal(err)
	}
	v := &watch{p, h}
	w.mark(v)
	return v
}

// mark makes notices until the watch has noted one.
func (w *world) mark(v *watch) {
	w.Helper()
	have := func() (int, error) {
		log, err := v.Log()
		return strings.Count(log, "Deleted "+marker), err
	}
	before, err := have()
	if err != nil {
		w.Fatal(err)
	}
	w.until("the watch has noted everything", func(context.Context) error {
		w.run(v.host, "ip route add "+marker+" proto static")
		w.run(v.host, "ip route del "+marker)
		now, err := have()
		if err == nil && now == before {
			err = fmt.Errorf("%d markers", now)
		}
		return err
	})
}

// changes ends the watch and gives the notices about routes that are not local ones.
func (w *world) changes(v *watch) []string {
	w.Helper()
	w.mark(v)
	log, err := v.Log()
	if err != nil {
		w.Fatal(err)
	}
	if err := v.Kill(); err != nil {
		w.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, marker) {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

// undisturbed ends the watches: no route may have changed.
func (w *world) undisturbed(watches []*watch) {
	w.Helper()
	for _, v := range watches {
		if all := w.changes(v); len(all) > 0 {
			w.Errorf("%s: routes were changed:\n%s", v.host.Name, strings.Join(all, "\n"))
		}
	}
}
