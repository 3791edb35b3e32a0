// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"korat/felix"
)

// TestLateBIRD holds a BIRD back while a node's speaker restarts, until all others are through with it.
// It still keeps the node's routes, and so does everybody else.
func TestLateBIRD(t *testing.T) {
	w := mixed(t)
	h, late, prompt := w.nodes()[0], w.birds[0], w.birds[1] // the late one connects to the nodes
	watches := w.watches(w.Hosts())
	if err := late.process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.killSpeaker(h)
	for _, other := range w.nodes()[1:] {
		w.session(other, h.Name, "back", lost(1))
	}
	w.session(h, prompt.Name, "back", established)
	prompt.caughtUp(h)
	if err := late.process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.session(h, late.Name, "back", established)
	late.caughtUp(h)
	late.learned(h)
	w.undisturbed(watches)
}

// TestBIRDWithoutGracefulRestart has BIRD come back with fewer routes and without graceful restart, so
// without End-of-RIB. What it no longer tells goes.
func TestBIRDWithoutGracefulRestart(t *testing.T) {
	w := cluster(t, 2)
	w.addBird(lower())
	b := w.birds[0]
	w.meshed()
	for _, h := range w.nodes() {
		b.learned(h)
	}
	old := b.block
	b.block = netip.MustParsePrefix("172.17.202.0/24")
	if err := b.process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, h := range w.nodes() {
		w.session(h, b.Name, "down", func(s felix.SessionStatus) bool { return !established(s) && s.Flaps == 1 })
		w.shows(h, "ip route show "+old.String(), fmt.Sprintf("%s via %s dev eth0 proto 75 onlink", old, b.Address()))
	}
	b.edit(`s/graceful restart on;/graceful restart off;/`, fmt.Sprintf(`s!%s!%s!`, old, b.block))
	b.start()
	for _, h := range w.nodes() {
		b.learned(h)
		w.shows(h, "ip route show "+old.String(), "")
		w.session(h, b.Name, "back", established)
	}
}

// TestHijackOfBlock has BIRD announce a node's block with a better LOCAL_PREF than usual. The node goes
// on advertising it, and the others go on using the way to it.
func TestHijackOfBlock(t *testing.T) {
	w := cluster(t, 2)
	w.addBird(higher())
	b := w.birds[0]
	victim, other := w.nodes()[0], w.nodes()[1]
	target := block(w.pod(victim, "a1").Address())
	w.pod(other, "b1")
	w.meshed()
	way := fmt.Sprintf("%s via %s dev eth0 proto 75 onlink", target, victim.Address())
	w.shows(other, "ip route show "+target.String(), way)
	b.edit(
		`s/export where source = RTS_STATIC;/export filter { if source != RTS_STATIC then reject; bgp_local_pref = 200; accept; };/`,
		fmt.Sprintf(`s!protocol static mine { ipv4;!& route %s unreachable;!`, target),
	)
	b.control("configure")
	told := func(s felix.SessionStatus) bool { return established(s) && s.Received == 2 }
	w.session(victim, b.Name, "told of the block", told)
	w.session(other, b.Name, "told of the block", told)
	w.session(victim, other.Name, "advertising", func(s felix.SessionStatus) bool { return s.Advertised == 1 })
	w.shows(other, "ip route show "+target.String(), way)
	w.reaches(other.Pods()[0], victim.Pods()[0].Address())
	b.w.until("BIRD is still told by the owner", func(ctx context.Context) error {
		out, err := b.ctl(ctx, "show route for "+target.String()+" protocol "+victim.Name)
		if err == nil && !strings.Contains(out, victim.Address().String()) {
			err = fmt.Errorf("have %q", out)
		}
		return err
	})
}

// edit changes BIRD's configuration by sed's commands.
func (b *bird) edit(commands ...string) {
	b.w.Helper()
	argv := []string{"sed", "-i"}
	for _, c := range commands {
		argv = append(argv, "-e", c)
	}
	if _, err := b.Exec(b.w.limit(), append(argv, birdConfig)...); err != nil {
		b.w.Fatal(err)
	}
}
