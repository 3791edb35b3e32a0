// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"korat/felix"
	"korat/test/lab"
)

// bird6 is what a host that runs BIRD has of IPv6.
type bird6 struct {
	*bird
	address netip.Prefix
	block   netip.Prefix
}

// ipv6Template adds IPv6 to birdTemplate, with sessions of its own, as Calico's nodes have them. It is
// completed with the host's address, the block, and what all sessions say.
const ipv6Template = `protocol direct direct6 { ipv6; interface "eth*"; }
protocol static mine6 { ipv6; route %[2]s unreachable; }
protocol kernel { ipv6 { import none; export where source != RTS_DEVICE; }; persist; graceful restart; }
template bgp node6 {
	debug { states, events };
	local %[1]s as 64512;
	%[3]s
	graceful restart on;
	graceful restart time 120;
	connect delay time 1;
	connect retry time 1;
	error wait time 1, 2;
	ipv6 { import all; export where source = RTS_STATIC; add paths on; };
}
`

// addBird6 adds a host that runs BIRD and has the last part of its IPv4 address in its IPv6 one as well, and
// in its block's.
func (w *world) addBird6(n birdNode) bird6 {
	w.Helper()
	last := n.address.Addr().As4()[3]
	b := bird6{
		address: netip.MustParsePrefix(fmt.Sprintf("fd00:192:168::%d/64", last)),
		block:   netip.MustParsePrefix(fmt.Sprintf("fd00:172:17:%d::/122", last)),
	}
	var more strings.Builder
	fmt.Fprintf(&more, ipv6Template, b.address.Addr(), b.block, n.session)
	for _, other := range w.nodes() {
		fmt.Fprintf(&more, "protocol bgp %s from node6 { neighbor %s as 64512; }\n", six(other), lab.IPv6Of(other))
	}
	n.ipv6, n.more = b.address, more.String()
	b.bird = w.addBird(n)
	w.run(b, "ip address add "+b.own().String()+"/128 dev lo nodad")
	return b
}

// six names BIRD's session with a node's IPv6 address.
func six(h *lab.Host) string { return h.Name + "6" }

// own is the address of the block that is the host's own.
func (b bird6) own() netip.Addr { return b.block.Addr().Next() }

// exchanged waits until BIRD and a node have each other's IPv6 blocks, in their kernels too.
func (b bird6) exchanged(h *lab.Host) {
	b.w.Helper()
	prefix := netip.PrefixFrom(lab.IPv6Of(h.Pods()[0]), 122).Masked()
	hop := lab.IPv6Of(h)
	b.w.until(fmt.Sprintf("BIRD on %s has %s", b.Name, prefix), func(ctx context.Context) error {
		out, err := b.ctl(ctx, "show route for "+prefix.String()+" protocol "+six(h))
		if err == nil && !strings.Contains(out, "via "+hop.String()+" on eth0") {
			err = fmt.Errorf("have %q", out)
		}
		return err
	})
	b.w.shows(b, "ip -6 route show "+prefix.String(), fmt.Sprintf("%s via %s dev eth0 proto bird metric 32 pref medium", prefix, hop))
	b.w.shows(h, "ip -6 route show "+b.block.String(), b.way())
}

// way is what a node's kernel has of BIRD's block.
func (b bird6) way() string {
	return fmt.Sprintf("%s via %s dev eth0 proto 75 metric 1024 onlink pref medium", b.block, b.address.Addr())
}

// sessionAt waits until a host's session with an address is as wanted.
func (w *world) sessionAt(h *lab.Host, peer netip.Addr, what string, want func(felix.SessionStatus) bool) {
	w.Helper()
	w.until(fmt.Sprintf("the session of %s with %s is %s", h.Name, peer, what), func(ctx context.Context) error {
		all, err := w.sessions(ctx, h)
		if err != nil {
			return err
		}
		if have := all[peer.String()]; !want(have) {
			return fmt.Errorf("have %+v", have)
		}
		return nil
	})
}

// TestIPv6WithBIRD has BIRD as two nodes of a dual-stack mesh. Routes go both ways, and what happens to one
// family's session is no matter to the other.
func TestIPv6WithBIRD(t *testing.T) {
	w, d, e := dual(t)
	for _, h := range w.nodes() {
		p := h.Pods()[0]
		for _, b := range []bird6{d, e} {
			w.reaches(p, b.own())
			w.run(b, "ping -n -c 1 -W 2 -I "+b.own().String()+" "+lab.IPv6Of(p).String())
			w.run(b, "ping -n -c 1 -W 2 -I "+b.bird.own().String()+" "+p.Address().String())
		}
	}

	// What BIRD withdraws leaves our kernels; the other family's block stays.
	d.control("disable mine6")
	for _, h := range w.nodes() {
		w.shows(h, "ip -6 route show "+d.block.String(), "")
		d.learned(h)
	}
	d.control("enable mine6")
	for _, h := range w.nodes() {
		d.exchanged(h)
	}
	for _, h := range w.nodes() {
		d.control("disable " + six(h))
		w.sessionAt(h, d.address.Addr(), "down with a reason", func(s felix.SessionStatus) bool {
			return !established(s) && s.Reason != ""
		})
		w.sessionAt(h, d.Address(), "untouched", lost(0))
		w.shows(h, "ip -6 route show "+d.block.String(), "")
		d.learned(h)
	}
}

// TestIPv6OnlyWithBIRD has BIRD in a mesh of nodes without IPv4, whose router IDs come from their names.
func TestIPv6OnlyWithBIRD(t *testing.T) {
	w := clusterOf(t, 2, lab.IPv6)
	d := w.addBird6(lower())
	for _, h := range w.nodes() {
		w.pod(h, h.Name+"1")
	}
	for _, h := range w.nodes() {
		d.exchanged(h)
		w.reaches(h.Pods()[0], d.own())
		out := d.control("show protocols all " + six(h))
		if strings.Contains(out, "Neighbor ID:      192.168.") || !strings.Contains(out, "Neighbor ID:") {
			t.Errorf("BIRD on the session with %s: %s", h.Name, out)
		}
	}
	h, other := w.nodes()[0], w.nodes()[1]
	w.sessionAt(h, other.Address(), "established", established)
	w.sessionAt(other, h.Address(), "established", established)
	w.reaches(h.Pods()[0], other.Pods()[0].Address())
	watches := w.watches(w.Hosts())
	w.killSpeaker(h)
	w.sessionAt(other, h.Address(), "back", lost(1))
	w.sessionAt(h, d.address.Addr(), "back", established)
	d.caughtUpWith(six(h))
	d.exchanged(h)
	w.undisturbed(watches)
}

// TestRestartOfDualSpeaker kills each node's speaker in turn. The kernels of all others keep its routes of
// both families.
func TestRestartOfDualSpeaker(t *testing.T) {
	w, d, e := dual(t)
	for _, h := range w.nodes() {
		watches := w.watches(w.Hosts())
		w.killSpeaker(h)
		for _, other := range w.nodes() {
			if other != h {
				for _, addr := range h.Addresses() {
					w.sessionAt(other, addr, "back", lost(1))
				}
			}
		}
		for _, b := range []bird6{d, e} {
			for _, addr := range []netip.Addr{b.Address(), b.address.Addr()} {
				w.sessionAt(h, addr, "back", established)
			}
			b.caughtUp(h)
			b.caughtUpWith(six(h))
			b.exchanged(h)
		}
		w.undisturbed(watches)
	}
}

// TestRestartOfDualBIRD kills BIRD and starts it again: our kernels keep its routes of both families. (Its
// own kernel's are not watched: BIRD writes IPv6 routes anew after a restart.)
func TestRestartOfDualBIRD(t *testing.T) {
	w, d, _ := dual(t)
	watches := w.watches(w.nodes())
	if err := d.process.Kill(); err != nil {
		t.Fatal(err)
	}
	down := func(s felix.SessionStatus) bool { return !established(s) && s.Reason != "" }
	for _, h := range w.nodes() {
		w.sessionAt(h, d.address.Addr(), "down", down)
		w.sessionAt(h, d.Address(), "down", down)
		w.shows(h, "ip -6 route show "+d.block.String(), d.way())
		d.learned(h)
	}
	d.start()
	for _, h := range w.nodes() {
		w.sessionAt(h, d.address.Addr(), "back", lost(1))
		w.sessionAt(h, d.Address(), "back", lost(1))
		d.exchanged(h)
		d.told(h.Pods()[0])
	}
	d.recovered()
	w.undisturbed(watches)
}

// dual is a mesh of two nodes and two BIRDs that have told each other everything of both families.
func dual(t *testing.T) (w *world, d, e bird6) {
	t.Helper()
	w = clusterOf(t, 2, lab.Dual)
	d, e = w.addBird6(lower()), w.addBird6(higher())
	for _, h := range w.nodes() {
		w.pod(h, h.Name+"1")
	}
	for _, h := range w.nodes() {
		for _, other := range w.Hosts() {
			if other != h {
				for _, addr := range other.Addresses() {
					w.sessionAt(h, addr, "established", established)
				}
			}
		}
		for _, b := range []bird6{d, e} {
			b.exchanged(h)
			b.told(h.Pods()[0])
			b.learned(h)
		}
	}
	return w, d, e
}
