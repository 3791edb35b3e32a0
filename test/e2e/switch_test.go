// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/test/lab"
)

// TestFamilyIsSwitchedOffAndOn restarts a node without a family, and with it again. Its pods keep their addresses and
// reach each other all the time; other nodes reach them by the family that is left, and by both in the end. The
// node's block stays for the pods' sake, and the node says that nobody hears of it.
func TestFamilyIsSwitchedOffAndOn(t *testing.T) {
	w := clusterOf(t, lab.Dual, 2)
	a, b := w.host("a"), w.host("b")
	a1, b1, b2 := w.pod(a, "a1"), w.pod(b, "b1"), w.pod(b, "b2")
	w.matrix(w.places())
	agent := w.Agents[1]
	for _, tc := range []struct{ flag, off string }{{"--ip6=none", "-6"}, {"--ip=none", "-4"}} {
		w.stop(agent)
		agent = w.start(b, tc.flag)
		w.ready(agent)
		for i, addr := range b1.Addresses() {
			if version(addr) == tc.off {
				w.withdrawn(b, a, addr)
			} else if err := reach(w.limit(), a1, addr); err != nil {
				t.Errorf("%s: %v", tc.flag, err)
			}
			if err := reach(w.limit(), b2, b1.Addresses()[i]); err != nil {
				t.Errorf("%s: %v", tc.flag, err)
			}
		}
		m := w.monitor(b)
		w.stop(agent)
		agent = w.start(b)
		w.ready(agent)
		w.meshed(a, b)
		w.matrix(w.places())
		for _, change := range w.changes(m) {
			if strings.HasPrefix(change, "Deleted ") && strings.Contains(change, "cali") {
				t.Errorf("%s, and back: %s", tc.flag, change)
			}
		}
	}
}

// withdrawn waits until the node says that nobody hears of the block of its pod's address, and the other node has no
// route to it.
func (w *world) withdrawn(node, other *lab.Host, addr netip.Addr) {
	w.Helper()
	family := version(addr)
	lost := fmt.Sprintf("block %s: this node has no IPv%s address that would be its next hop", block(addr), family[1:])
	w.until("the node says so", func(ctx context.Context) error {
		s, err := w.status(ctx, node)
		if err == nil && !slices.ContainsFunc(s.Problems, func(p string) bool { return strings.HasPrefix(p, lost) }) {
			err = fmt.Errorf("problems %q", s.Problems)
		}
		return err
	})
	w.until("the other node has no route", func(ctx context.Context) error {
		out, err := other.Exec(ctx, "ip", family, "route", "show", block(addr).String())
		if err == nil && out != "" {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}
