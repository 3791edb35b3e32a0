// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"korat/test/lab"
)

// speakerTarget is the speaker's socket as gobgp wants it named.
const speakerTarget = "unix:///run/korat/speaker.sock"

// TestStockGobgp has Debian's gobgp, an older GoBGP than the speaker's, read the speaker.
func TestStockGobgp(t *testing.T) {
	w := cluster(t, 3)
	a, b, c := w.host("a"), w.host("b"), w.host("c")
	blocks := map[*lab.Host]string{}
	for _, h := range w.nodes() {
		blocks[h] = block(w.pod(h, h.Name+"1").Address()).String()
	}
	w.meshed()

	w.gobgp(a, "neighbor", func(out string) error {
		for _, h := range []*lab.Host{b, c} {
			if !hasLine(out, h.Address().String(), "64512", "Establ") {
				return fmt.Errorf("no established neighbour %s", h.Address())
			}
		}
		return nil
	})
	w.gobgp(a, "neighbor "+b.Address().String(), func(out string) error {
		if !hasLine(out, "BGP", "state", "=", "ESTABLISHED,") {
			return fmt.Errorf("not established")
		}
		return nil
	})
	w.gobgp(a, "global rib", func(out string) error {
		for h, hop := range map[*lab.Host]string{a: "0.0.0.0", b: b.Address().String(), c: c.Address().String()} {
			if !hasLine(out, "*>", blocks[h], hop) {
				return fmt.Errorf("no best path to %s via %s", blocks[h], hop)
			}
		}
		return nil
	})
	w.gobgp(a, "neighbor "+b.Address().String()+" adj-in", func(out string) error {
		return onlyPrefix(out, blocks[b], b.Address())
	})
	w.gobgp(a, "neighbor "+b.Address().String()+" adj-out", func(out string) error {
		return onlyPrefix(out, blocks[a], a.Address())
	})
	w.gobgp(a, "-j neighbor", func(out string) error {
		var peers []struct {
			Conf struct {
				NeighborAddress netip.Addr `json:"neighbor_address"`
			}
		}
		if err := json.Unmarshal([]byte(out), &peers); err != nil {
			return err
		}
		if len(peers) != 2 || peers[0].Conf.NeighborAddress != b.Address() || peers[1].Conf.NeighborAddress != c.Address() {
			return fmt.Errorf("neighbours %v", peers)
		}
		return nil
	})

	// What a person adds by hand the agent takes away: the plan is what counts.
	w.run(a, "gobgp --target "+speakerTarget+" neighbor add 192.168.100.77 as 64513")
	w.gobgp(a, "neighbor", func(out string) error {
		if strings.Contains(out, "192.168.100.77") {
			return fmt.Errorf("a foreign neighbour")
		}
		return nil
	})
}

// gobgp runs the stock CLI on a host until it prints what is wanted.
func (w *world) gobgp(h *lab.Host, command string, check func(out string) error) {
	w.Helper()
	argv := append([]string{"gobgp", "--target", speakerTarget}, strings.Fields(command)...)
	w.until("gobgp "+command+" on "+h.Name+" is as wanted", func(ctx context.Context) error {
		out, err := h.Exec(ctx, argv...)
		if err == nil {
			err = check(out)
		}
		if err != nil {
			err = fmt.Errorf("%w in\n%s", err, out)
		}
		return err
	})
}

// hasLine says whether a line has all the words, whatever stands between them.
func hasLine(out string, words ...string) bool {
	for line := range strings.Lines(out) {
		have := strings.Fields(line)
		if !slices.ContainsFunc(words, func(word string) bool { return !slices.Contains(have, word) }) {
			return true
		}
	}
	return false
}

// onlyPrefix wants a table with a header and one path.
func onlyPrefix(out, prefix string, hop netip.Addr) error {
	if strings.Count(strings.TrimSpace(out), "\n") != 1 || !hasLine(out, prefix, hop.String()) {
		return fmt.Errorf("want one path, to %s via %s", prefix, hop)
	}
	return nil
}
